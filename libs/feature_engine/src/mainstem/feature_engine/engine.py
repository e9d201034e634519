"""The engine: a batch of events in, one row of feature values for each spine event out."""

from collections.abc import Mapping, Sequence

import numpy as np

from mainstem.feature_engine import snapshot
from mainstem.feature_engine.batch import Batch, Rows, Values, check_columns, check_lengths
from mainstem.feature_engine.clocks import Clocks
from mainstem.feature_engine.column_types import ColumnType, Kind
from mainstem.feature_engine.columns import Dictionary, write_table
from mainstem.feature_engine.compiled import CompiledSet
from mainstem.feature_engine.definition import Aggregate
from mainstem.feature_engine.domains import domains
from mainstem.feature_engine.errors import SnapshotError
from mainstem.feature_engine.index import Index
from mainstem.feature_engine.kernel import fold as kernel
from mainstem.feature_engine.kernel.fields import NEVER, Floats, Ints
from mainstem.feature_engine.kernel.fold import Order
from mainstem.feature_engine.layout import Key
from mainstem.feature_engine.localtime import FIRST_INSTANT, LAST_INSTANT
from mainstem.feature_engine.programs import compile_exact, compile_rows

_WRONG = {
    kernel.NO_STREAM: "stream numbers must be below {streams}: they count {names} from 0",
    kernel.NO_TIME: "times must lie in the years 1 to 9999: are they in microseconds?",
    kernel.FALLING: "arrivals must not fall: put the events in applied order first",
}


class Engine:
    """Folds events in applied order into feature values.

    A value at a spine event is a function of the definition and of the events before it in the applied order, nothing
    else: batches may be cut anywhere, and the engine snapshotted and restored between any two, without changing a bit.
    An event that became known more than the lateness after it happened is counted as too late and not applied; a spine
    event that is too late still gets its row, with all aggregates null.
    """

    def __init__(self, compiled: CompiledSet) -> None:
        self.compiled = compiled
        self.applied = dict.fromkeys(compiled.streams, 0)  #: events applied so far, by stream
        self.too_late = dict.fromkeys(compiled.streams, 0)  #: events that came too late, by stream
        #: values outside their range, taken as null, by "stream.column"
        self.out_of_range = {f"{s}.{c}": 0 for s, columns in compiled.streams.items() for c in columns}
        self._streams = list(compiled.streams.items())
        self._domains = domains(compiled.definition)
        self._dictionaries = {name: Dictionary() for name in sorted(set(self._domains.values()))}
        self._indices = _indices(compiled)
        zones: list[str] = []
        self._terms = [compile_exact(i.terms, self._streams[i.key.stream][1], zones) for i in self._indices]
        self._aggregates = compiled.definition.aggregates
        features = [feature.value for feature in compiled.definition.features]
        self._features = compile_rows(features, self._streams[0][1], zones, self._aggregates)
        self._clocks = Clocks(zones)
        self._instants = [_instants(columns) if zones else [] for _, columns in self._streams]
        self.reached = NEVER  #: the newest arrival, in µs
        self._bind()

    def process(self, batch: Batch) -> Rows:
        """Answer and apply the events of a batch; raise ValueError, with nothing applied, if its form is wrong."""
        check_lengths(batch, self.compiled.streams)
        order, counts = self._deal(batch)
        tables = [self._write(number, batch, count) for number, (count, _) in enumerate(counts)]
        values = self._fold(order, tables, applied=True)
        for (stream, _), (count, late) in zip(self._streams, counts, strict=True):
            self.applied[stream] += count - late
            self.too_late[stream] += late
        if len(batch.arrival):
            self.reached = int(batch.arrival[-1])
        return Rows(np.flatnonzero(order[0] == 0), values, np.flatnonzero(order[4]))

    def read(self, columns: Mapping[str, Values], event_time: Ints) -> Floats:
        """Return the features of entities at moments, without an event: nothing is applied, counted or learnt.

        `columns` are those of the spine, with a value for each moment; of a text that no event had there is nothing.
        Raises ValueError for a moment before the newest arrival by more than the lateness: what it needs may be gone.
        """
        (spine, kinds), count = self._streams[0], len(event_time)
        check_columns(spine, kinds, columns, count)
        moments = np.ascontiguousarray(event_time, np.int64)
        oldest = max(FIRST_INSTANT, self.reached - self.compiled.definition.lateness)
        if count and not (oldest <= moments.min() and moments.max() <= LAST_INSTANT):
            raise ValueError(f"moments must lie between {oldest} and {LAST_INSTANT}: what came before may be gone")
        table, _ = write_table(kinds, columns, count, lambda name, texts: self._numbers(name).find(texts))
        self._clocks.note(table, self._instants[0])
        order = (np.zeros(count, np.int8), moments, moments, np.arange(count), np.zeros(count, np.bool_))
        return self._fold(order, [table] * len(self._streams), applied=False)

    def snapshot(self) -> bytes:
        """Return everything the engine knows; equal logs give equal bytes, however they were cut into batches."""
        numbers = {name: dictionary.sort() for name, dictionary in self._dictionaries.items()}
        by_column = {column: numbers[domain] for column, domain in self._domains.items()}
        for index in self._indices:
            index.renumber(by_column[index.by], by_column)
        self._bind()
        header: snapshot.Header = {
            "feature_set": self.compiled.id,
            "applied": self.applied,
            "too_late": self.too_late,
            "out_of_range": self.out_of_range,
            "reached": self.reached,
            "dictionaries": {name: dictionary.texts for name, dictionary in self._dictionaries.items()},
        }
        return snapshot.pack(header, [array for index in self._indices for array in index.arrays()])

    def restore(self, data: bytes) -> None:
        """Become the engine that wrote `data`; raise SnapshotError if it is damaged or of another feature set."""
        header, arrays = snapshot.unpack(data)
        if header["feature_set"] != self.compiled.id:
            raise SnapshotError(f"the snapshot is of {header['feature_set']}, this engine computes {self.compiled.id}")
        self.applied, self.too_late = header["applied"], header["too_late"]
        self.out_of_range, self.reached = header["out_of_range"], header["reached"]
        self._dictionaries = {name: Dictionary(texts) for name, texts in header["dictionaries"].items()}
        for number, index in enumerate(self._indices):
            index.restore(*arrays[2 * number : 2 * number + 2])
        self._bind()

    def state_bytes(self) -> int:
        """Return the size of the numeric state in memory, dictionaries excluded."""
        return sum(index.state_bytes() for index in self._indices)

    def _deal(self, batch: Batch) -> tuple[Order, list[list[int]]]:
        """Return the order of a batch and, by stream, how many events there are and how many of them too late."""
        size = len(batch.stream)
        order = (
            np.ascontiguousarray(batch.stream, np.int8),
            np.ascontiguousarray(batch.event_time, np.int64),
            np.ascontiguousarray(batch.arrival, np.int64),
            np.empty(size, np.int64),
            np.empty(size, np.bool_),
        )
        bounds = np.array([FIRST_INSTANT, LAST_INSTANT, self.reached], np.int64)
        counts = np.zeros((len(self._streams), 2), np.int64)
        verdict = kernel.deal(order, self.compiled.definition.lateness, bounds, counts)
        if verdict != kernel.OK:
            names = ", ".join(self.compiled.streams)
            raise ValueError(_WRONG[verdict].format(streams=len(self._streams), names=names))
        return order, counts.tolist()

    def _write(self, number: int, batch: Batch, count: int) -> Ints:
        """Return the stored values of a stream's events."""
        stream, kinds = self._streams[number]
        values = batch.columns.get(stream, {})
        table, outside = write_table(kinds, values, count, lambda name, texts: self._numbers(name).encode(texts))
        for column, found in outside.items():
            self.out_of_range[f"{stream}.{column}"] += found
        if count:
            self._clocks.note(table, self._instants[number])
        return table

    def _fold(self, order: Order, tables: Sequence[Ints], *, applied: bool) -> Floats:
        """Return a row of features for each event of the spine."""
        spine = tables[0]
        aggregates = np.empty((len(spine), len(self._aggregates)))
        for index, terms in zip(self._indices, self._terms, strict=True):
            events = tables[index.key.stream]
            if len(spine) or len(events):
                index.grow(len(self._numbers(index.by)))
                index.fold(terms.program(self._clocks), (order, spine, events, aggregates), applied=applied)
        values = np.empty((len(spine), len(self._features.results)))
        code = self._features
        scratch = np.empty(len(code.instructions), np.int64), np.empty(len(code.instructions))
        kernel.finish(code.program(self._clocks), code.literals, spine, aggregates, values, scratch)
        return values

    def _numbers(self, column: str) -> Dictionary:
        return self._dictionaries[self._domains[column]]

    def _bind(self) -> None:
        """Tell the programs the numbers of the texts that they compare with."""
        for code in (*self._terms, self._features):
            code.bind(lambda column, text: int(self._numbers(column).encode([text])[0]))


def _indices(compiled: CompiledSet) -> list[Index]:
    """Return one index for each (stream, by, at) that an aggregate reads, in order of first use."""
    groups: dict[tuple[str, str, str], list[tuple[int, Aggregate]]] = {}
    for number, found in enumerate(compiled.definition.aggregates):
        groups.setdefault((found.stream, found.by, found.at), []).append((number, found))
    names = list(compiled.streams)
    spine = list(compiled.streams[compiled.spine])
    indices = []
    for (stream, by, at), aggregates in groups.items():
        columns = compiled.streams[stream]
        place = names.index(stream), list(columns).index(by), spine.index(at)
        indices.append(Index(by, Key(*place, compiled.definition.lateness), aggregates, columns))
    return indices


def _instants(columns: Mapping[str, ColumnType]) -> list[int]:
    return [number for number, kind in enumerate(columns.values()) if kind.kind is Kind.TIME]
