"""The engine: a batch of events in, one row of feature values for each spine event out."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mainstem.feature_engine import snapshot
from mainstem.feature_engine.batch import Batch, Rows, validate
from mainstem.feature_engine.column_types import NULL, Kind
from mainstem.feature_engine.columns import Dictionary, Ints, decode, encode_number, evaluate
from mainstem.feature_engine.compiled import CompiledSet
from mainstem.feature_engine.definition import Aggregate, Definition, Feature, Local, Plain
from mainstem.feature_engine.errors import SnapshotError
from mainstem.feature_engine.index import Index
from mainstem.feature_engine.kernel import NEVER, Work
from mainstem.feature_engine.localtime import local_part


@dataclass(frozen=True, slots=True)
class _Part:
    """The events of one stream in a batch: positions, times, stored columns, and which are in time."""

    at: Ints
    times: Ints
    columns: Mapping[str, Ints]
    in_time: NDArray[np.bool_]

    def usable(self, key: str) -> NDArray[np.intp]:
        """Return which events are in time and have a key."""
        return np.flatnonzero(self.in_time & (self.columns[key] != NULL))


class Engine:
    """Folds events in applied order into feature values.

    A value at a spine event is a function of the definition and of the events before it in the applied order, nothing
    else: batches may be cut anywhere, and the engine snapshotted and restored between any two, without changing a bit.
    An event older than the newest of its stream by more than the lateness is counted as too late and not applied;
    a spine event that is too late still gets its row, with all aggregates null.
    """

    def __init__(self, compiled: CompiledSet) -> None:
        self.compiled = compiled
        self.applied = dict.fromkeys(compiled.streams, 0)  #: events applied so far, by stream
        self.too_late = dict.fromkeys(compiled.streams, 0)  #: events that came too late, by stream
        #: values outside their range, taken as null, by "stream.column"
        self.out_of_range = {f"{s}.{c}": 0 for s, columns in compiled.streams.items() for c in columns}
        self._clocks = np.full(len(compiled.streams), NEVER, np.int64)
        self._dictionaries = {name: Dictionary() for name in _categories(compiled)}
        self._indices = _indices(compiled)
        self._empty = np.array([_empty(feature) for feature in compiled.definition.features])

    def process(self, batch: Batch) -> Rows:
        """Answer and apply the events of a batch; raise ValueError, with nothing applied, if its form is wrong."""
        validate(batch, self.compiled.streams)
        stored = {name: self._encode(name, batch) for name in self.compiled.streams}
        horizon = self._horizon(batch)
        parts = {name: self._part(number, name, batch, stored[name]) for number, name in enumerate(stored)}
        spine = parts[self.compiled.spine]
        values = np.tile(self._empty, (len(spine.at), 1))
        for (stream, key), index in self._indices.items():
            work = self._work(index, key, spine, parts[stream], horizon)
            values[spine.usable(key)[:, np.newaxis], index.outputs] = index.fold(work, len(self._dictionaries[key]))
        values[~spine.in_time] = np.nan
        _fill_row_values(self.compiled.definition, spine, values)
        late = np.concatenate([part.at[~part.in_time] for part in parts.values()])
        return Rows(spine.at, values, np.sort(late))

    def snapshot(self) -> bytes:
        """Return everything the engine knows; equal logs give equal bytes, however they were cut into batches."""
        numbers = {name: dictionary.sort() for name, dictionary in self._dictionaries.items()}
        for (_, key), index in self._indices.items():
            index.renumber(numbers[key], numbers)
        header: snapshot.Header = {
            "feature_set": self.compiled.id,
            "applied": self.applied,
            "too_late": self.too_late,
            "out_of_range": self.out_of_range,
            "dictionaries": {name: dictionary.texts for name, dictionary in self._dictionaries.items()},
        }
        return snapshot.pack(header, [self._clocks, *(a for index in self._indices.values() for a in index.arrays())])

    def restore(self, data: bytes) -> None:
        """Become the engine that wrote `data`; raise SnapshotError if it is damaged or of another feature set."""
        header, (clocks, *arrays) = snapshot.unpack(data)
        if header["feature_set"] != self.compiled.id:
            raise SnapshotError(f"the snapshot is of {header['feature_set']}, this engine computes {self.compiled.id}")
        self._clocks = clocks
        self.applied, self.too_late = header["applied"], header["too_late"]
        self.out_of_range = header["out_of_range"]
        self._dictionaries = {name: Dictionary(texts) for name, texts in header["dictionaries"].items()}
        for number, index in enumerate(self._indices.values()):
            index.restore(*arrays[2 * number : 2 * number + 2])

    def state_bytes(self) -> int:
        """Return the size of the numeric state in memory, dictionaries excluded."""
        return sum(array.nbytes for index in self._indices.values() for array in index.arrays())

    def _encode(self, stream: str, batch: Batch) -> dict[str, tuple[Ints, int]]:
        """Return the stored values of each column of a stream and how many of them were out of range."""
        given = batch.columns.get(stream, {})
        return {
            column: (self._dictionaries[column].encode(given.get(column, ())), 0)
            if kind.kind is Kind.CATEGORY
            else encode_number(kind, given.get(column, ()))
            for column, kind in self.compiled.streams[stream].items()
        }

    def _horizon(self, batch: Batch) -> Ints:
        """Return, by position, the time before which no query comes from there on: late spine events are not asked."""
        times = np.where(batch.stream == 0, batch.event_time, self._clocks[0])
        return np.maximum.accumulate(np.maximum(times, self._clocks[0])) - self.compiled.definition.lateness

    def _part(self, number: int, stream: str, batch: Batch, stored: Mapping[str, tuple[Ints, int]]) -> _Part:
        """Advance the clock and the counters of a stream."""
        at = np.flatnonzero(batch.stream == number)
        times = batch.event_time[at]
        newest = np.maximum.accumulate(np.concatenate([self._clocks[number : number + 1], times]))
        in_time = times >= newest[:-1] - self.compiled.definition.lateness
        self._clocks[number] = newest[-1]
        applied = int(np.count_nonzero(in_time))
        self.applied[stream] += applied
        self.too_late[stream] += len(at) - applied
        for column, (_, outside) in stored.items():
            self.out_of_range[f"{stream}.{column}"] += outside
        return _Part(at, times, {column: values for column, (values, _) in stored.items()}, in_time)

    def _work(self, index: Index, key: str, spine: _Part, events: _Part, horizon: Ints) -> Work:
        """Return what an index has to do: ask for each usable spine event, apply each usable event of its stream."""
        asked, told = spine.usable(key), events.usable(key)
        at = events.at[told]
        values = [evaluate(term, events.columns[term.column][told]) for term in index.terms]
        texts = max((len(self._dictionaries[column]) for column in index.counted), default=0)
        return (
            spine.at[asked],
            spine.columns[key][asked],
            spine.times[asked],
            at,
            events.columns[key][told],
            np.stack([events.times[told], *values, horizon[at]], axis=1),
            np.concatenate([index.weights, np.zeros(texts, np.int64)]),
        )


def _categories(compiled: CompiledSet) -> list[str]:
    columns = [item for stream in compiled.streams.values() for item in stream.items()]
    return sorted({name for name, kind in columns if kind.kind is Kind.CATEGORY})


def _indices(compiled: CompiledSet) -> dict[tuple[str, str], Index]:
    """Return one index for each (stream, key) that an aggregate reads, in order of first use."""
    groups: dict[tuple[str, str], list[tuple[int, Aggregate]]] = {}
    for column, feature in enumerate(compiled.definition.features):
        if isinstance(feature, Aggregate):
            groups.setdefault((feature.stream, feature.key), []).append((column, feature))
    return {group: Index(aggregates, compiled.streams[group[0]]) for group, aggregates in groups.items()}


def _empty(feature: Feature) -> float:
    """Return the value over no events."""
    return 0.0 if isinstance(feature, Aggregate) and feature.op in {"count", "sum", "distinct"} else np.nan


def _fill_row_values(definition: Definition, part: _Part, values: NDArray[np.float64]) -> None:
    """Write the features that need nothing but the spine event."""
    columns = definition.streams[0].columns
    for out, feature in enumerate(definition.features):
        if isinstance(feature, Plain):
            scale = 1 if feature.term.comparison else columns[feature.term.column].scale
            values[:, out] = decode(evaluate(feature.term, part.columns[feature.term.column]), scale)
        elif isinstance(feature, Local):
            instants = part.columns[feature.column]
            known = instants != NULL
            values[known, out] = local_part(instants[known], feature.zone, feature.part)
            values[~known, out] = np.nan
