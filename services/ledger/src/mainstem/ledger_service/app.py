"""The ledger, put together."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing

from mainstem.bus.admin import topic_names
from mainstem.events.record import Record
from mainstem.ledger.keys import Secret, read_witness_key
from mainstem.ledger_service.api import Api
from mainstem.ledger_service.cosigning import Witness
from mainstem.ledger_service.domain import Partition, belongs
from mainstem.ledger_service.folder import Folder
from mainstem.ledger_service.handlers import on_records, publish_steadily
from mainstem.ledger_service.publishing import Publisher
from mainstem.ledger_service.settings import Settings
from mainstem.ledger_service.store import ROLE, PostgresStore
from mainstem.runtime import Resources, open_resources, restart_when, run, serve, steadily


async def main() -> None:
    """Run the service until it is stopped."""
    settings = Settings()
    secret = Secret.parse(settings.log_secret.read_text())
    witness = Witness(settings.witness_url)
    opened = open_resources("ledger", "mainstem.ledger_service", settings, role=ROLE)
    async with opened as resources, aclosing(witness):
        store = PostgresStore(resources.database, resources.artifacts)
        key = read_witness_key(settings.witness_vkey.read_text())
        folder = Folder(settings.log, secret.log_key)
        publisher = Publisher(folder, secret, key, witness.ask)
        changed = asyncio.Event()
        await serve(
            resources,
            tasks=[
                resources.relay,
                lambda: restart_when(changed, lambda: archive(resources, store, changed)),
                lambda: publish_steadily(lambda: publisher.publish(store), resources.health),
            ],
            routes=Api(store, folder).routes(),
        )


async def archive(resources: Resources, store: PostgresStore, changed: asyncio.Event) -> None:
    """Archive every topic that there is now, from where the store says; set `changed` when there are others."""
    kafka = resources.settings.kafka
    known = await _topics(kafka)

    async def look_again() -> None:
        if await _topics(kafka) != known:
            changed.set()

    async def positions() -> Mapping[Partition, int]:
        found: dict[Partition, int] = {}

        async def look() -> None:
            found.update(await store.positions())

        await steadily(look)
        return found

    async def take(records: Sequence[Record]) -> None:
        await on_records(records, store=store, on_project=lambda: steadily(look_again))

    subscription = resources.bus.subscribe("ledger", known, positions)
    await subscription.run(lambda records: steadily(lambda: take(records)))


async def _topics(kafka: str) -> list[str]:
    return [name for name in await topic_names(kafka) if belongs(name)]


if __name__ == "__main__":
    run(main)
