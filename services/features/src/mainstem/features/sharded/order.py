"""The journal of a set that is shared out: the one order, from what was dealt, without the payloads."""

from collections.abc import Sequence

import msgspec

from mainstem.events.envelope import Message
from mainstem.events.features import OrderJournalled
from mainstem.events.record import Record
from mainstem.features.rows import RowWriter
from mainstem.features.sharded.frames import Dealt
from mainstem.features.sharded.merged import Merged
from mainstem.features.sharded.plan import Plan
from mainstem.features.sharded.unit import Inbox, Outcome
from mainstem.fold.accepted import cut
from mainstem.fold.journal import Journal
from mainstem.telemetry import Tracer


class Order:
    """Makes the journal's entries: those of one worker."""

    def __init__(self, plan: Plan, tracer: Tracer) -> None:
        self._writer = RowWriter(plan.compiled, tracer)
        self._merged = Merged(plan.places)
        self._journal = Journal()
        self._entries: list[OrderJournalled] = []
        self._inbox = Inbox()

    @property
    def next_offset(self) -> int:
        """Return where to begin to read after a restart."""
        return self._inbox.next_offset

    def take(self, records: Sequence[Record]) -> list[Message]:
        """Take frames and return the entries that they complete."""
        for frame in self._inbox.open(records):
            if isinstance(frame, Dealt):
                self._merged.offer(frame)
        released = self._merged.advance()
        reached = [(at, place) for at, place in released.reached if at > self._journal.reached_us]
        items = [(place, record.headers) for place, record in released.items]
        *runs, rest = cut(items, [place for _, place in reached])
        entries = []
        for (instant, _), stretch in zip(reached, runs, strict=True):
            self._journal.extend(stretch)
            entries.append(self._journal.close(instant, self._writer.label, self._writer.id))
        self._journal.extend(rest)
        self._entries += entries
        self._inbox.passed(self._journal.reached_us)
        return [self._writer.entry(entry) for entry in entries]

    def snapshot(self) -> bytes:
        """Return what must be known to go on."""
        journal = (self._journal.number, self._journal.applied, self._journal.reached_us, self._journal.open)
        return msgspec.msgpack.encode((self._merged.snapshot(), journal))

    def restore(self, state: bytes) -> None:
        """Go on where the journal that gave `state` stood."""
        applied, (number, count, reached, runs) = msgspec.msgpack.decode(state)
        self._merged.restore(applied)
        self._journal = Journal(number, count, reached, [tuple(run) for run in runs])

    def outcome(self) -> Outcome:
        """Return the entries published since the last call."""
        entries, self._entries = self._entries, []
        return Outcome(parked=self._inbox.parked(), journal=entries)
