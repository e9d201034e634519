"""A worker on one stage: takes the partitions that it is given, publishes what follows, stores where it stands."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Protocol

from mainstem.bus import Publisher
from mainstem.events.envelope import Message
from mainstem.events.errors import Rejected
from mainstem.events.record import Record
from mainstem.features.gaps import look_out
from mainstem.features.handlers import tell_beginning, tell_parked
from mainstem.features.ports import Partition
from mainstem.features.sharded.plan import Plan
from mainstem.features.sharded.stages import Stage, stages
from mainstem.features.sharded.store import Place, Saved, ShardStore, TakenOver
from mainstem.features.sharded.unit import Unit
from mainstem.fold.gap import Gap
from mainstem.runtime import Resources, steadily
from mainstem.telemetry import logger, metrics

_CHECKPOINT_S = 2.0

_log = logger(__name__)
_partition = attrgetter("partition")


class Store(Protocol):
    """Keeps the states of stages. Whatever it is asked raises Unavailable while it does not answer."""

    async def places(self, name: str) -> dict[int, Place]:
        """Return what is stored of a stage, by partition."""

    async def state(self, name: str, part: int, version: int) -> bytes:
        """Return the state of a version; raise TakenOver when by now another is stored."""

    async def save(self, name: str, part: int, saved: Saved) -> Place:
        """Store a state; raise TakenOver, with nothing stored, when another was stored instead of that version."""


class Worker:
    """Works on the partitions of one stage.

    A partition that was given to this worker begins with what is stored of it, and with nothing that the worker may
    remember of it from before: somebody else may have gone on meanwhile.
    """

    def __init__(self, stage: Stage, store: Store, publisher: Publisher) -> None:
        self._stage, self._store, self._publisher = stage, store, publisher
        self._places: dict[int, Place] = {}
        self._units: dict[int, Unit] = {}
        self._due: dict[int, int] = {}
        self._moved: set[int] = set()
        self._one_at_a_time = asyncio.Lock()

    async def positions(self) -> dict[tuple[str, int], int]:
        """Return where to begin with each partition; called when partitions were given out anew."""
        async with self._one_at_a_time:
            self._places = await steadily(lambda: self._store.places(self._stage.name))
            self._due = {part: place.next_offset for part, place in self._places.items()}
            self._units, self._moved = {}, set()
            return {(self._stage.topic, part): offset for part, offset in self._due.items()}

    async def on_records(self, records: Sequence[Record]) -> None:
        """Take records and publish what follows.

        Raises Gap when some before them are gone, TakenOver when somebody else has gone on with their partition.
        """
        async with self._one_at_a_time:
            messages: list[Message] = []
            for part, run in groupby(sorted(records, key=_partition), _partition):
                mine = list(run)
                self._check(part, mine)
                unit = await self._unit(part)
                messages += unit.take(mine)
                self._moved.add(part)
            metrics.RECORDS.labels(self._stage.topic).inc(len(records))
            await self._publisher.publish(messages)

    async def on_emptied(self, places: Mapping[Partition, int], noticed_us: int) -> None:
        """Raise Gap when a partition that holds no record goes on elsewhere than at the one that is due."""
        async with self._one_at_a_time:
            for (topic, part), offset in places.items():
                expected = self._due.get(part, 0 if self._stage.internal else offset)
                if offset != expected:
                    raise Gap((topic, part), expected=expected, found=offset, appended_us=noticed_us)

    async def checkpoint(self) -> None:
        """Store where each partition stands that has moved; raise TakenOver when one is somebody else's by now."""
        async with self._one_at_a_time:
            for part in sorted(self._moved):
                unit, was = self._units[part], self._places.get(part, Place())
                of = self._stage.plan.compiled
                saved = Saved(was.version, unit.next_offset, unit.snapshot(), unit.outcome(), of.id)
                self._places[part] = await steadily(partial(self._store.save, self._stage.name, part, saved))
                tell_parked(of.label, saved.outcome.parked)
            self._moved.clear()

    def _check(self, part: int, records: Sequence[Record]) -> None:
        for record in records:
            expected = self._due.get(part, 0 if self._stage.internal else record.offset)
            if record.offset != expected:
                raise Gap.before(record, expected)
            if part not in self._due and record.offset > 0:
                tell_beginning(self._stage.plan.compiled.label, (record.topic, part), record.offset)
            self._due[part] = expected + 1

    async def _unit(self, part: int) -> Unit:
        if part not in self._units:
            unit = self._stage.unit(part)
            if part in self._places:
                version = self._places[part].version
                unit.restore(await steadily(lambda: self._store.state(self._stage.name, part, version)))
            self._units[part] = unit
        return self._units[part]


async def share_out(resources: Resources, plan: Plan) -> None:
    """Work on all stages of a feature set for ever, beside whoever else does; raise Gap when records are gone.

    A set that cannot be shared out so keeps the service from being ready, with the reason.
    """
    store = ShardStore(resources.database)
    try:
        found = await steadily(lambda: agreed(plan, store, resources))
    except Rejected as fault:
        await _refuse(resources, plan, str(fault))
        return
    async with asyncio.TaskGroup() as group:
        for stage in found:
            group.create_task(work_on(resources, stage, store))


async def agreed(plan: Plan, store: ShardStore, resources: Resources) -> list[Stage]:
    """Begin the set, and return the stages, with their topics made.

    Raises Rejected for a set that cannot be shared out, or was begun with another number of shards.
    """
    found = stages(plan, resources.tracer)
    begun = await store.begin(plan)
    if begun is not None:
        raise Rejected(
            f"feature set {plan.compiled.label!r} was begun with {begun} shards and cannot go on with {plan.shards}: "
            f"set MAINSTEM_FEATURES_SHARDS={begun}, or declare a new version of the set"
        )
    await resources.bus.create(plan.topics)
    return found


async def _refuse(resources: Resources, plan: Plan, reason: str) -> None:
    """Say why, by not being ready, and do nothing more."""
    resources.health.require(plan.name, lambda: reason)
    _log.error("not shared out: %s", reason, extra={"action": "not_shared_out"})
    try:
        await asyncio.Event().wait()
    finally:
        resources.health.forget(plan.name)


async def work_on(resources: Resources, stage: Stage, store: Store) -> None:
    """Work on a stage for ever; begin anew with what is stored when somebody else has gone on with a part of it."""
    while True:
        try:
            await _work(resources, stage, store)
        except* TakenOver as found:
            _log.warning("begun anew: %s", found.exceptions[0], extra={"action": "taken_over"})


async def _work(resources: Resources, stage: Stage, store: Store) -> None:
    worker = Worker(stage, store, resources.bus.publisher)
    subscription = resources.bus.subscribe(f"features-{stage.name}", [stage.topic], worker.positions)

    async def store_now_and_then() -> None:
        while True:
            await asyncio.sleep(_CHECKPOINT_S)
            await worker.checkpoint()

    with resources.watch(stage.name, subscription):
        async with asyncio.TaskGroup() as group:
            group.create_task(subscription.run(worker.on_records))
            group.create_task(store_now_and_then())
            group.create_task(look_out(subscription, worker.on_emptied))
