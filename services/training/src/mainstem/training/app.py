"""Training, put together."""

import asyncio

from mainstem.events.envelope import Event
from mainstem.project.model import ModelDefinition
from mainstem.runtime import Resources, consume, open_resources, run, serve, steadily
from mainstem.storage import Transaction
from mainstem.training.api import Api
from mainstem.training.domain import Ranges
from mainstem.training.handlers import Performer, requested_by_alert
from mainstem.training.history import Dataset, History
from mainstem.training.ports import Run
from mainstem.training.settings import Settings
from mainstem.training.steps import ReadDataset
from mainstem.training.store import PostgresStore, apply

_TOPICS = ("evt.registry.project", "evt.registry.model", "evt.monitoring.alert")
_LOOK_EVERY_S = 0.2


async def main() -> None:
    """Run the service until it is stopped."""
    async with open_resources("training", "mainstem.training", Settings()) as resources:
        store = PostgresStore(resources.database)
        performer = Performer(store, resources.artifacts, reading(resources, store))
        await serve(
            resources,
            tasks=[
                lambda: consume(resources, _TOPICS, handle),
                resources.relay,
                lambda: perform_runs(performer),
            ],
            routes=Api(store, resources.principals, performer.waiting).routes(),
        )


async def handle(tx: Transaction, event: Event) -> None:
    """Fold what others publish, and answer an alert that asks for a run."""
    await apply(tx, event)
    request = requested_by_alert(event)
    if request is not None:
        await tx.append([request])
        await apply(tx, request)


def reading(resources: Resources, store: PostgresStore) -> ReadDataset:
    """Return what reads the dataset of a run; what was read once is kept."""
    histories: dict[tuple[str, str], History] = {}

    async def read(asked: Run, model: ModelDefinition, ranges: Ranges) -> Dataset:
        definition = await store.definition(asked.project)
        compiled = definition.feature_sets[model.feature_set].compiled
        contract = definition.sources[model.label.source]
        place = (asked.model, compiled.id)
        if place not in histories:
            histories[place] = History(
                compiled.name, len(compiled.names), model.label, contract, live=not contract.replay
            )
        await histories[place].read_until(resources.settings.kafka, asked.cut_us)
        return histories[place].dataset(ranges.fit.start_us, asked.cut_us)

    return read


async def perform_runs(performer: Performer) -> None:
    """Perform what is asked for, one step after another, for ever."""
    while True:
        if not await steadily(performer.advance):
            await asyncio.sleep(_LOOK_EVERY_S)


if __name__ == "__main__":
    run(main)
