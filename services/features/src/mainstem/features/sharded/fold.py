"""Folding: what one shard was dealt, in the one applied order, and what it knows of each spine record."""

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from mainstem.events.envelope import Message
from mainstem.events.record import Record
from mainstem.feature_engine import FIRST_INSTANT, LAST_INSTANT, Aggregates, Batch, Engine, Released, Shard
from mainstem.features.sharded.frames import Dealt, Partial, message
from mainstem.features.sharded.merged import Item, Merged
from mainstem.features.sharded.plan import Plan
from mainstem.features.sharded.unit import Inbox, Outcome
from mainstem.fold.accepted import Reading


class ShardFold:
    """Folds one shard of every index.

    Promise: its parts and the instants it passes are a function of what it was dealt, whatever the polls, wherever
    its state was stored and restored.
    """

    def __init__(self, plan: Plan, shard: int) -> None:
        self._plan, self._shard = plan, shard
        self._engine = Engine(plan.compiled, Shard(shard, plan.shards))
        self._reading = Reading(plan.compiled, plan.contracts)
        self._numbers = {f"evt.data.{name}": number for number, name in enumerate(plan.compiled.streams)}
        self._merged = Merged(plan.places)
        self._reached = FIRST_INSTANT
        self._inbox = Inbox()

    @property
    def next_offset(self) -> int:
        """Return where to begin to read after a restart."""
        return self._inbox.next_offset

    def take(self, records: Sequence[Record]) -> list[Message]:
        """Fold frames and return what follows for the rows."""
        for frame in self._inbox.open(records):
            if isinstance(frame, Dealt):
                self._merged.offer(frame)
        released = self._merged.advance()
        reached = [at for at, _ in released.reached if at > self._reached]
        if not released.items and not reached:
            return []
        partials = list(self._partials(released, reached))
        self._reached = reached[-1] if reached else self._reached
        self._inbox.passed(self._reached)
        return [message(self._plan.join_topic, partition, partial) for partition, partial in partials]

    def snapshot(self) -> bytes:
        """Return what must be known to go on."""
        return msgspec.msgpack.encode((self._engine.snapshot(), self._merged.snapshot(), self._reached))

    def restore(self, state: bytes) -> None:
        """Become the shard that gave `state`; raises SnapshotError when it is of another feature set."""
        engine, applied, self._reached = msgspec.msgpack.decode(state)
        self._engine.restore(engine)
        self._merged.restore(applied)

    def outcome(self) -> Outcome:
        """Return what was parked: what a shard knows goes to the join."""
        return Outcome(parked=self._inbox.parked())

    def _partials(self, released: Released[Item], reached: list[int]) -> Iterator[tuple[int, Partial]]:
        """Yield for partitions of the spine what this shard knows of its records."""
        found = self._fold(released)
        spine = [released.items[i] for i in found.index.tolist()]
        places = np.array([partition for (_, partition), _ in spine], np.int64)
        offsets = np.array([record.offset for _, record in spine], np.int64)
        newest = max([self._reached, *reached, *released.arrivals[-1:].tolist()])
        for partition in range(self._plan.spine_partitions):
            rows = np.flatnonzero(places == partition)
            if len(rows) or reached:
                offset, value, owned = (of[rows].tobytes() for of in (offsets, found.values, found.owned))
                yield partition, Partial(self._shard, offset, value, owned, reached, newest)

    def _fold(self, released: Released[Item]) -> Aggregates:
        if not released.items:
            width = len(self._plan.compiled.definition.aggregates)
            return Aggregates(np.empty(0, np.int64), np.empty((0, width)), np.empty((0, width), np.bool_))
        payloads: dict[str, list[bytes]] = {name: [] for name in self._plan.compiled.streams}
        for (topic, _), record in released.items:
            payloads[topic.removeprefix("evt.data.")].append(record.payload or b"")
        stream = np.array([self._numbers[topic] for (topic, _), _ in released.items], np.int8)
        times = np.array([record.time for _, record in released.items], np.int64)
        columns = {name: self._reading.columns(name, of) for name, of in payloads.items() if of}
        return self._engine.aggregate(Batch(stream, times, np.minimum(released.arrivals, LAST_INSTANT), columns))
