"""Feature rows and labels as the log has them, read once and kept: the next dataset reads only what is new."""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from mainstem.bus.identity import LogIdentity
from mainstem.events.data import ProgressReached, RecordAccepted
from mainstem.events.features import RowComputed
from mainstem.events.fence import Fence
from mainstem.events.instants import NEVER, render
from mainstem.events.record import Record
from mainstem.feature_engine import CompiledSet
from mainstem.project.contract import SourceContract
from mainstem.project.definition import ProjectDefinition
from mainstem.project.model import Label, ModelDefinition
from mainstem.project.records import Decoder
from mainstem.training.domain import PartitionRead, Positions, Ranges, TopicRead
from mainstem.training.history.wire import (
    Headers,
    Ints,
    Pair,
    Row,
    Stamps,
    accepted,
    announced,
    feature_rows,
    leave_out,
    of_definition,
    readable,
)
from mainstem.training.ports import NotReached

Partition = tuple[str, int]

_PROGRESS = ProgressReached.TYPE.encode()
_ROW_TYPE = RowComputed.TYPE.encode()
_ACCEPTED_TYPE = RecordAccepted.TYPE.encode()


@dataclass(frozen=True, slots=True)
class Subject:
    """What a history is of: the rows of one feature set, and the labels of one source by its contract."""

    feature_set: CompiledSet
    label: Label
    contract: SourceContract
    #: The topics in which no progress is announced.
    live: frozenset[str]

    @classmethod
    def of(cls, definition: ProjectDefinition, model: ModelDefinition) -> Self:
        """Return what a model learns from."""
        compiled = definition.feature_sets[model.feature_set].compiled
        contract = definition.sources[model.label.source]
        announced = {
            RowComputed.topic_of(compiled.label): any(definition.sources[name].replay for name in compiled.streams)
        }
        announced[f"evt.data.{contract.name}"] = contract.replay
        return cls(compiled, model.label, contract, frozenset(name for name, says in announced.items() if not says))

    @property
    def rows_topic(self) -> str:
        """Return the topic of the feature rows."""
        return RowComputed.topic_of(self.feature_set.label)

    @property
    def label_topic(self) -> str:
        """Return the topic of the labels."""
        return f"evt.data.{self.label.source}"


@dataclass(slots=True)
class _Place:
    """What was read of a partition."""

    #: Offset of every record that lies in it.
    offsets: "array[int]" = field(default_factory=lambda: array("q"))
    #: Instants announced, and for each the offset after the marker that announced it first; both rise.
    passed: list[tuple[int, int]] = field(default_factory=list)

    @property
    def next_offset(self) -> int:
        return self.offsets[-1] + 1 if self.offsets else 0

    @property
    def through(self) -> int:
        return self.passed[-1][0] if self.passed else NEVER

    def read_before(self, offset: int) -> PartitionRead:
        return PartitionRead(offset, bisect_left(self.offsets, offset))


@dataclass(slots=True)
class _Read:
    """What was read of one topic, batch by batch."""

    stamps: list[Stamps] = field(default_factory=list)
    entities: list[list[str]] = field(default_factory=list)
    #: Of rows alone.
    spine_ids: list[list[str]] = field(default_factory=list)
    values: list[NDArray[np.float64]] = field(default_factory=list)

    def ints(self, name: str) -> Ints:
        """Return one of the arrays of the stamps over all batches."""
        return np.concatenate([np.empty(0, np.int64), *(getattr(stamps, name) for stamps in self.stamps)])

    def before(self, cut_us: int, ends: Mapping[int, int]) -> NDArray[np.bool_]:
        """Tell of each record whether it was recorded before the cut and stands before the end of its partition."""
        limits = np.array([ends[partition] for partition in sorted(ends)], np.int64)
        partitions = self.ints("partitions")
        return np.asarray((self.ints("recorded") < cut_us) & (self.ints("offsets") < limits[partitions]))


class _Truths(NamedTuple):
    """What was said of an entity: when each truth became known, rising, and the truth."""

    known_us: list[int]
    true: list[bool]


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows recorded in a span whose label came in time and before the cut; sorted by recorded time, then id."""

    ids: list[str]
    #: Ids of the accepted records that the rows are of: the same in every feature set with that spine.
    spine_ids: list[str]
    entities: list[str]
    recorded_us: Ints
    time_us: Ints
    x: NDArray[np.float64]
    y: Ints
    unlabelled: int
    positions: Positions


class History:
    """Rows and labels of a subject, as the log has them.

    Promise: a dataset is a function of the log alone, whatever the polls, and whatever was read for another before.
    Where progress is announced it is one of the log's beginning up to the markers that pass the cut, so nothing that
    comes later can change it. In a live topic it is one of all that the topic holds of the time before the cut.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self._decoder = Decoder(subject.contract)
        #: What stands in a row of this set, as our own service writes it; within a text the quotes would be escaped.
        self._as_written = f'"definition":"{subject.feature_set.id}"'.encode()
        self._identity: LogIdentity | None = None
        self._forget()

    def _forget(self) -> None:
        self._fence = Fence()
        self._places: dict[Partition, _Place] = {}
        self._rows = _Read()
        self._labels = _Read()

    @property
    def topics(self) -> list[str]:
        """Return the topics that are read."""
        return [self.subject.rows_topic, self.subject.label_topic]

    def begin(self, identity: LogIdentity, partitions: Iterable[Partition]) -> None:
        """Note which log is read, in which partitions; what was read of another one is forgotten."""
        if identity != self._identity:
            self._forget()
            self._identity = identity
        for place in partitions:
            self._places.setdefault(place, _Place())

    def offsets(self) -> dict[Partition, int]:
        """Return where to go on reading each partition."""
        return {place: read.next_offset for place, read in self._places.items()}

    def missing(self, cut_us: int, ends: Mapping[Partition, int]) -> str | None:
        """Tell what keeps a dataset of the cut from being complete; None when nothing before it is still to come.

        A source that announces progress shows it by a marker; a live one is taken to its end, `ends`.
        """
        for place, read in self._places.items():
            if place[0] not in self.subject.live:
                if read.through < cut_us - 1:
                    return self._why(place, cut_us)
            elif read.next_offset < ends[place]:
                return f"{place[0]}/{place[1]} was read up to {read.next_offset} of {ends[place]}; it is read again"
        return None

    def _why(self, place: Partition, cut_us: int) -> str:
        reached = self._places[place].through
        announced = "nothing" if reached == NEVER else f"all before {render(reached)}"
        where = f"{place[0]}/{place[1]}"
        return f"{where} has announced {announced}, the cut is {render(cut_us)}; the source must announce it"

    def take(self, records: Sequence[Record]) -> None:
        """Take records, each partition's in the order of their offsets, from where `offsets` says."""
        for record in records:
            self._places[record.topic, record.partition].offsets.append(record.offset)
        fresh, headers = self._fence.admit([record for record in records if not self._is_of_another_set(record)])
        rows, labels = [], []
        for record, found in zip(fresh, headers, strict=True):
            kind = found.get("ce_type")
            if kind == _PROGRESS:
                self._pass(record, found)
            elif kind == _ROW_TYPE and record.topic == self.subject.rows_topic:
                rows.append((record, found))
            elif kind == _ACCEPTED_TYPE and record.topic == self.subject.label_topic:
                labels.append((record, found))
            else:
                leave_out(record, f"no feature row and no accepted record, but {kind!r}")
        self._keep_rows(rows)
        self._keep_labels(labels)

    def _is_of_another_set(self, record: Record) -> bool:
        """Tell whether a record is a row of a set that had the label of this one before."""
        if record.topic != self.subject.rows_topic or self._as_written in (record.value or b""):
            return False
        return of_definition(record) not in (None, self.subject.feature_set.id)

    def _pass(self, marker: Record, found: Headers) -> None:
        """Take a marker; in the topic of the rows only one that this very set led to."""
        place = self._places[marker.topic, marker.partition]
        of_rows = marker.topic == self.subject.rows_topic
        if of_rows and self.subject.feature_set.id.encode() not in found.get("ce_causationid", b""):
            return
        until = announced(marker)
        if until is not None and until > place.through:
            place.passed.append((until, marker.offset + 1))

    def _keep_rows(self, pairs: list[Pair]) -> None:
        stamps, found = readable(pairs, self._read_rows)
        if stamps.ids:
            self._rows.stamps.append(stamps)
            self._rows.entities.append([row.entity for row in found])
            self._rows.spine_ids.append([row.spine_id for row in found])
            self._rows.values.append(np.array([row.values for row in found], np.float64))

    def _keep_labels(self, pairs: list[Pair]) -> None:
        stamps, columns = readable(pairs, self._read_labels)
        if stamps.ids:
            self._labels.stamps.append(stamps)
            self._labels.entities.append(list(columns[self.subject.label.key]))
            self._labels.values.append(np.asarray(columns[self.subject.label.column], np.float64))

    def _read_rows(self, values: list[bytes]) -> list[Row]:
        return feature_rows(values, len(self.subject.feature_set.names))

    def _read_labels(self, values: list[bytes]) -> dict[str, Any]:
        return dict(self._decoder.columns(accepted(values)))

    def dataset(self, ranges: Ranges) -> Dataset:
        """Return the rows recorded in the ranges, each with the label that came in time and before their end, the cut.

        Raises NotReached when the log was not read that far.
        """
        cut_us = ranges.evaluation.end_us
        ends = {topic: self._ends(topic, cut_us) for topic in (self.subject.rows_topic, self.subject.label_topic)}
        labels = self._labels_before(cut_us, ends[self.subject.label_topic])
        ids = list(chain.from_iterable(stamps.ids for stamps in self._rows.stamps))
        spine_ids = list(chain.from_iterable(self._rows.spine_ids))
        entities = list(chain.from_iterable(self._rows.entities))
        recorded = self._rows.ints("recorded")
        inside = self._rows.before(cut_us, ends[self.subject.rows_topic]) & (recorded >= ranges.fit.start_us)
        places = zip(self._rows.ints("partitions").tolist(), self._rows.ints("offsets").tolist(), strict=True)
        order = list(zip(recorded.tolist(), ids, places, strict=True))
        chosen = sorted(np.flatnonzero(inside).tolist(), key=order.__getitem__)
        times = self._rows.ints("times")
        found = zip(chosen, (self._truth(labels, entities[i], int(times[i])) for i in chosen), strict=True)
        truths = {i: truth for i, truth in found if truth is not None}
        known = list(truths)
        width = len(self.subject.feature_set.names)
        return Dataset(
            ids=[ids[i] for i in known],
            spine_ids=[spine_ids[i] for i in known],
            entities=[entities[i] for i in known],
            recorded_us=recorded[known],
            time_us=times[known],
            x=np.concatenate([np.empty((0, width)), *self._rows.values])[known],
            y=np.array(list(truths.values()), np.int64),
            unlabelled=len(chosen) - len(known),
            positions=self._positions(ends),
        )

    def _truth(self, labels: Mapping[str, _Truths], entity: str, event_us: int) -> bool | None:
        """Return the label of what happened to an entity at an instant; None when none came in time."""
        truths = labels.get(entity, _Truths([], []))
        place = self.subject.label.last_in_time(truths.known_us, event_us)
        return None if place is None else truths.true[place]

    def _labels_before(self, cut_us: int, ends: Mapping[int, int]) -> Mapping[str, _Truths]:
        """Return the labels of each entity recorded before the cut; a null decides nothing."""
        entities = list(chain.from_iterable(self._labels.entities))
        values = np.concatenate([np.empty(0), *self._labels.values])
        order = np.lexsort([self._labels.ints(name) for name in ("offsets", "partitions", "recorded")])
        usable = order[(self._labels.before(cut_us, ends) & ~np.isnan(values))[order]]
        recorded, above = self._labels.ints("recorded"), values > self.subject.label.above
        labels: dict[str, _Truths] = {}
        for i, known_us, true in zip(usable.tolist(), recorded[usable].tolist(), above[usable].tolist(), strict=True):
            of_entity = labels.setdefault(entities[i], _Truths([], []))
            of_entity.known_us.append(known_us)
            of_entity.true.append(true)
        return labels

    def _ends(self, topic: str, cut_us: int) -> dict[int, int]:
        """Return by partition the offset before which everything of the time before the cut stands."""
        partitions = sorted(partition for name, partition in self._places if name == topic)
        if topic not in self.subject.live:
            return {partition: self._end_announced((topic, partition), cut_us) for partition in partitions}
        read = self._rows if topic == self.subject.rows_topic else self._labels
        known = read.ints("recorded") < cut_us
        found = np.zeros(len(partitions), np.int64)
        np.maximum.at(found, read.ints("partitions")[known], read.ints("offsets")[known] + 1)
        return dict(zip(partitions, found.tolist(), strict=True))

    def _end_announced(self, place: Partition, cut_us: int) -> int:
        passed = self._places[place].passed
        at = bisect_left(passed, cut_us - 1, key=itemgetter(0))
        if at == len(passed):
            raise NotReached(self._why(place, cut_us))
        return passed[at][1]

    def _positions(self, ends: Mapping[str, Mapping[int, int]]) -> Positions:
        if self._identity is None:
            raise NotReached("nothing of the log was read")
        topics = {
            topic: TopicRead(
                self._identity.topics[topic],
                {str(part): self._places[topic, part].read_before(end) for part, end in of_topic.items()},
            )
            for topic, of_topic in ends.items()
        }
        return Positions(self._identity.cluster, topics)
