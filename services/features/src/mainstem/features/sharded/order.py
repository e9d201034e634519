"""The journal of a set that is shared out: the one order, from what was dealt, without the payloads."""

from collections.abc import Sequence

import msgspec

from mainstem.events.catalogue import Record
from mainstem.events.envelope import Message
from mainstem.events.features import OrderJournalled
from mainstem.features.accepted import cut
from mainstem.features.domain import Journal
from mainstem.features.engine import announced
from mainstem.features.rows import RowWriter
from mainstem.features.sharded.frames import Dealt, decode
from mainstem.features.sharded.plan import Plan
from mainstem.features.sharded.unit import Outcome, Waiting
from mainstem.runtime.ordered import OrderedReader
from mainstem.telemetry import Tracer


class Order:
    """Makes the journal's entries: those of one worker."""

    def __init__(self, plan: Plan, tracer: Tracer) -> None:
        self._writer = RowWriter(plan.compiled, tracer)
        self._reader = OrderedReader(announced(plan.compiled, plan.contracts))
        self._journal = Journal()
        self._entries: list[OrderJournalled] = []
        self._waiting = Waiting()

    @property
    def next_offset(self) -> int:
        """Return where to begin to read after a restart."""
        return self._waiting.next_offset

    def take(self, records: Sequence[Record]) -> list[Message]:
        """Take frames and return the entries that they complete."""
        for record in records:
            frame = decode(record.value or b"")
            if isinstance(frame, Dealt):
                self._waiting.add(record.offset, frame.newest)
                self._reader.offer(frame.forwarded())
        released = self._reader.advance()
        reached = [(at, place) for at, place in released.reached if at > self._journal.reached_us]
        *runs, rest = cut(released.items, [place for _, place in reached])
        entries = []
        for (instant, _), stretch in zip(reached, runs, strict=True):
            self._journal.extend(stretch)
            entries.append(self._journal.close(instant, self._writer.label, self._writer.id))
        self._journal.extend(rest)
        self._entries += entries
        self._waiting.passed(self._journal.reached_us)
        return [self._writer.entry(entry) for entry in entries]

    def snapshot(self) -> bytes:
        """Return what must be known to go on."""
        journal = (self._journal.number, self._journal.applied, self._journal.reached_us, self._journal.open)
        return msgspec.msgpack.encode((self._reader.snapshot(), journal))

    def restore(self, state: bytes) -> None:
        """Go on where the journal that gave `state` stood."""
        places, (number, applied, reached, runs) = msgspec.msgpack.decode(state)
        self._reader.restore(places)
        self._journal = Journal(number, applied, reached, [tuple(run) for run in runs])

    def outcome(self) -> Outcome:
        """Return the entries published since the last call."""
        entries, self._entries = self._entries, []
        return Outcome(journal=entries)
