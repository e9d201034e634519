"""Joining: what the shards know of a spine record becomes the row that one worker would have published."""

from bisect import bisect_right
from collections.abc import Sequence
from operator import attrgetter

import msgspec
import numpy as np

from mainstem.events.envelope import Message
from mainstem.events.record import Record
from mainstem.feature_engine import FIRST_INSTANT, Assembler
from mainstem.features.ports import RowTally
from mainstem.features.rows import RowWriter
from mainstem.features.sharded.frames import Carried, Dealt, Floats, Forwarded, Part, Partial
from mainstem.features.sharded.plan import Plan
from mainstem.features.sharded.unit import Inbox, Outcome
from mainstem.fold.accepted import Reading
from mainstem.fold.ordered import Item
from mainstem.telemetry import Tracer

_arrival = attrgetter("arrival")


class Join:
    """Joins the rows of one partition of the spine.

    Promise: rows and markers are those of one worker, in the same order, whatever the polls: a row goes out when the
    dealer and all shards have passed an instant that it arrived before.
    """

    def __init__(self, plan: Plan, partition: int, tracer: Tracer) -> None:
        self._plan, self._partition = plan, partition
        self._topic = f"evt.data.{plan.compiled.spine}"
        self._width = len(plan.compiled.definition.aggregates)
        self._assembler, self._reading = Assembler(plan.compiled), Reading(plan.compiled, plan.contracts)
        self._writer = RowWriter(plan.compiled, tracer)
        #: Spine records that wait, in their order, and the offset of the last that was taken.
        self._spine: list[Carried] = []
        self._taken = -1
        self._parts: list[Part] = []
        self._dealt_to = FIRST_INSTANT
        self._passed = dict.fromkeys(range(plan.shards), FIRST_INSTANT)
        self._instants: set[int] = set()
        #: What was published: up to which offset of the spine, up to which instant, and how many instants.
        self._offset, self._reached, self._number = -1, FIRST_INSTANT, 0
        self._tally = RowTally()
        self._inbox = Inbox()

    @property
    def next_offset(self) -> int:
        """Return where to begin to read after a restart."""
        return self._inbox.next_offset

    def take(self, records: Sequence[Record]) -> list[Message]:
        """Take frames and return the rows and markers that they complete."""
        for frame in self._inbox.open(records):
            if isinstance(frame, Dealt):
                self._take_spine(frame)
            else:
                self._take_part(frame)
        passed = min(self._dealt_to, *self._passed.values())
        instants = sorted(at for at in self._instants if at <= passed)
        if not instants:
            return []
        messages = self._complete(instants)
        self._instants.difference_update(instants)
        self._reached, self._number = instants[-1], self._number + len(instants)
        self._inbox.passed(self._reached)
        return messages

    def snapshot(self) -> bytes:
        """Return what must be known to go on; what waits is read again."""
        return msgspec.msgpack.encode((self._offset, self._reached, self._number))

    def restore(self, state: bytes) -> None:
        """Go on where the join that gave `state` stood."""
        self._offset, self._reached, self._number = msgspec.msgpack.decode(state)
        self._taken = self._offset

    def outcome(self) -> Outcome:
        """Return the rows published since the last call."""
        tally, self._tally = self._tally, RowTally()
        return Outcome(parked=self._inbox.parked(), rows={(self._plan.compiled.label, self._partition): tally})

    def _take_spine(self, frame: Dealt) -> None:
        self._dealt_to = max(self._dealt_to, frame.complete_through)
        fresh = [record for record in frame.records if record.offset > self._taken]
        self._spine += [record for record in fresh if not record.marker]
        self._taken = max([self._taken, *(record.offset for record in fresh[-1:])])

    def _take_part(self, frame: Partial) -> None:
        part = Part.of(frame, self._width).after(self._offset)
        if len(part.offsets):
            self._parts.append(part)
        news = [at for at in frame.reached if at > self._reached]
        self._instants.update(news)
        self._passed[frame.shard] = max(self._passed[frame.shard], *news, FIRST_INSTANT)

    def _complete(self, instants: Sequence[int]) -> list[Message]:
        """Return the rows of the spine records that arrived up to the last instant, with a marker at each of them."""
        edges = [bisect_right(self._spine, instant, key=_arrival) for instant in instants]
        done, self._spine = self._spine[: edges[-1]], self._spine[edges[-1] :]
        rows = self._rows(done) if done else []
        messages: list[Message] = []
        begin = 0
        for number, (instant, edge) in enumerate(zip(instants, edges, strict=True), self._number):
            messages += rows[begin:edge]
            messages.append(self._writer.marker(instant, number, self._partition))
            begin = edge
        return messages

    def _rows(self, done: list[Carried]) -> list[Message]:
        """Return the rows of spine records, in the order of the spine."""
        columns = self._reading.columns(self._plan.compiled.spine, [record.payload or b"" for record in done])
        values = self._assembler.values(columns, self._aggregates(done))
        items: list[Item] = [
            (Forwarded(self._topic, self._partition, record.offset, record.key), dict(record.headers))
            for record in done
        ]
        payloads = self._writer.payloads(items, values)
        for found in payloads:
            self._tally.count(found)
        self._offset = done[-1].offset
        return [self._writer.row(*item, found) for item, found in zip(items, payloads, strict=True)]

    def _aggregates(self, done: list[Carried]) -> Floats:
        """Return what the shards know of spine records, put together; raise LookupError when it is not all there."""
        offsets = np.array([record.offset for record in done], np.int64)
        aggregates = np.full((len(done), self._width), np.nan)
        known = np.zeros(aggregates.shape, np.bool_)
        for part in self._parts:
            count = int(np.searchsorted(part.offsets, offsets[-1], side="right"))
            row, column = np.nonzero(part.owned[:count])
            place = np.searchsorted(offsets, part.offsets[:count])[row]
            aggregates[place, column], known[place, column] = part.values[row, column], True
        self._parts = [rest for part in self._parts if len((rest := part.after(int(offsets[-1]))).offsets)]
        for record, owned in zip(done, known, strict=True):
            if not (owned.all() or self._plan.too_late(record.time, record.arrival)):
                raise LookupError(f"{self._topic}/{self._partition}/{record.offset}: no shard knows all of it")
        return aggregates
