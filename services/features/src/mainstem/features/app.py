"""The feature service, put together."""

import asyncio
from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from itertools import count

from mainstem.events.envelope import Event
from mainstem.events.record import Record
from mainstem.feature_engine import prepare
from mainstem.features.answers import Answers
from mainstem.features.api import Api
from mainstem.features.check import check_rows
from mainstem.features.gaps import guarded, leaves, look_out, recognise_again, stand_still
from mainstem.features.handlers import Computing, journalled
from mainstem.features.rows import RowWriter
from mainstem.features.settings import Settings
from mainstem.features.sharded.plan import Plan
from mainstem.features.sharded.store import ShardStore
from mainstem.features.sharded.work import share_out
from mainstem.features.store import PostgresStore, set_project
from mainstem.fold.fold import Fold
from mainstem.fold.gap import Gap
from mainstem.project.definition import ProjectDefinition
from mainstem.runtime import Piece, Resources, consume, keep_running, open_resources, run, serve, steadily
from mainstem.storage import Transaction

_TICK_S = 0.25
_CHECKPOINT_EVERY_TICKS = 8
_FOLLOW_S = 2.0


async def main() -> None:
    """Run the service until it is stopped."""
    await asyncio.to_thread(prepare)  # in a consumer group nothing may stand still for as long as this takes
    settings = Settings()
    async with open_resources("features", "mainstem.features", settings) as resources:
        store = PostgresStore(resources.database)
        answers = Answers(resources.bus.publisher)
        changed, taken = asyncio.Event(), list[str]()

        async def wanted() -> Mapping[Hashable, Piece]:
            definitions = await steadily(store.definitions)
            taken[:] = [definition.id for definition in definitions]
            return pieces(resources, store, definitions, answers, settings)

        async def on_project(tx: Transaction, event: Event) -> None:
            await set_project(tx, event)
            tx.after_commit.append(changed.set)

        await serve(
            resources,
            tasks=[
                lambda: consume(resources, ["evt.registry.project"], on_project),
                resources.relay,
                lambda: keep_running(changed, wanted),
                lambda: notice_projects(store, taken, changed),
            ],
            routes=Api(answers, resources.principals, store).routes(),
        )


def pieces(
    resources: Resources,
    store: PostgresStore,
    definitions: Sequence[ProjectDefinition],
    answers: Answers,
    settings: Settings,
) -> dict[Hashable, Piece]:
    """Return the work on every feature set of every project, and on its check, each with what it stands on."""
    found: dict[Hashable, Piece] = {}
    for definition in definitions:
        for name, feature_set in definition.feature_sets.items():
            basis = feature_set.id, [definition.sources[stream] for stream in feature_set.compiled.streams]
            computing = partial(work, resources, store, definition, name, answers, settings.features_shards)
            checking = partial(check_rows, resources, store, definition, name, settings.features_check)
            found["compute", definition.charter.name, name] = basis, computing
            found["check", definition.charter.name, name] = basis, checking
    return found


async def work(
    resources: Resources, store: PostgresStore, definition: ProjectDefinition, name: str, answers: Answers, shards: int
) -> None:
    """Compute one feature set, alone or with the shards of others, until records of its input are gone."""
    compiled = definition.feature_sets[name].compiled
    plan = Plan(compiled, definition.sources, shards)
    gaps: list[Gap] = []
    try:
        if shards > 1 or await steadily(lambda: ShardStore(resources.database).begin(plan)) is not None:
            with answers.none_of(compiled.label, compiled.id):
                await share_out(resources, plan)
        else:
            await compute(resources, store, definition, name, answers)
    except* Gap as found:
        gaps = leaves(found)
    if gaps:
        with answers.stopped(compiled.label, compiled.id, str(gaps[0])):
            writer = RowWriter(compiled, resources.tracer)
            await stand_still(resources.bus.publisher, resources.health, writer, gaps[0])


async def notice_projects(store: PostgresStore, taken: list[str], changed: asyncio.Event) -> None:
    """Notice definitions that another process of the service has put in force: seen twice, and not `taken`."""
    seen: list[str] = taken
    while True:
        ids = [definition.id for definition in await steadily(store.definitions)]
        if ids != taken and ids == seen:
            changed.set()
        seen = ids
        await asyncio.sleep(_FOLLOW_S)


async def compute(
    resources: Resources, store: PostgresStore, definition: ProjectDefinition, name: str, answers: Answers
) -> None:
    """Compute one feature set for ever."""
    compiled = definition.feature_sets[name].compiled
    fold = Fold(compiled, definition.sources)
    if (state := await steadily(lambda: store.state(compiled.id))) is not None:
        fold.restore(state)
    if fold.live:
        fold.follow(await steadily(lambda: journalled(resources.settings.kafka, compiled.id)))
    spine, publisher = definition.sources[compiled.spine], resources.bus.publisher
    computing = Computing(fold, spine.partitions, resources.tracer)

    subscription = resources.bus.subscribe(f"features-{name}", fold.topics, computing.positions)

    async def tick() -> None:
        for ticks in count(1):
            await asyncio.sleep(_TICK_S)
            await take([])
            if ticks % _CHECKPOINT_EVERY_TICKS == 0:
                await computing.checkpoint(store)

    async def take(records: Sequence[Record]) -> None:
        await computing.on_records(records, lag=subscription.lag(), publisher=publisher)
        subscription.hold_off(fold.ahead())

    with resources.watch(name, subscription), answers.of(fold, spine, subscription, computing.between_batches):
        async with guarded(computing, resources.settings.kafka, store), asyncio.TaskGroup() as group:
            group.create_task(subscription.run(take))
            group.create_task(tick())
            group.create_task(recognise_again(computing, resources.settings.kafka, store))
            group.create_task(look_out(subscription, computing.on_emptied))


if __name__ == "__main__":
    run(main)
