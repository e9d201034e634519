"""The log as the check reads it: accepted records by source place, published rows, and the journal with the order."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from zlib import crc32

import msgspec
import numpy as np
import numpy.typing as npt

from mainstem.events.data import ProgressReached
from mainstem.events.envelope import Envelope, named, read_envelope
from mainstem.events.errors import NO_DOCUMENT
from mainstem.events.features import OrderJournalled, RowComputed
from mainstem.events.fence import read_origin
from mainstem.events.instants import NEVER, parse
from mainstem.events.record import Record
from mainstem.feature_engine.reference.exact import FIRST_INSTANT, LAST_INSTANT
from mainstem.features.history import announced, home, placed

Partition = tuple[str, int]
Headers = dict[str, bytes]

_PROGRESS: Final = ProgressReached.TYPE.encode()
_ROW: Final = RowComputed.TYPE.encode()
_ENTRY: Final = OrderJournalled.TYPE.encode()
_ACCEPTED: Final = "evt.data."


class Accepted(msgspec.Struct, gc=False):
    """An accepted record that waits for its turn; times in µs since 1970, `arrival_us` NEVER where it is unreadable."""

    number: int
    stream: str
    id: str
    event_time_us: int
    arrival_us: int
    payload: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A published row that waits for its spine record."""

    spine_id: str
    partition: int
    values: msgspec.Raw


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the journal; `runs` are lines of (topic index, partition, first and last number).

    One that is complete is followed by a marker behind the rows, any other stands in the log before its rows.
    """

    envelope: Envelope
    number: int
    applied: int
    complete: bool
    topics: list[str]
    runs: npt.NDArray[np.int64]

    def last(self) -> dict[str, int]:
        """Return the highest number that it names of each source partition."""
        places, of = np.unique(self.runs[:, :2], axis=0, return_inverse=True)
        highest = np.full(len(places), -1)
        np.maximum.at(highest, of.reshape(-1), self.runs[:, 3])
        named_places = [f"{self.topics[topic]}/{partition}" for topic, partition in places.tolist()]
        return dict(zip(named_places, highest.tolist(), strict=True))


class _Row(msgspec.Struct, gc=False):
    definition: str
    spine_id: str
    values: msgspec.Raw


class _Journalled(msgspec.Struct):
    definition: str
    number: int
    applied: int
    topics: list[str]
    runs: list[tuple[int, int, int, int]]
    complete: bool = True


_read_row = msgspec.json.Decoder(_Row).decode
_read_entry = msgspec.json.Decoder(_Journalled).decode


@dataclass(frozen=True, slots=True)
class Choice:
    """Which rows are checked: those whose id has a CRC-32 below the fraction of its range; the same in any replay."""

    fraction: float

    def takes(self, spine_id: str) -> bool:
        """Tell whether the row of a spine record is checked."""
        return crc32(spine_id.encode()) < self.fraction * 2**32


@dataclass(slots=True)
class _Marked:
    """A partition of rows: the last marker in it, and up to which entry its rows may be missing from the log."""

    passed: int = -1
    lost: bool = False
    lost_through: int = -1
    #: Chosen rows since the last marker that still wait.
    since: dict[Row, None] = field(default_factory=dict)

    def pass_(self, number: int) -> list[Row]:
        """Take a marker; return the rows that entries up to its own must know.

        The first marker in a partition that has lost its beginning ends what is unknown. A second copy says nothing:
        behind the first one stand rows of later entries by then.
        """
        if number <= self.passed:
            return []
        rows = [] if self.lost else list(self.since)
        if self.lost:
            self.lost, self.lost_through = False, number
        self.passed, self.since = number, {}
        return rows


@dataclass(slots=True)
class Log:
    """What was read and waits: accepted records by source partition, chosen rows by spine record, journal entries.

    Records of a partition must come in their order; second copies under one origin are dropped, and so is what is no
    event of the set. `positions` are the offsets to go on reading from.
    """

    label: str
    definition: str
    streams: Sequence[str]
    partitions: int  #: of the rows
    choice: Choice
    positions: dict[Partition, int] = field(default_factory=dict)
    accepted: dict[str, deque[Accepted]] = field(default_factory=dict)
    rows: dict[str, list[Row]] = field(default_factory=dict)
    #: Whether every partition of accepted records was there from its first record on.
    whole: bool = True
    #: Chosen rows by the entry that must know their spine records, as far as markers say so.
    _dues: dict[int, list[Row]] = field(default_factory=dict)
    _entries: deque[Entry] = field(default_factory=deque)
    _last_entry: int = -1
    _wanted: dict[str, int] | None = None
    _highest: dict[str, int] = field(default_factory=dict)
    #: One after what each partition of accepted records has announced.
    _floors: dict[Partition, int] = field(default_factory=dict)
    #: The highest number of each origin stream of rows, by the partition that they stand in.
    _rows_fence: dict[Partition, int] = field(default_factory=dict)
    _spine: str = field(init=False)
    _origin: str = field(init=False)
    _rows_topic: str = field(init=False)
    _marked: dict[int, _Marked] = field(init=False)
    _takers: Mapping[str, Callable[[Record, Headers], None]] = field(init=False)

    def __post_init__(self) -> None:
        self._spine = f"src.{self.streams[0]}/"
        self._origin = f"features@{self.definition[7:19]}"
        self._rows_topic = RowComputed.topic_of(self.label)
        self._marked = {number: _Marked() for number in range(self.partitions)}
        self._takers = {
            **dict.fromkeys(self.accepted_topics, self._take_accepted),
            OrderJournalled.TOPIC: self._take_entry,
            self._rows_topic: self._take_row,
        }

    @property
    def accepted_topics(self) -> list[str]:
        """Return the topics of the records that are applied."""
        return [f"{_ACCEPTED}{stream}" for stream in self.streams]

    @property
    def told_topics(self) -> list[str]:
        """Return the topics of what the fold says of them: the journal and the rows."""
        return [OrderJournalled.TOPIC, self._rows_topic]

    def __len__(self) -> int:
        """Return how many accepted records wait."""
        return sum(map(len, self.accepted.values()))

    def take(self, records: Sequence[Record]) -> None:
        """Take records of these topics."""
        for record in records:
            place = (record.topic, record.partition)
            if place not in self.positions and record.offset > 0:
                self._begin_late(record)
            self.positions[place] = record.offset + 1
            self._takers[record.topic](record, named(record.headers))

    def _begin_late(self, record: Record) -> None:
        """Note that a partition has lost its beginning."""
        if record.topic.startswith(_ACCEPTED):
            self.whole = False
        elif record.topic == self._rows_topic and record.partition in self._marked:
            self._marked[record.partition].lost = True

    def _take_accepted(self, record: Record, headers: Headers) -> None:
        place = (record.topic, record.partition)
        floor_us = self._floors.get(place, NEVER)
        if headers.get("ce_type") == _PROGRESS:
            self._floors[place] = max(floor_us, announced(record) + 1)
            return
        known = read_origin(headers.get("ce_origin", b""))
        if known is None or known[0] != home(record):
            return
        stream, number = known
        if number > self._highest.get(stream, -1):
            self._highest[stream] = number
            waiting, found = self.accepted.setdefault(stream, deque()), _accepted(record, headers, number, floor_us)
            if found is not None:
                waiting.append(found)

    def _take_row(self, record: Record, headers: Headers) -> None:
        marked, kind = self._marked.get(record.partition), headers.get("ce_type")
        if marked is None:
            return  # nothing is announced there, so nothing there is ever due
        known = read_origin(headers.get("ce_origin", b""))
        if kind == _PROGRESS and known is not None and known[0] == f"{self._origin}#progress":
            self._dues.setdefault(known[1], []).extend(marked.pass_(known[1]))
        elif kind == _ROW:
            try:
                row = _read_row(record.value or b"")
            except NO_DOCUMENT:
                return
            if row.definition == self.definition and self._is_new(known, record.partition):
                self._hold(Row(row.spine_id, record.partition, row.values), marked)

    def _is_new(self, origin: tuple[str, int] | None, partition: int) -> bool:
        """Tell whether a row is no second copy (ADR 1): one in another partition is none, as for any other reader."""
        if origin is None:
            return True
        stream, number = origin
        if number <= self._rows_fence.get((stream, partition), -1):
            return False
        self._rows_fence[stream, partition] = number
        return True

    def _hold(self, row: Row, marked: _Marked) -> None:
        if self.choice.takes(row.spine_id):
            self.rows.setdefault(row.spine_id, []).append(row)
            marked.since[row] = None

    def _take_entry(self, record: Record, headers: Headers) -> None:
        if headers.get("ce_type") != _ENTRY:
            return
        try:
            found, envelope = _read_entry(record.value or b""), read_envelope(record.headers)
            runs = np.array(found.runs, np.int64).reshape(-1, 4)
        except (*NO_DOCUMENT, KeyError, OverflowError):
            return
        known = ((runs[:, 0] >= 0) & (runs[:, 0] < len(found.topics))).all()
        if known and found.definition == self.definition and found.number > self._last_entry:
            self._last_entry = found.number
            self._entries.append(Entry(envelope, found.number, found.applied, found.complete, found.topics, runs))

    def next_entry(self) -> Entry | None:
        """Return the next entry once everything was read that it speaks of, and all rows that are due by then."""
        if not self._entries:
            return None
        if self.starves() or not self._has_rows_of(self._entries[0]):
            return None
        self._wanted = None
        return self._entries.popleft()

    def _has_rows_of(self, entry: Entry) -> bool:
        """Tell whether all rows of an entry were read: a marker says so, or a row of its last record or a later one."""
        if entry.complete:
            return all(marked.passed >= entry.number for marked in self._marked.values())
        spine = [(stream, last) for stream, last in entry.last().items() if stream.startswith(self._spine)]
        # A row stands in the partition of its spine record.
        places = [((f"{self._origin}/{stream}", int(stream.rpartition("/")[2])), last) for stream, last in spine]
        return all(self._rows_fence.get(place, -1) >= last for place, last in places)

    def starves(self) -> bool:
        """Tell whether the next entry waits for accepted records."""
        if self._wanted is None:
            self._wanted = self._entries[0].last() if self._entries else None
        return any(self._highest.get(stream, -1) < last for stream, last in (self._wanted or {}).items())

    def has_all_of(self, entry: Entry) -> bool:
        """Tell whether everything that the set's first entry applied is in the log, wherever that begins."""
        if self.whole:
            return True
        waiting = [(self.accepted.get(stream, deque()), last) for stream, last in entry.last().items()]
        return sum(accepted.number <= last for of, last in waiting for accepted in of) == entry.applied

    def row_of(self, spine_id: str) -> msgspec.Raw | None:
        """Give away the first row of a spine record that waits."""
        rows = self.rows.pop(spine_id, [])
        if len(rows) > 1:
            self.rows[spine_id] = rows[1:]
        if not rows:
            return None
        self._marked[rows[0].partition].since.pop(rows[0], None)
        return rows[0].values

    def holds_rows_of(self, number: int) -> bool:
        """Tell whether the log still has all rows that were published for an entry."""
        return all(not marked.lost and number > marked.lost_through for marked in self._marked.values())

    def overdue(self, number: int) -> list[str]:
        """Give away the spine ids of rows that an entry up to `number` should have known, in the order of the ids."""
        due = [row for entry in [one for one in self._dues if one <= number] for row in self._dues.pop(entry)]
        overdue = {row.spine_id for row in due if row in self.rows.get(row.spine_id, ())}
        for name in overdue:
            self.rows[name] = [row for row in self.rows[name] if row not in due]
            if not self.rows[name]:
                del self.rows[name]
        return sorted(overdue)


def _accepted(record: Record, headers: Headers, number: int, floor_us: int) -> Accepted | None:
    """Return a record as it waits, never before what its partition announced; or None for what is not ingestion's."""
    time_us = _instant(headers.get("ce_time", b""))
    if placed(record, headers) is None or record.value is None or not FIRST_INSTANT <= time_us <= LAST_INSTANT:
        return None
    stream = record.topic[len(_ACCEPTED) :]
    arrival_us = max(floor_us, _instant(headers["ce_recordedtime"]))
    return Accepted(number, stream, headers["ce_id"].decode(), time_us, arrival_us, record.value)


def _instant(text: bytes) -> int:
    try:
        return parse(text.decode())
    except (ValueError, OverflowError):
        return NEVER
