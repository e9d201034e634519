"""The features of entities as the log has them by now; see ADR 23."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from mainstem.events.catalogue import decode
from mainstem.events.errors import Undecodable
from mainstem.events.features import OrderJournalled
from mainstem.events.instants import NEVER, render
from mainstem.events.record import Record
from mainstem.feature_engine.batch import Values
from mainstem.fold.fold import Fold, Stretch
from mainstem.inference.errors import BadRequest, NotReady
from mainstem.project.columns import Column, FixedColumn
from mainstem.project.definition import ProjectDefinition
from mainstem.project.serving import Lookup as Settings
from mainstem.serving.domain import Partition
from mainstem.serving.entities import AsOf, Columns, Entities, Floats

_SECOND_US = 1_000_000


class Lookup:
    """One feature set, folded from what this is given of the log.

    Promise: what `read` gives is what a backfill gives after as many records.
    """

    def __init__(self, project: ProjectDefinition, label: str) -> None:
        compiled = project.feature_sets[label].compiled
        spine = project.sources[compiled.spine]
        self._fold = Fold(compiled, project.sources)
        self._columns = {name: spine.columns[name] for name in compiled.streams[compiled.spine]}
        self._form = _form(self._columns)
        self._announces = {name: project.sources[name].replay for name in compiled.streams}
        self._settings = project.serving.lookup or Settings()
        #: The next entry of the journal.
        self._entry = 0
        self._as_of: AsOf | None = None
        #: Why nothing can be looked up; None when it can.
        self.fault: str | None = "its records are being read"

    @property
    def topics(self) -> list[str]:
        """Return the topics to read; a journal is read from its beginning."""
        return [*self._fold.topics, OrderJournalled.TOPIC] if self._fold.live else self._fold.topics

    @property
    def sources(self) -> list[str]:
        """Return the topics of accepted records among them."""
        return self._fold.topics

    def offsets(self) -> dict[Partition, int]:
        """Return where to go on reading."""
        return {place: position.next_offset for place, position in self._fold.positions.items()}

    def ahead(self) -> list[Partition]:
        """Return the partitions of which nothing more should be read now."""
        return self._fold.ahead()

    def take(self, records: Sequence[Record]) -> None:
        """Apply records, each partition's in order. Raises Gap when some that are due are gone."""
        self._fold.offer([record for record in records if record.topic != OrderJournalled.TOPIC])
        if self._fold.live:
            self._fold.follow([entry for record in records for entry in self._entries(record)])
            self._catch_up()
        else:
            self._note(self._fold.advance())
        self._fold.parked.clear()
        self._as_of = None

    def emptied(self, places: Mapping[Partition, int]) -> None:
        """Note where partitions go on that hold no record. Raises Gap when one that was due is among what is gone."""
        read = {place: offset for place, offset in places.items() if place[0] in self._fold.topics}
        self._fold.emptied(read, time.time_ns() // 1_000)

    def _catch_up(self) -> None:
        """Apply the entries of the journal whose records were all read."""
        while self._fold.follows:
            before = self._fold.journal.number
            self._note(self._fold.advance())
            if self._fold.journal.number == before:
                return

    def _entries(self, record: Record) -> list[OrderJournalled]:
        """Return the next entry of the journal of this set, if a record is that."""
        if record.topic != OrderJournalled.TOPIC or self._fold.compiled.id.encode() not in (record.value or b""):
            return []
        try:
            fact = decode(record).fact
        except Undecodable:
            return []
        known = isinstance(fact, OrderJournalled) and fact.definition == self._fold.compiled.id
        if not (known and isinstance(fact, OrderJournalled) and fact.number == self._entry):
            return []
        self._entry += 1
        return [fact]

    def _note(self, applied: Stretch) -> None:
        """Keep the journal as the feature service does: it says up to where what was journalled is applied."""
        journal, compiled = self._fold.journal, self._fold.compiled
        for (instant_us, _), runs in zip(applied.reached, applied.runs, strict=False):
            journal.extend(runs)
            journal.close(instant_us, compiled.label, compiled.id)
        journal.extend(applied.runs[-1])
        if self._fold.live and journal.open and self._fold.reached is not None:
            journal.close(self._fold.reached, compiled.label, compiled.id, complete=False)

    def snapshot(self) -> bytes:
        """Return everything it knows."""
        return self._fold.snapshot()

    def restore(self, state: bytes) -> None:
        """Go on where `state` was taken; raise SnapshotError when that is of another set."""
        self._fold.restore(state)
        self._entry = self._fold.journal.number
        self._as_of = None

    def entities(self, columns: Columns) -> Entities:
        """Return the entities that are described; raise BadRequest for what describes none."""
        try:
            said = msgspec.structs.astuple(msgspec.convert(columns, self._form))
        except msgspec.ValidationError as fault:
            raise BadRequest(self._complaint(columns) or str(fault)) from fault
        counts = set(map(len, columns.values()))
        if len(counts) != 1:
            told = {name: len(values) for name, values in columns.items()}
            raise BadRequest(f"the columns are of different lengths: {told}; send a value of each for every entity")
        return Entities(counts.pop(), said)

    def _complaint(self, columns: Columns) -> str | None:
        """Return what is wrong with the first column that says something wrong."""
        for name, values in columns.items():
            column = self._columns.get(name)
            if column is None:
                read = ", ".join(self._columns)
                return f"{self._fold.compiled.label} reads no column {name!r} of an entity; it reads: {read}"
            for place, value in enumerate(values):
                complaint = _complaint(column, value)
                if complaint is not None:
                    return f"input {name!r}, entity {place}: {complaint}"
        return None

    def as_of(self) -> AsOf:
        """Return where it stands. Raises NotReady while it cannot answer, and when it must not for its age."""
        if self.fault is not None:
            raise NotReady(f"the features of {self._fold.compiled.label} cannot be looked up: {self.fault}")
        if self._as_of is None or not all(self._announces.values()):
            self._as_of = self._stands()
        if self._as_of.stale and self._settings.stale == "refuse":
            limits, as_of = self._settings.limits, self._as_of
            old = [f"{name}: {_age(as_of, name)}, at most {limits[name] / _SECOND_US:g} s" for name in as_of.stale]
            raise NotReady(f"the newest records behind {as_of.feature_set} are too old: {'; '.join(old)}")
        return self._as_of

    def ages(self) -> Mapping[str, float | None]:
        """Return by source the seconds since its newest record became known; None before the first."""
        return self._ages(self._fold.reached or 0)

    def _ages(self, reached_us: int) -> Mapping[str, float | None]:
        now_us = time.time_ns() // 1_000
        ages: dict[str, float | None] = {}
        for name, newest_us in self._fold.newest().items():
            until_us = reached_us if self._announces[name] else now_us
            ages[name] = None if newest_us == NEVER else max(0, until_us - newest_us) / _SECOND_US
        return ages

    def _stands(self) -> AsOf:
        reached_us = self._fold.reached
        if reached_us is None:
            raise NotReady(f"{self._fold.compiled.label} has applied no record yet; try again when some came in")
        ages = self._ages(reached_us)
        limits = [(name, limit / _SECOND_US) for name, limit in self._settings.limits.items() if name in ages]
        stale = [name for name, limit in limits if (age := ages[name]) is None or age > limit]
        compiled = self._fold.compiled
        return AsOf(compiled.label, compiled.id, render(reached_us), reached_us, self._fold.applied, ages, stale)

    def read(self, asked: Sequence[Entities]) -> Floats:
        """Return float64 [entities, features] of what was described, one after the other, as it stands."""
        total = sum(entities.number for entities in asked)
        columns = {name: _gathered(column, at, asked) for at, (name, column) in enumerate(self._columns.items())}
        return self._fold.read(columns, np.full(total, self.as_of().at_us, np.int64))


def _complaint(column: Column, value: object) -> str | None:
    """Return what is wrong with a value of a tensor."""
    complaint = None if value is None else column.complaint(value)
    if complaint is not None and isinstance(column, FixedColumn) and column.as_fraction(value):
        return f"{value!r} is a floating-point number; send the column as INT64"
    return None if complaint is None else complaint[1]


def _form(columns: Mapping[str, Column]) -> type[msgspec.Struct]:
    """Return what the columns that are said of entities are decoded as: for each the values, or None."""
    lists = [list.__class_getitem__(column.annotation() | None) | None for column in columns.values()]
    names = {f"column_{at}": name for at, name in enumerate(columns)}
    fields = [(name, values, None) for name, values in zip(names, lists, strict=True)]
    return msgspec.defstruct("Said", fields, rename=names, forbid_unknown_fields=True)


def _gathered(column: Column, at: int, asked: Sequence[Entities]) -> Values:
    """Return one column of all entities; of those that nobody spoke of it is null."""
    values: list[Any] = []
    for entities in asked:
        values += entities.columns[at] or [None] * entities.number
    return column.gather(values)


def _age(as_of: AsOf, name: str) -> str:
    age = as_of.ages[name]
    return "no record yet" if age is None else f"{age:g} s"
