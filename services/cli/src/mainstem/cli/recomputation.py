"""A feature set computed anew from the log by the fold of the stream, and held against what the stream published."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from mainstem.bus.reader import LogReader
from mainstem.cli.labels import Labels
from mainstem.events.errors import Rejected
from mainstem.events.features import RowComputed
from mainstem.events.fence import Fence
from mainstem.events.record import Record, header
from mainstem.features.handlers import journalled
from mainstem.fold.fold import Fold
from mainstem.fold.ordered import Item, Partition
from mainstem.project.records import UNREADABLE

_ROW = RowComputed.TYPE.encode()


class Stretch(NamedTuple):
    """Rows that follow each other in the applied order: spine records, a line of values and a position for each."""

    spine: list[Item]
    values: NDArray[np.float64]
    positions: NDArray[np.int64]


class Recomputation:
    """A feature set computed anew, by the fold of the stream, over what its topics hold at the moment."""

    def __init__(self, kafka: str, fold: Fold, labels: Labels | None = None) -> None:
        self._kafka = kafka
        self._fold = fold
        self._labels = labels
        #: The topics that are read, those of the labels among them.
        self.topics = list(dict.fromkeys([*fold.topics, *([] if labels is None else [labels.topic])]))
        #: By partition the offset after the last record read.
        self.read: dict[Partition, int] = {}
        self._parked = 0

    @property
    def unreadable(self) -> int:
        """Return how many records ingestion never accepted: they are passed over, as the stream passes over them."""
        apart = None if self._labels is None or self._labels.topic in self._fold.topics else self._labels
        return self._parked + (0 if apart is None else apart.unreadable)

    async def stretches(self) -> AsyncIterator[tuple[int, Stretch]]:
        """Fold the accepted records from their beginning to the ends that their topics have now.

        Yields, time after time, how many records were read and the rows that they completed; labels were taken before.
        Records that the stream would still hold back, because a source that announces progress has not passed them, are
        held back here too. Where a source announces nothing the order is that of the journal; behind its end such a
        source counts as read to its own end only after the last record.
        Raises Rejected when a record of a topic is gone: the rows would be others.
        """
        if self._fold.live:
            self._fold.follow(await journalled(self._kafka, self._fold.compiled.id))
        async with LogReader(self._kafka, self.topics) as reader:
            await reader.start()
            check_beginnings(await reader.begins())
            async for records in reader.to_end():
                check_whole(records, self.read)
                self._take(records)
                yield len(records), self._advance()
        self._fold.drained(dict.fromkeys(self._fold.positions, 0))
        yield 0, self._advance()

    def _take(self, records: Sequence[Record]) -> None:
        if self._labels is not None:
            self._labels.take([record for record in records if record.topic == self._labels.topic])
        self._fold.offer([record for record in records if record.topic in self._fold.topics])

    def _advance(self) -> Stretch:
        parts = [self._fold.advance()]
        while self._fold.live and parts[-1].runs != [[]]:
            parts.append(self._fold.advance())  # an entry of the journal at a time
        self._parked += sum(not parked.late for parked in self._fold.parked)
        self._fold.parked.clear()
        spine = [item for part in parts for item in part.spine]
        values, positions = ([getattr(part, name) for part in parts] for name in ("values", "positions"))
        return Stretch(spine, np.concatenate(values), np.concatenate(positions))


def check_beginnings(begins: Mapping[Partition, int]) -> None:
    """Raise Rejected when a partition does not begin with its first record any more, whether it has others or not."""
    for place, offset in sorted(begins.items()):
        if offset > 0:
            raise _lost(place, 0, offset)


def check_whole(records: Sequence[Record], due: dict[Partition, int]) -> None:
    """Raise Rejected when records are gone, before the first of a partition or between two.

    `due` are the offsets that come next by partition, 0 where none is said; they are moved on.
    """
    for record in records:
        place = (record.topic, record.partition)
        expected = due.get(place, 0)
        if record.offset > expected:
            raise _lost(place, expected, record.offset)
        due[place] = max(expected, record.offset + 1)


def _lost(place: Partition, expected: int, found: int) -> Rejected:
    gone = f"{expected} to {found - 1}" if found - expected > 1 else f"{expected}"
    return Rejected(
        f"{place[0]}/{place[1]} has lost what stood at offset {gone}, so values cannot be computed "
        "anew from it; bring back a copy of the topic that is whole, or replay its source on a fresh platform"
    )


class _Payload(msgspec.Struct):
    definition: str
    spine_id: str
    values: list[float | None]


_PAYLOAD = msgspec.json.Decoder(_Payload)


@dataclass(slots=True)
class Published:
    """The rows that the stream published under one definition, second copies among them (ADR 1)."""

    definition: str
    width: int  #: values of a row
    spine_ids: list[str] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)  #: partition and offset
    values: list[NDArray[np.float64]] = field(default_factory=list)
    elsewhere: set[str] = field(default_factory=set)  #: spine records whose row has another definition
    unreadable: list[str] = field(default_factory=list)  #: places of what is called a row and is none; passed over
    first: list[bool] = field(default_factory=list)  #: whether it is the row that readers take, not a second copy
    _fence: Fence = field(default_factory=Fence)

    def take(self, records: Sequence[Record]) -> None:
        """Keep the rows among some records of the set's topic, those of each partition in order."""
        rows = list(self._rows([record for record in records if header(record, "ce_type") == _ROW]))
        ours = [(record, row) for record, row in rows if row.definition == self.definition]
        self.elsewhere.update(row.spine_id for _, row in rows if row.definition != self.definition)
        self.spine_ids += [row.spine_id for _, row in ours]
        self.places += [(record.partition, record.offset) for record, _ in ours]
        self.first += [bool(self._fence.admit([record])[0]) for record, _ in ours]
        if ours:
            self.values.append(np.array([row.values for _, row in ours], np.float64))

    def _rows(self, records: Sequence[Record]) -> Iterator[tuple[Record, _Payload]]:
        """Yield what can be read as a row; note where the others stand."""
        for record in records:
            row = _payload(record)
            if row is None or (row.definition == self.definition and len(row.values) != self.width):
                self.unreadable.append(f"{record.topic}/{record.partition}/{record.offset}")
            else:
                yield record, row


def _payload(record: Record) -> _Payload | None:
    try:
        return _PAYLOAD.decode(record.value or b"")
    except UNREADABLE:
        return None


@dataclass(slots=True)
class Recomputed:
    """The rows of a recomputation in their order."""

    spine_ids: list[str] = field(default_factory=list)
    partitions: list[int] = field(default_factory=list)
    values: list[NDArray[np.float64]] = field(default_factory=list)

    def take(self, stretch: Stretch) -> None:
        """Append rows."""
        self.spine_ids += [headers["ce_id"].decode() for _, headers in stretch.spine]
        self.partitions += [record.partition for record, _ in stretch.spine]
        self.values.append(stretch.values)


class Difference(NamedTuple):
    """One cell that is not the same; None is an unknown value."""

    spine_id: str
    partition: int
    offset: int
    feature: str
    published: float | None
    recomputed: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison found, cell by cell as bits."""

    rows: int
    #: Second copies of rows: no reader takes them, so they do not count as rows or cells, but one that differs is told.
    copies: int
    cells: int
    differing: int
    #: Published rows whose spine record the recomputation does not have, and rows that it has and the stream skipped.
    unknown: list[str]
    missing: list[str]
    #: Places of what is called a row and cannot be read; it is no difference.
    unreadable: list[str]
    first: Difference | None

    @property
    def equal(self) -> bool:
        """Tell whether the stream published exactly what the log gives."""
        return not (self.differing or self.unknown or self.missing)


def compare(published: Published, recomputed: Recomputed, features: Sequence[str]) -> Comparison:
    """Hold every published row against its recomputation; rows behind the last published ones are still to come."""
    number = {spine_id: row for row, spine_id in enumerate(recomputed.spine_ids)}
    rows = np.array([number.get(spine_id, -1) for spine_id in published.spine_ids], np.int64)
    known = np.flatnonzero(rows >= 0)
    was = _table(published.values, len(features))[known]
    now = _table(recomputed.values, len(features))[rows[known]]
    different = np.argwhere(_bits(was) != _bits(now))
    first = None
    if len(different):
        line, column = different[0].tolist()
        at = int(known[line])
        cells = _cell(was[line, column]), _cell(now[line, column])
        first = Difference(published.spine_ids[at], *published.places[at], features[column], *cells)
    unknown = [published.spine_ids[row] for row in np.flatnonzero(rows < 0).tolist()]
    missing = _missing(published, recomputed, rows)
    taken = np.array(published.first, np.bool_)
    counts = int(taken.sum()), int((~taken).sum()), int(taken[known].sum()) * len(features), len(different)
    return Comparison(*counts, unknown, missing, published.unreadable, first)


def _missing(published: Published, recomputed: Recomputed, rows: NDArray[np.int64]) -> list[str]:
    """Return the recomputed rows that nobody published though a later one of their partition was."""
    last: dict[int, int] = {}
    for (partition, _), row in zip(published.places, rows.tolist(), strict=True):
        last[partition] = max(last.get(partition, -1), row)
    there = published.elsewhere.union(published.spine_ids)
    pairs = enumerate(zip(recomputed.spine_ids, recomputed.partitions, strict=True))
    return [spine for row, (spine, partition) in pairs if row < last.get(partition, -1) and spine not in there]


def _table(stretches: Sequence[NDArray[np.float64]], width: int) -> NDArray[np.float64]:
    return np.concatenate([np.empty((0, width)), *stretches])


def _bits(values: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Return the bits of the cells; what is unknown has one form only, as the wire says it by a null."""
    return np.where(np.isnan(values), np.nan, values).view(np.uint64)


def _cell(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)
