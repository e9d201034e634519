"""Monitoring, put together."""

import asyncio
from collections.abc import Sequence

from mainstem.events.envelope import Event
from mainstem.events.record import Record
from mainstem.events.registry import ProjectApplied
from mainstem.monitoring.alerts import close_replaced, redeclare, warn
from mainstem.monitoring.api import Api
from mainstem.monitoring.engine import Fold
from mainstem.monitoring.handlers import Watching
from mainstem.monitoring.settings import Settings
from mainstem.monitoring.store import PostgresBook, PostgresStore, apply
from mainstem.project.definition import ProjectDefinition
from mainstem.runtime import Resources, consume, open_resources, restart_when, run, serve, steadily
from mainstem.storage import Transaction

_TOPICS = ("evt.registry.project", "evt.registry.model", "evt.serving.deployment", "evt.feature.check")
_TICK_S = 0.25
_CHECKPOINT_EVERY_TICKS = 8


async def main() -> None:
    """Run the service until it is stopped."""
    async with open_resources("monitoring", "mainstem.monitoring", Settings()) as resources:
        store = PostgresStore(resources.database)
        changed = asyncio.Event()

        async def on_event(tx: Transaction, event: Event) -> None:
            book = PostgresBook(tx)
            await redeclare(book, event)
            await apply(tx, event)
            await close_replaced(book, event)
            await warn(book, event)
            if isinstance(event.fact, ProjectApplied):
                tx.after_commit.append(changed.set)

        await serve(
            resources,
            tasks=[
                lambda: consume(resources, _TOPICS, on_event),
                resources.relay,
                lambda: restart_when(changed, lambda: watch_all(resources, store)),
            ],
            routes=Api(store, resources.principals).routes(),
        )


async def watch_all(resources: Resources, store: PostgresStore) -> None:
    """Watch every model of every project in force, each from where the store says."""
    async with asyncio.TaskGroup() as group:
        for definition in await steadily(store.definitions):
            for model in definition.models:
                group.create_task(watch(resources, store, definition, model))


async def watch(resources: Resources, store: PostgresStore, definition: ProjectDefinition, model: str) -> None:
    """Watch one model for ever."""
    fold = Fold(definition, model)
    state = await steadily(lambda: store.state(model))
    if state is not None:
        fold.restore(state)
    watching = Watching(fold, definition.charter.name, store, resources.artifacts)

    async def positions() -> dict[tuple[str, int], int]:
        return fold.reader.offsets()

    topics = [fold.predictions_topic, fold.labels_topic]
    subscription = resources.bus.subscribe(f"monitoring-{model}", topics, positions)

    async def tick() -> None:
        ticks = 0
        while True:
            await asyncio.sleep(_TICK_S)
            await take([])
            ticks += 1
            if ticks % _CHECKPOINT_EVERY_TICKS == 0:
                await watching.checkpoint()

    async def take(records: Sequence[Record]) -> None:
        await watching.on_records(records, lag=subscription.lag())
        subscription.hold_off(fold.reader.ahead())

    with resources.watch(model, subscription):
        async with asyncio.TaskGroup() as group:
            group.create_task(subscription.run(take))
            group.create_task(tick())


if __name__ == "__main__":
    run(main)
