"""Folding: what one shard was dealt, in the one applied order, and what it knows of each spine record."""

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from mainstem.events.catalogue import Record
from mainstem.events.envelope import Message
from mainstem.feature_engine import FIRST_INSTANT, Aggregates, Engine, Shard
from mainstem.features.accepted import Micros, Reading
from mainstem.features.engine import announced
from mainstem.features.sharded.frames import Dealt, Partial, decode, message
from mainstem.features.sharded.plan import Plan
from mainstem.features.sharded.unit import Outcome, Waiting
from mainstem.runtime.ordered import Item, OrderedReader


class ShardFold:
    """Folds one shard of every index.

    Promise: its parts and the instants it passes are a function of what it was dealt, whatever the polls, wherever
    its state was stored and restored.
    """

    def __init__(self, plan: Plan, shard: int) -> None:
        self._plan, self._shard = plan, shard
        self._engine = Engine(plan.compiled, Shard(shard, plan.shards))
        self._reading = Reading(plan.compiled, plan.contracts)
        self._reader = OrderedReader(announced(plan.compiled, plan.contracts))
        self._reached = FIRST_INSTANT
        self._waiting = Waiting()

    @property
    def next_offset(self) -> int:
        """Return where to begin to read after a restart."""
        return self._waiting.next_offset

    def take(self, records: Sequence[Record]) -> list[Message]:
        """Fold frames and return what follows for the rows."""
        for record in records:
            frame = decode(record.value or b"")
            if isinstance(frame, Dealt):
                self._waiting.add(record.offset, frame.newest)
                self._reader.offer(frame.forwarded())
        released = self._reader.advance()
        reached = [at for at, _ in released.reached if at > self._reached]
        if not released.items and not reached:
            return []
        parts = self._parts(released.items, released.arrivals)
        self._reached = reached[-1] if reached else self._reached
        self._waiting.passed(self._reached)
        newest = max([self._reached, *released.arrivals[-1:].tolist()])
        return [
            message(self._plan.join_topic, partition, Partial(self._shard, *part, reached, newest))
            for partition, part in parts
            if part[0] or reached
        ]

    def snapshot(self) -> bytes:
        """Return what must be known to go on."""
        return msgspec.msgpack.encode((self._engine.snapshot(), self._reader.snapshot(), self._reached))

    def restore(self, state: bytes) -> None:
        """Become the shard that gave `state`; raises SnapshotError when it is of another feature set."""
        engine, places, self._reached = msgspec.msgpack.decode(state)
        self._engine.restore(engine)
        self._reader.restore(places)

    def outcome(self) -> Outcome:
        """Return nothing: what a shard knows goes to the join."""
        return Outcome()

    def _parts(self, items: list[Item], arrivals: Micros) -> Iterator[tuple[int, tuple[list[int], bytes, bytes]]]:
        """Yield for each partition of the spine the offsets of its records, their aggregates, and which are known."""
        found = self._fold(items, arrivals)
        places = np.array([items[i][0].partition for i in found.index.tolist()], np.int64)
        offsets = np.array([items[i][0].offset for i in found.index.tolist()], np.int64)
        for partition in range(self._plan.spine_partitions):
            rows = np.flatnonzero(places == partition)
            yield partition, (offsets[rows].tolist(), found.values[rows].tobytes(), found.owned[rows].tobytes())

    def _fold(self, items: list[Item], arrivals: Micros) -> Aggregates:
        if items:
            return self._engine.aggregate(self._reading.batch(items, arrivals, self._engine.reached))
        width = len(self._plan.compiled.definition.aggregates)
        return Aggregates(np.empty(0, np.int64), np.empty((0, width)), np.empty((0, width), np.bool_))
