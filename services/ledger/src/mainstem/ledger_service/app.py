"""The ledger, put together."""

import asyncio
from collections.abc import Mapping, Sequence

from mainstem.bus.admin import topic_names
from mainstem.events.catalogue import Record
from mainstem.ledger_service.api import Api
from mainstem.ledger_service.domain import Partition, belongs
from mainstem.ledger_service.handlers import checkpoint_steadily, on_records
from mainstem.ledger_service.settings import Settings
from mainstem.ledger_service.store import PostgresStore
from mainstem.runtime import Resources, open_resources, restart_when, run, serve, steadily


async def main() -> None:
    """Run the service until it is stopped."""
    async with open_resources("ledger", "mainstem.ledger_service", Settings()) as resources:
        store = PostgresStore(resources.database)
        changed = asyncio.Event()
        await serve(
            resources,
            tasks=[
                resources.relay,
                lambda: restart_when(changed, lambda: archive(resources, store, changed)),
                lambda: checkpoint_steadily(lambda: steadily(store.publish_checkpoint)),
            ],
            routes=Api(store).routes(),
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
