"""Ingestion, put together."""

import asyncio

from mainstem.bus.reader import read_ends
from mainstem.events.envelope import Event
from mainstem.ingestion.api import Api
from mainstem.ingestion.engine import Judge
from mainstem.ingestion.handlers import Intake, Succession, checkpoint_steadily
from mainstem.ingestion.settings import Settings
from mainstem.ingestion.store import PostgresStore, set_project
from mainstem.runtime import Resources, consume, load_fence, open_resources, restart_when, run, serve, steadily
from mainstem.storage import Transaction, load_checkpoint


async def main() -> None:
    """Run the service until it is stopped."""
    async with open_resources("ingestion", "mainstem.ingestion", Settings()) as resources:
        store = PostgresStore(resources.database)
        succession = Succession()

        async def on_project(tx: Transaction, event: Event) -> None:
            await set_project(tx, event)  # what is no definition is rejected here, and nothing has ended
            await succession.end(store)
            tx.after_commit.append(succession.hand_over)

        await serve(
            resources,
            tasks=[
                lambda: consume(resources, ["evt.registry.project"], on_project),
                lambda: restart_when(succession.changed, lambda: take_records(resources, store, succession)),
            ],
            routes=Api(store, resources.principals, resources.bus.publisher.publish).routes(),
        )


async def take_records(resources: Resources, store: PostgresStore, succession: Succession) -> None:
    """Take the records of every source of every project in force, from where the store says."""
    definitions = await steadily(store.definitions)
    judges = {
        f"src.{name}": Judge(contract, resources.tracer)
        for definition in definitions
        for name, contract in definition.sources.items()
    }
    if not judges:
        succession.begin(None)
        return
    checkpoint = await steadily(lambda: load_checkpoint(resources.database))
    fence = await load_fence(resources, list(judges))
    ends = await steadily(lambda: read_ends(resources.settings.kafka, list(judges)))
    intake = Intake(judges, fence, dict(checkpoint.states), ends)
    succession.begin(intake)

    async def positions() -> dict[tuple[str, int], int]:
        return fence.offsets()

    subscription = resources.bus.subscribe("ingestion", sorted(judges), positions)
    with resources.watch("records", subscription):
        async with asyncio.TaskGroup() as group:
            group.create_task(
                subscription.run(lambda records: intake.on_records(records, publisher=resources.bus.publisher))
            )
            group.create_task(checkpoint_steadily(lambda: intake.checkpoint(store)))


if __name__ == "__main__":
    run(main)
