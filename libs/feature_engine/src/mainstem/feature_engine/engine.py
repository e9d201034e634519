"""The engine: a batch of events in, one row of feature values for each spine event out."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mainstem.feature_engine import snapshot
from mainstem.feature_engine.batch import Aggregates, Batch, Rows, Values, check_columns, check_lengths, part
from mainstem.feature_engine.clocks import Clocks
from mainstem.feature_engine.column_types import NULL
from mainstem.feature_engine.columns import Dictionary, instants_of, write_table
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
from mainstem.feature_engine.programs import compile_exact
from mainstem.feature_engine.rows import RowProgram
from mainstem.feature_engine.sharding import Shard, index_name

_MONTH = 30 * 86_400_000_000

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
    One shard of an engine holds the keys that it owns alone, and knows only what these give (`aggregate`).
    """

    def __init__(self, compiled: CompiledSet, shard: Shard | None = None) -> None:
        self.compiled = compiled
        self.applied = dict.fromkeys(compiled.streams, 0)  #: events applied so far, by stream
        self.too_late = dict.fromkeys(compiled.streams, 0)  #: events that came too late, by stream
        #: values outside their range, taken as null, by "stream.column"
        self.out_of_range = {f"{s}.{c}": 0 for s, columns in compiled.streams.items() for c in columns}
        self._streams = list(compiled.streams.items())
        self._domains = domains(compiled.definition)
        self._dictionaries = {name: Dictionary() for name in sorted(set(self._domains.values()))}
        self._indices = _indices(compiled)
        self._period = _period(self._indices, compiled.definition.lateness)
        zones: list[str] = []
        self._terms = [compile_exact(i.terms, self._streams[i.key.stream][1], zones) for i in self._indices]
        self._aggregates = compiled.definition.aggregates
        self._rows = RowProgram(compiled, zones)
        self._clocks = Clocks(zones)
        self._instants = [instants_of(columns) if zones else [] for _, columns in self._streams]
        self._shard = shard
        self._owned: list[NDArray[np.bool_]] = []
        self.reached = NEVER  #: the newest arrival, in µs
        self._bind()

    def process(self, batch: Batch) -> Rows:
        """Answer and apply the events of a batch; raise ValueError, with nothing applied, if its form is wrong."""
        return Rows.joined([(first, self._process(part)) for first, part in self._periods(batch)])

    def _process(self, batch: Batch) -> Rows:
        order, tables = self._take(batch)
        aggregates, _ = self._fold(order, tables, applied=True)
        values = self._rows.values(self._clocks, tables[0], aggregates)
        return Rows(np.flatnonzero(order[0] == 0), values, np.flatnonzero(order[4]))

    def aggregate(self, batch: Batch) -> Aggregates:
        """Answer and apply as `process` does, up to the aggregates; an `Assembler` makes the rows."""
        return Aggregates.joined([(first, self._aggregate(part)) for first, part in self._periods(batch)])

    def _aggregate(self, batch: Batch) -> Aggregates:
        order, tables = self._take(batch)
        values, owned = self._fold(order, tables, applied=True)
        return Aggregates(
            np.flatnonzero(order[0] == 0), values, owned if self._shard else np.ones(values.shape, np.bool_)
        )

    def _periods(self, batch: Batch) -> Iterator[tuple[int, Batch]]:
        """Yield the parts of a batch, each with the place where it begins, and forget old keys between two periods.

        What is forgotten must not hang on where batches are cut, so it is when the arrival passes an instant.
        """
        arrivals = np.asarray(batch.arrival)
        if self._period is None or not len(arrivals) or self._newest(arrivals) == arrivals[-1] // self._period:
            yield 0, batch
            return
        check_lengths(batch, self.compiled.streams)
        self._deal(batch)
        numbers = np.concatenate([[self._newest(arrivals)], arrivals // self._period])
        cuts = np.flatnonzero(np.diff(numbers)).tolist()
        for first, last in pairwise([0, *cuts, len(arrivals)]):
            if first in cuts:
                self._forget(int(arrivals[first] // self._period * self._period))
            if first < last:
                yield first, part(batch, list(self.compiled.streams), first, last)

    def _newest(self, arrivals: Ints) -> int:
        """Return the number of the period that the engine is in, or of that in which a batch begins it."""
        return int(arrivals[0] if self.reached == NEVER else self.reached) // (self._period or 1)

    def _forget(self, instant: int) -> None:
        """Forget keys and texts of which nothing can be asked any more, now that no query lies before an instant."""
        self._sort()
        for index in self._indices:
            index.forget(instant - self.compiled.definition.lateness)
        kept = {name: np.zeros(len(dictionary), np.bool_) for name, dictionary in self._dictionaries.items()}
        for index in self._indices:
            keys, categories = index.known()
            for column, numbers in [(index.by, keys), *categories.items()]:
                kept[self._domains[column]][numbers] = True
        self._renumber({name: dictionary.keep(kept[name]) for name, dictionary in self._dictionaries.items()})

    def _sort(self) -> None:
        """Give the texts numbers in their own order, whatever the order in which they came."""
        self._renumber({name: dictionary.sort() for name, dictionary in self._dictionaries.items()})

    def _renumber(self, numbers: Mapping[str, Ints]) -> None:
        by_column = {column: numbers[domain] for column, domain in self._domains.items()}
        for index in self._indices:
            index.renumber(by_column[index.by], len(self._numbers(index.by)), by_column)
        self._bind()

    def _take(self, batch: Batch) -> tuple[Order, list[Ints]]:
        """Return order and tables of a batch, counted."""
        check_lengths(batch, self.compiled.streams)
        order, counts = self._deal(batch)
        tables = [self._write(number, batch, count) for number, (count, _) in enumerate(counts)]
        for (stream, _), (count, late) in zip(self._streams, counts, strict=True):
            self.applied[stream] += count - late
            self.too_late[stream] += late
        if len(batch.arrival):
            self.reached = int(batch.arrival[-1])
        return order, tables

    def read(self, columns: Mapping[str, Values], event_time: Ints) -> Floats:
        """Return the features of entities at moments, without an event: nothing is applied, counted or learnt.

        `columns` are those of the spine, with a value for each moment; of a text that no event had there is nothing.
        Raises ValueError for a moment before the newest arrival by more than the lateness: what it needs may be gone.
        """
        (spine, kinds), count = self._streams[0], len(event_time)
        check_columns(spine, kinds, columns, count)
        moments = np.ascontiguousarray(event_time, np.int64)
        oldest = max(FIRST_INSTANT, self.reached - self.compiled.definition.lateness)
        if not kernel.between(moments, oldest, LAST_INSTANT):
            raise ValueError(f"moments must lie between {oldest} and {LAST_INSTANT}: what came before may be gone")
        table, _ = write_table(kinds, columns, count, lambda name, texts: self._numbers(name).find(texts))
        self._clocks.note(table, self._instants[0])
        order = (np.zeros(count, np.int8), moments, moments, np.arange(count), np.zeros(count, np.bool_))
        aggregates, _ = self._fold(order, [table] * len(self._streams), applied=False)
        return self._rows.values(self._clocks, table, aggregates)

    def snapshot(self) -> bytes:
        """Return everything the engine knows; equal logs give equal bytes, however they were cut into batches.

        A read leaves windows where it looked, so bytes may differ after one; values never do.
        """
        self._sort()
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
            index.restore(*arrays[3 * number : 3 * number + 3])
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

    def _fold(self, order: Order, tables: Sequence[Ints], *, applied: bool) -> tuple[Floats, NDArray[np.bool_]]:
        """Return the aggregates of each event of the spine and, for a shard, which of them it can know."""
        spine = tables[0]
        aggregates = np.empty((len(spine), len(self._aggregates)))
        owned = np.ones(aggregates.shape if self._shard else 0, np.bool_)
        for number, (index, terms) in enumerate(zip(self._indices, self._terms, strict=True)):
            asked, events = spine, tables[index.key.stream]
            if len(asked) or len(events):
                if self._shard is not None:
                    asked, events, mine = self._share(number, asked, events)
                    owned[:, index.outputs] = mine[:, np.newaxis]
                index.grow(len(self._numbers(index.by)))
                index.fold(terms.program(self._clocks), (order, asked, events, aggregates), applied=applied)
        return aggregates, owned

    def _share(self, number: int, spine: Ints, events: Ints) -> tuple[Ints, Ints, NDArray[np.bool_]]:
        """Return the tables without the keys that another shard owns, and which lines of the spine's are ours."""
        index = self._indices[number]
        owned = self._owned_keys(number)
        mine = owned[spine[:, index.key.at].clip(-1)]
        ours = owned[events[:, index.key.by].clip(-1)]
        asked, told = spine.copy(), events.copy()
        asked[~mine, index.key.at] = NULL
        told[~ours, index.key.by] = NULL
        return asked, told, mine

    def _owned_keys(self, number: int) -> NDArray[np.bool_]:
        """Return for each key of an index, and last for no key, whether it is this shard's."""
        index, texts = self._indices[number], self._numbers(self._indices[number].by)
        known = self._owned[number][:-1]
        if self._shard is not None and len(self._owned[number]) != len(texts) + 1:
            keys = [*texts.texts[len(known) :], None]
            found = [self._shard.owns(index.name, key) for key in keys]
            self._owned[number] = np.concatenate([known, np.array(found, np.bool_)])
        return self._owned[number]

    def _numbers(self, column: str) -> Dictionary:
        return self._dictionaries[self._domains[column]]

    def _bind(self) -> None:
        """Tell the programs the numbers of the texts that they compare with; forget whose the keys were."""
        self._owned = [np.empty(0, np.bool_) for _ in self._indices]
        for code in (*self._terms, self._rows.code):
            code.bind(lambda column, text: int(self._numbers(column).encode([text])[0]))


def _period(indices: Sequence[Index], lateness: int) -> int | None:
    """Return how often old keys are forgotten, in µs: not so often that it costs; None when none ever are."""
    reaches = [index.reach for index in indices if index.reach is not None]
    return max(_MONTH, 4 * (max(reaches) + lateness)) if reaches else None


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
        key = Key(*place, compiled.definition.lateness)
        indices.append(Index((index_name(aggregates[0][1]), by), key, aggregates, columns))
    return indices
