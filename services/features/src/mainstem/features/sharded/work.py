"""A worker on one stage: takes the partitions that it is given, publishes what follows, stores where it stands."""

import asyncio
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from typing import Protocol

from mainstem.bus import Publisher
from mainstem.events.catalogue import Record
from mainstem.events.errors import Rejected
from mainstem.features.ports import Gap
from mainstem.features.sharded.plan import Plan
from mainstem.features.sharded.stages import Stage, stages
from mainstem.features.sharded.store import Saved, ShardStore, Stored, TakenOver
from mainstem.features.sharded.unit import Unit
from mainstem.runtime import Resources, steadily
from mainstem.telemetry import logger, metrics

_CHECKPOINT_S = 2.0

_log = logger(__name__)


class Store(Protocol):
    """Keeps the states of stages."""

    async def load(self, name: str) -> dict[int, Stored]:
        """Return the states of a stage by partition. Raises Unavailable."""

    async def save(self, name: str, part: int, saved: Saved) -> Stored:
        """Store a state; raise TakenOver when another was stored since it was loaded, Unavailable when it cannot."""


class Worker:
    """Works on the partitions of one stage.

    A partition that was given to this worker begins with what is stored of it, and with nothing that the worker may
    remember of it from before: somebody else may have gone on meanwhile.
    """

    def __init__(self, stage: Stage, store: Store, publisher: Publisher) -> None:
        self._stage, self._store, self._publisher = stage, store, publisher
        self._units: dict[int, Unit] = {}
        self._stored: dict[int, Stored] = {}
        self._following: dict[int, int] = {}
        self._moved: set[int] = set()
        self._one_at_a_time = asyncio.Lock()

    async def positions(self) -> dict[tuple[str, int], int]:
        """Return where to begin with each partition; called when partitions were given out anew."""
        async with self._one_at_a_time:
            self._stored = await steadily(lambda: self._store.load(self._stage.name))
            self._following = {part: stored.next_offset for part, stored in self._stored.items()}
            self._units, self._moved = {}, set()
            return {(self._stage.topic, part): offset for part, offset in self._following.items()}

    async def on_records(self, records: Sequence[Record]) -> None:
        """Take records and publish what follows; raise Gap when some before them are gone."""
        async with self._one_at_a_time:
            messages = []
            for part, run in groupby(sorted(records, key=lambda r: r.partition), key=lambda r: r.partition):
                mine = list(run)
                self._check(part, mine)
                messages += self._unit(part).take(mine)
                self._moved.add(part)
            metrics.RECORDS.labels(self._stage.topic).inc(len(records))
            await self._publisher.publish(messages)

    async def checkpoint(self) -> None:
        """Store where each partition stands that has moved; raise TakenOver when one is somebody else's by now."""
        async with self._one_at_a_time:
            for part in sorted(self._moved):
                unit, was = self._units[part], self._stored.get(part, Stored())
                saved = Saved(Stored(was.version, unit.next_offset, unit.snapshot()), unit.outcome())
                self._stored[part] = await steadily(partial(self._store.save, self._stage.name, part, saved))
            self._moved.clear()

    def _check(self, part: int, records: Sequence[Record]) -> None:
        for record in records:
            expected = self._following.get(part, record.offset)
            if record.offset > expected:
                raise Gap(record, expected)
            self._following[part] = max(expected, record.offset + 1)

    def _unit(self, part: int) -> Unit:
        if part not in self._units:
            unit = self._stage.unit(part)
            state = self._stored.get(part, Stored()).state
            if state is not None:
                unit.restore(state)
            self._units[part] = unit
        return self._units[part]


async def share_out(resources: Resources, plan: Plan) -> None:
    """Work on all stages of a feature set for ever, beside whoever else does; raise Gap when records are gone.

    A set that cannot be shared out keeps the service from being ready, with the reason.
    """
    try:
        found = stages(plan, resources.tracer)
    except Rejected as fault:
        reason = str(fault)
        resources.health.require(plan.name, lambda: reason)
        _log.error("not shared out: %s", reason, extra={"action": "not_shared_out"})
        return
    await steadily(lambda: resources.bus.create(plan.topics))
    store = ShardStore(resources.database)
    async with asyncio.TaskGroup() as group:
        for stage in found:
            group.create_task(work_on(resources, stage, store))


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
