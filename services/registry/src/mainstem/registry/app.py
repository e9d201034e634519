"""The registry, put together."""

from functools import partial

from mainstem.bus.admin import consumer_groups
from mainstem.events.envelope import Event
from mainstem.registry.api import Api
from mainstem.registry.handlers import on_run
from mainstem.registry.ports import Broker
from mainstem.registry.settings import Settings
from mainstem.registry.store import PostgresBook, PostgresStore
from mainstem.runtime import consume, open_resources, run, serve
from mainstem.storage import Transaction


async def main() -> None:
    """Run the service until it is stopped."""
    async with open_resources("registry", "mainstem.registry", Settings()) as resources:
        broker = Broker(resources.bus.create, partial(consumer_groups, resources.settings.kafka))

        async def on_event(tx: Transaction, event: Event) -> None:
            await on_run(PostgresBook(tx), event)

        await serve(
            resources,
            tasks=[resources.relay, lambda: consume(resources, ["evt.training.run"], on_event)],
            routes=Api(PostgresStore(resources.database), resources.principals, broker).routes(),
        )


if __name__ == "__main__":
    run(main)
