"""The registry, put together."""

from functools import partial

from mainstem.bus.admin import consumer_groups
from mainstem.events.envelope import Event
from mainstem.ledger.keys import read_log_key, read_witness_key
from mainstem.registry.api import Api
from mainstem.registry.evidence import Evidence
from mainstem.registry.handlers import on_run
from mainstem.registry.ports import Broker
from mainstem.registry.settings import Settings
from mainstem.registry.store import PostgresBook, PostgresStore
from mainstem.runtime import consume, open_resources, run, serve
from mainstem.storage import Transaction

_FOLLOWED = ("evt.training.run", "evt.ledger.receipt")


async def main() -> None:
    """Run the service until it is stopped."""
    settings = Settings()
    log, witness = read_log_key(settings.log_vkey.read_text()), read_witness_key(settings.witness_vkey.read_text())
    async with open_resources("registry", "mainstem.registry", settings) as resources:
        store = PostgresStore(resources.database)
        broker = Broker(resources.bus.create, partial(consumer_groups, resources.settings.kafka))

        async def on_event(tx: Transaction, event: Event) -> None:
            await on_run(PostgresBook(tx), event)

        await serve(
            resources,
            tasks=[resources.relay, lambda: consume(resources, _FOLLOWED, on_event)],
            routes=Api(store, resources.principals, broker, Evidence(store, log, witness).prove).routes(),
        )


if __name__ == "__main__":
    run(main)
