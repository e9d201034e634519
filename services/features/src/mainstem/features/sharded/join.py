"""Joining: what the shards know of a spine record becomes the row that one worker would have published."""

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from mainstem.events.catalogue import Record
from mainstem.events.data import ProgressReached
from mainstem.events.envelope import Message, named
from mainstem.feature_engine import FIRST_INSTANT, Assembler
from mainstem.features.accepted import Reading, event_times, payload
from mainstem.features.ports import RowTally
from mainstem.features.rows import RowWriter
from mainstem.features.sharded.frames import Dealt, Floats, Partial, Truths, decode
from mainstem.features.sharded.plan import Plan
from mainstem.features.sharded.unit import Outcome, Waiting
from mainstem.runtime.ordered import Item
from mainstem.telemetry import Tracer

_PROGRESS = ProgressReached.TYPE.encode()


class Join:
    """Joins the rows of one partition of the spine.

    Promise: rows and markers are those of one worker, in the same order, whatever the polls: a row goes out when the
    dealer and all shards have passed an instant that it arrived before.
    """

    def __init__(self, plan: Plan, partition: int, tracer: Tracer) -> None:
        self._plan, self._partition = plan, partition
        self._width = len(plan.compiled.definition.aggregates)
        self._assembler, self._reading = Assembler(plan.compiled), Reading(plan.compiled, plan.contracts)
        self._writer = RowWriter(plan.compiled, tracer)
        self._spine: dict[int, tuple[Item, int]] = {}
        self._parts: dict[int, list[tuple[Floats, Truths]]] = {}
        self._dealt_to = FIRST_INSTANT
        self._passed = dict.fromkeys(range(plan.shards), FIRST_INSTANT)
        self._instants: set[int] = set()
        #: What was published: up to which offset of the spine, up to which instant, and how many instants.
        self._offset, self._reached, self._number = -1, FIRST_INSTANT, 0
        self._tally = RowTally()
        self._waiting = Waiting()

    @property
    def next_offset(self) -> int:
        """Return where to begin to read after a restart."""
        return self._waiting.next_offset

    def take(self, records: Sequence[Record]) -> list[Message]:
        """Take frames and return the rows and markers that they complete."""
        for record in records:
            frame = decode(record.value or b"")
            self._waiting.add(record.offset, frame.newest)
            if isinstance(frame, Dealt):
                self._take_spine(frame)
            else:
                self._take_part(frame)
        messages: list[Message] = []
        passed = min(self._dealt_to, *self._passed.values())
        for instant in sorted(at for at in self._instants if at <= passed):
            messages += self._rows(instant)
            messages.append(self._writer.marker(instant, self._number, self._partition))
            self._instants.discard(instant)
            self._reached, self._number = instant, self._number + 1
        self._waiting.passed(self._reached)
        return messages

    def snapshot(self) -> bytes:
        """Return what must be known to go on; what waits is read again."""
        return msgspec.msgpack.encode((self._offset, self._reached, self._number))

    def restore(self, state: bytes) -> None:
        """Go on where the join that gave `state` stood."""
        self._offset, self._reached, self._number = msgspec.msgpack.decode(state)

    def outcome(self) -> Outcome:
        """Return the rows published since the last call."""
        tally, self._tally = self._tally, RowTally()
        return Outcome(rows={(self._plan.compiled.label, self._partition): tally})

    def _take_spine(self, frame: Dealt) -> None:
        for record, carried in zip(frame.forwarded(), frame.records, strict=True):
            headers = named(record.headers)
            # All that arrives before the newest has been dealt; a marker stands one after what it announces.
            self._dealt_to = max(self._dealt_to, carried.arrival - 1)
            if headers.get("ce_type") != _PROGRESS and record.offset > self._offset:
                self._spine[record.offset] = (record, headers), carried.arrival

    def _take_part(self, frame: Partial) -> None:
        values, owned = frame.arrays(self._width)
        for offset, line, known in zip(frame.offsets, values, owned, strict=True):
            if offset > self._offset:
                self._parts.setdefault(offset, []).append((line, known))
        news = [at for at in frame.reached if at > self._reached]
        self._instants.update(news)
        self._passed[frame.shard] = max(self._passed[frame.shard], *news, FIRST_INSTANT)

    def _rows(self, instant: int) -> Iterator[Message]:
        """Yield the rows of the spine records that arrived up to an instant, in the order of the spine."""
        offsets = sorted(offset for offset, (_, arrival) in self._spine.items() if arrival <= instant)
        if not offsets:
            return
        popped = [self._spine.pop(offset) for offset in offsets]
        items, arrivals = [item for item, _ in popped], np.array([arrival for _, arrival in popped], np.int64)
        late = event_times(items) < arrivals - self._plan.compiled.definition.lateness
        aggregates = np.full((len(items), self._width), np.nan)
        for row, offset in enumerate(offsets):
            known = np.zeros(self._width, np.bool_)
            for values, owned in self._parts.pop(offset, ()):
                aggregates[row, owned], known[owned] = values[owned], True
            if not (late[row] or known.all()):
                place = f"{items[row][0].topic}/{self._partition}/{offset}"
                raise LookupError(f"{place}: no shard knows aggregates {np.flatnonzero(~known).tolist()}")
        columns = self._reading.columns(self._plan.compiled.spine, [payload(r.value, headers) for r, headers in items])
        payloads = self._writer.payloads(items, self._assembler.values(columns, aggregates))
        self._offset = offsets[-1]
        for (record, headers), found in zip(items, payloads, strict=True):
            self._tally.count(found)
            yield self._writer.row(record, headers, found)
