"""Training, put together."""

import asyncio

from mainstem.events.envelope import Event
from mainstem.runtime import consume, open_resources, run, serve, steadily
from mainstem.storage import Transaction
from mainstem.training.api import Api
from mainstem.training.handlers import Performer, requested_by_alert
from mainstem.training.history.reading import Reading
from mainstem.training.settings import Settings
from mainstem.training.store import PostgresStore, apply

_TOPICS = ("evt.registry.project", "evt.registry.model", "evt.monitoring.alert")
_LOOK_EVERY_S = 0.2


async def main() -> None:
    """Run the service until it is stopped."""
    async with open_resources("training", "mainstem.training", Settings()) as resources:
        store = PostgresStore(resources.database)
        performer = Performer(store, resources.artifacts, Reading(resources.settings.kafka))
        await serve(
            resources,
            tasks=[
                lambda: consume(resources, _TOPICS, handle),
                resources.relay,
                lambda: perform_all(performer),
            ],
            routes=Api(store, resources.principals, resources.artifacts, performer).routes(),
        )


async def handle(tx: Transaction, event: Event) -> None:
    """Fold what others publish, and answer an alert that asks for a run."""
    await apply(tx, event)
    request = requested_by_alert(event)
    if request is not None:
        await tx.append([request])
        await apply(tx, request)


async def perform_all(performer: Performer) -> None:
    """Perform what is asked for, one step after another, for ever."""
    while True:
        if not await steadily(performer.advance):
            await asyncio.sleep(_LOOK_EVERY_S)


if __name__ == "__main__":
    run(main)
