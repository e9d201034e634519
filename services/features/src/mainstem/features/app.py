"""The feature service, put together."""

import asyncio
from collections.abc import Sequence

from mainstem.events.catalogue import Record
from mainstem.events.envelope import Event
from mainstem.features.engine import Fold
from mainstem.features.handlers import Computing
from mainstem.features.settings import Settings
from mainstem.features.store import PostgresStore, set_project
from mainstem.project.definition import ProjectDefinition
from mainstem.runtime import Resources, consume, open_resources, restart_when, run, serve, steadily
from mainstem.storage import Transaction

_TICK_S = 0.25
_CHECKPOINT_EVERY_TICKS = 8


async def main() -> None:
    """Run the service until it is stopped."""
    async with open_resources("features", "mainstem.features", Settings()) as resources:
        store = PostgresStore(resources.database)
        changed = asyncio.Event()

        async def on_project(tx: Transaction, event: Event) -> None:
            await set_project(tx, event)
            tx.after_commit.append(changed.set)

        await serve(
            resources,
            tasks=[
                lambda: consume(resources, ["evt.registry.project"], on_project),
                lambda: restart_when(changed, lambda: compute_all(resources, store)),
            ],
        )


async def compute_all(resources: Resources, store: PostgresStore) -> None:
    """Compute every feature set of every project in force, each from where the store says."""
    async with asyncio.TaskGroup() as group:
        for definition in await steadily(store.definitions):
            for name in definition.feature_sets:
                group.create_task(compute(resources, store, definition, name))


async def compute(resources: Resources, store: PostgresStore, definition: ProjectDefinition, name: str) -> None:
    """Compute one feature set for ever."""
    compiled = definition.feature_sets[name].compiled
    fold = Fold(compiled, definition.sources)
    state = await steadily(lambda: store.state(compiled.id))
    if state is not None:
        fold.restore(state)
    partitions = definition.sources[compiled.spine].partitions
    computing = Computing(fold, partitions, resources.tracer)
    publisher = resources.bus.publisher

    async def positions() -> dict[tuple[str, int], int]:
        return {place: position.next_offset for place, position in fold.positions.items()}

    subscription = resources.bus.subscribe(f"features-{name}", fold.topics, positions)

    async def tick() -> None:
        ticks = 0
        while True:
            await asyncio.sleep(_TICK_S)
            await computing.on_records([], lag=subscription.lag(), publisher=publisher)
            ticks += 1
            if ticks % _CHECKPOINT_EVERY_TICKS == 0:
                await computing.checkpoint(store)

    async def take(records: Sequence[Record]) -> None:
        await computing.on_records(records, lag=subscription.lag(), publisher=publisher)

    with resources.watch(name, subscription):
        async with asyncio.TaskGroup() as group:
            group.create_task(subscription.run(take))
            group.create_task(tick())


if __name__ == "__main__":
    run(main)
