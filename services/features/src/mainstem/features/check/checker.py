"""Rows held against the reference: what an entry of the journal brings is applied, and chosen rows are compared."""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from mainstem.events.envelope import Event, follow
from mainstem.events.errors import NO_DOCUMENT
from mainstem.events.features import Difference, Evidence, VectorsChecked
from mainstem.events.instants import render
from mainstem.events.record import Record
from mainstem.feature_engine.reference import Applied, Contribution, Reference
from mainstem.feature_engine.reference.exact import FIRST_INSTANT, LAST_INSTANT
from mainstem.features.check.decoding import Payloads, specification
from mainstem.features.check.log import Accepted, Choice, Entry, Log
from mainstem.features.ports import Since

SOURCE: Final = "/mainstem/features"
#: An event says how at least so many rows turned out; a difference is told at once.
ROWS_AN_EVENT: Final = 200
#: Fewer rows are told after so much recorded time, µs.
AN_EVENT_US: Final = 86_400_000_000
#: Records behind a value that are listed.
MOST_RECORDS: Final = 50

#: Records applied in one step of the work, some tens of microseconds each at most.
_STEP: Final = 64
_RUNS: Final = 1_024

Vector = Sequence[float | None]

_read_values = msgspec.json.Decoder(list[float | None]).decode


@dataclass(frozen=True, slots=True)
class Subject:
    """What is checked: a compiled set, how its rows are partitioned, and which of them are chosen."""

    label: str
    definition: str
    spec: Mapping[str, object]
    partitions: int
    choice: Choice
    ahead_us: int = 0  #: how far an event may lie after its arrival, in any of its sources


@dataclass(slots=True)
class Tally:
    """Rows checked, values compared in them, values with other bits, and the first of these."""

    rows: int = 0
    cells: int = 0
    differing: int = 0
    first: Difference | None = None

    def count(self, rows: int, cells: int, differing: int, first: Difference | None) -> None:
        """Count what was found."""
        self.rows, self.cells, self.differing = self.rows + rows, self.cells + cells, self.differing + differing
        self.first = self.first or first


@dataclass(slots=True)
class Checker:
    """Checks one feature set: takes records in any order of polls, gives the events that follow from them.

    Promise: the events are a function of the log and of the fraction; whatever the polls, and wherever a checker was
    stopped and another began with the last event that was stored. It keeps no state of its own, so each begins at the
    beginning of the topics; up to the last stored event it applies records and compares nothing.

    Where the log has lost its beginning, rows are compared once every window lies within what is left: never, if a
    value looks back without end. Until then nothing is said of them.
    """

    subject: Subject
    since: Since = field(default_factory=Since)
    #: All that was checked by this object.
    seen: Tally = field(default_factory=Tally)
    #: Recorded time up to which rows were checked, µs since 1970; None before the first entry.
    reached_us: int | None = None
    log: Log = field(init=False)
    _reference: Reference = field(init=False)
    _payloads: Payloads = field(init=False)
    _names: list[str] = field(init=False)
    _reach_us: int | None = field(init=False)
    _tally: Tally = field(default_factory=Tally)
    #: The recorded time that the last event tells up to; before the first event, that of the first row compared.
    _told_us: int | None = None
    _arrival_us: int = FIRST_INSTANT
    #: Records of the journal up to the last entry; None before the first, unless that is the set's first.
    _applied: int | None = None
    #: Event time from which every window lies within the log; None while that is not known.
    _whole_from_us: int | None = None

    def __post_init__(self) -> None:
        spec, subject = specification(self.subject.spec), self.subject
        streams = [stream.name for stream in spec.streams]
        self.log = Log(subject.label, subject.definition, streams, subject.partitions, subject.choice)
        self._reference, self._payloads = Reference(subject.spec), Payloads(spec.streams)
        self._names, self._reach_us = spec.names, spec.reach_us()
        self._told_us = self.since.until_us

    def take(self, records: Sequence[Record]) -> None:
        """Take records of the log's topics, each partition's in their order."""
        self.log.take(records)

    def work(self) -> Iterator[Event | None]:
        """Apply and compare what was read; yields after every bit of work, now and then a VectorsChecked.

        An event must be stored before the next is asked for.
        """
        while (entry := self.log.next_entry()) is not None:
            yield from self._apply(entry)
            yield self._close(entry)

    def _apply(self, entry: Entry) -> Iterator[None]:
        """Apply the records of an entry in its order, each spine record after its row was compared."""
        taken, compares = 0, entry.number > self.since.entry
        if entry.number == 0:
            self._applied, self._whole_from_us = 0, FIRST_INSTANT if self.log.has_all_of(entry) else None
        for first in range(0, len(entry.runs), _RUNS):
            for topic, partition, low, high in entry.runs[first : first + _RUNS].tolist():
                waiting = self.log.accepted.get(f"{entry.topics[topic]}/{partition}")
                while waiting and waiting[0].number <= high:
                    accepted = waiting.popleft()
                    record = self._record(accepted, entry.topics[topic], partition)
                    taken += record is not None
                    compared = False
                    if record is not None and accepted.number >= low:
                        compared = self._next(record, accepted.id, entry, compares)
                    if compared or taken % _STEP == 0:
                        yield
        self._judge_order(entry, taken, compares)

    def _record(self, accepted: Accepted, topic: str, partition: int) -> Applied | None:
        """Return a record as the reference takes it: it never arrives before the one that was applied before."""
        columns = self._payloads.columns(accepted.stream, accepted.payload)
        if columns is None:
            return None
        arrival_us = max(self._arrival_us, min(accepted.arrival_us, LAST_INSTANT))
        place = (topic, partition, accepted.number)
        return Applied(accepted.stream, accepted.event_time_us, arrival_us, columns, place)

    def _next(self, record: Applied, identity: str, entry: Entry, compares: bool) -> bool:
        """Apply the next record; tell whether its row was compared before."""
        self._arrival_us = record.arrival_us
        chosen = record.stream == self.log.streams[0] and self.subject.choice.takes(identity)
        if chosen:
            served = self.log.row_of(identity)
            chosen = compares and self._whole_from_us is not None and record.event_time_us >= self._whole_from_us
            if chosen:
                self._compare(record, identity, entry, served)
        self._reference.apply(record)
        return chosen

    def _compare(self, record: Applied, identity: str, entry: Entry, served: msgspec.Raw | None) -> None:
        """Hold the row of a spine record against the reference, before the record itself is applied."""
        count = len(self._names)
        if served is None:
            if self.log.holds_rows_of(entry.number):
                about = f"no row was published for it, and {self.subject.label} has gone on past {_until(entry)}"
                self._count(1, count, count, Difference(spine_id=identity, about=about))
            return
        values = _values(served)
        if values is None or len(values) != count:
            about = f"its row is no vector of {count} values: {bytes(served)[:200].decode(errors='replace')}"
            self._count(1, count, count, Difference(spine_id=identity, about=about))
            return
        follows = self._reference.row(record)
        wrong = [place for place in range(count) if not _equal(values[place], follows[place])]
        first = self._difference(record, identity, wrong[0], values, follows) if wrong else None
        self._count(1, count, len(wrong), first)

    def _difference(self, record: Applied, identity: str, place: int, served: Vector, follows: Vector) -> Difference:
        behind = self._reference.behind(record, self._names[place])
        return Difference(
            spine_id=identity,
            about="the value that was published is not the one that follows from the records applied before",
            feature=self._names[place],
            served=served[place],
            recomputed=follows[place],
            records=[_evidence(one) for one in behind[-MOST_RECORDS:]],
            records_in_all=len(behind),
        )

    def _judge_order(self, entry: Entry, taken: int, compares: bool) -> None:
        """Hold the journal's own count against the log, and find out from where on a shortened log is whole again."""
        found = None if self._applied is None else entry.applied - self._applied
        self._applied = entry.applied
        if self._whole_from_us is None:
            if found == taken and self._reach_us is not None:
                self._whole_from_us = self._arrival_us + self.subject.ahead_us + self._reach_us + 1
        elif found != taken and compares:
            about = f"the journal counts {found} records up to {_until(entry)}, the log has {taken} of them"
            self._count(0, 0, 1, Difference(spine_id="", about=about))

    def _close(self, entry: Entry) -> Event | None:
        """End an entry; return the event if there is enough to tell."""
        overdue = self.log.overdue(entry.number)
        compares = entry.number > self.since.entry and self._whole_from_us is not None
        for identity in overdue if compares else ():
            about = f"it has a row, but the journal has no such record up to {_until(entry)}, or it has two rows"
            self._count(1, len(self._names), len(self._names), Difference(spine_id=identity, about=about))
        self.reached_us = entry.envelope.recorded_us
        if not self._has_to_tell(self.reached_us):
            return None
        number = self.since.number + 1
        event = follow(entry.envelope, self._fact(number, entry), source=SOURCE, name=str(number))
        self.since, self._tally = Since(number, entry.number, self.reached_us), Tally()
        self._told_us = self.reached_us
        return event

    def _has_to_tell(self, until_us: int) -> bool:
        """Tell whether an event is due: a difference, many rows, or some and a day since the event before."""
        if self._tally.differing or self._tally.rows >= ROWS_AN_EVENT:
            return True
        return self._tally.rows > 0 and self._told_us is not None and until_us - self._told_us >= AN_EVENT_US

    def _fact(self, number: int, entry: Entry) -> VectorsChecked:
        return VectorsChecked(
            feature_set=self.subject.label,
            definition=self.subject.definition,
            number=number,
            until=_until(entry),
            entry=entry.number,
            fraction=self.subject.choice.fraction,
            rows=self._tally.rows,
            cells=self._tally.cells,
            differing=self._tally.differing,
            first_difference=self._tally.first,
        )

    def _count(self, rows: int, cells: int, differing: int, first: Difference | None) -> None:
        for tally in (self.seen, self._tally):
            tally.count(rows, cells, differing, first)
        if rows and self._told_us is None:
            self._told_us = self._arrival_us


def _until(entry: Entry) -> str:
    return render(entry.envelope.recorded_us)


def _values(served: msgspec.Raw) -> list[float | None] | None:
    try:
        return _read_values(served)
    except NO_DOCUMENT:
        return None


def _equal(served: float | None, follows: float | None) -> bool:
    """Tell whether two values have the same bits."""
    if served is None or follows is None:
        return served is follows
    return struct.pack("<d", served) == struct.pack("<d", follows)


def _evidence(contribution: Contribution) -> Evidence:
    match contribution.place:
        case (str(topic), int(partition), int(number)):
            time = render(contribution.event_time_us)
            return Evidence(
                topic=topic,
                partition=partition,
                offset=number,
                event_time=time,
                value=contribution.value,
                aggregate=contribution.of,
            )
        case place:
            raise ValueError(f"{place!r} is no place of a record")
