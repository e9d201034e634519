"""The engine: a batch of events in, one row of feature values for each spine event out."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mainstem.feature_engine import snapshot
from mainstem.feature_engine.batch import Aggregates, Batch, Rows, Values, check_lengths, part
from mainstem.feature_engine.clocks import Clocks
from mainstem.feature_engine.columns import Dictionary, Encoder
from mainstem.feature_engine.compiled import CompiledSet
from mainstem.feature_engine.definition import Aggregate
from mainstem.feature_engine.domains import domains
from mainstem.feature_engine.errors import SnapshotError
from mainstem.feature_engine.index import Index
from mainstem.feature_engine.kernel import fold as kernel
from mainstem.feature_engine.kernel.fields import AT_INDEX, NEVER, PROGRESS, Floats, Ints
from mainstem.feature_engine.kernel.fold import Order
from mainstem.feature_engine.kernel.tables import Tables
from mainstem.feature_engine.layout import Key
from mainstem.feature_engine.localtime import FIRST_INSTANT, LAST_INSTANT
from mainstem.feature_engine.programs import compile_exact
from mainstem.feature_engine.rows import RowProgram
from mainstem.feature_engine.sharding import Shard, index_name

_MONTH = 30 * 86_400_000_000

#: The streams of events that are none.
_NONE = np.empty(0, np.int8)

_WRONG = {
    kernel.WRONG_STREAM: "stream numbers must be below {streams}: they count {names} from 0",
    kernel.WRONG_TIME: "times must lie in the years 1 to 9999: are they in microseconds?",
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
        by_column = {column: self._dictionaries[domain] for column, domain in self._domains.items()}
        self._indices = _indices(compiled)
        self._tables = Tables([index.tables.given for index in self._indices])
        self._progress = np.zeros(PROGRESS, np.int64)
        #: Whether something was begun that did not come to its end.
        self._torn = False
        self._lateness = compiled.definition.lateness
        self._period = _period(self._indices, self._lateness)
        zones: list[str] = []
        self._terms = [compile_exact(i.terms, self._streams[i.key.stream][1], zones) for i in self._indices]
        self._aggregates = compiled.definition.aggregates
        self._rows = RowProgram(compiled, zones)
        self._clocks = Clocks(zones)
        self._encoders = [Encoder(stream, columns, by_column, self._clocks) for stream, columns in self._streams]
        self._width = max(len(columns) for _, columns in self._streams)
        self._shard = shard
        self.reached = NEVER  #: the newest arrival, in µs
        self._bind()

    def __reduce__(self) -> str:  # type: ignore[explicit-override]  # before Python 3.12 it has no name
        """Refuse to be copied: the kernel would find the tables of the original."""
        raise TypeError("an engine cannot be copied or pickled: give its snapshot() to the restore() of another")

    def process(self, batch: Batch) -> Rows:
        """Answer and apply the events of a batch; raise ValueError, with nothing applied, if its form is wrong."""
        return Rows.joined([(first, self._process(part)) for first, part in self._periods(batch)])

    def _process(self, batch: Batch) -> Rows:
        order, events, spine, late = self._take(batch)
        aggregates = self._fold(order, events, len(spine))
        return Rows(spine, self._rows.values(self._clocks, events, spine, aggregates), late.nonzero()[0])

    def aggregate(self, batch: Batch) -> Aggregates:
        """Answer and apply as `process` does, up to the aggregates; an `Assembler` makes the rows."""
        return Aggregates.joined([(first, self._aggregate(part)) for first, part in self._periods(batch)])

    def _aggregate(self, batch: Batch) -> Aggregates:
        order, events, spine, _ = self._take(batch)
        values = self._fold(order, events, len(spine))
        return Aggregates(spine, values, self._mine(events[:, spine]))

    def _periods(self, batch: Batch) -> Iterator[tuple[int, Batch]]:
        """Yield the parts of a batch, each with the place where it begins, and forget old keys between two periods.

        What is forgotten must not hang on where batches are cut, so it is when the arrival passes an instant.
        """
        arrivals = np.asarray(batch.arrival)
        if self._period is None or not len(arrivals) or self._newest(arrivals) == arrivals[-1] // self._period:
            yield 0, batch
            return
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
        self._torn = True
        for index in self._indices:
            index.forget(instant - self._lateness)
        kept = {name: np.zeros(len(dictionary), np.bool_) for name, dictionary in self._dictionaries.items()}
        for index in self._indices:
            keys, categories = index.known()
            for column, numbers in [(index.by, keys), *categories.items()]:
                kept[self._domains[column]][numbers] = True
        self._renumber({name: dictionary.keep(kept[name]) for name, dictionary in self._dictionaries.items()})
        self._torn = False

    def _sort(self) -> None:
        """Give the texts numbers in their own order, whatever the order in which they came."""
        self._torn = True
        self._renumber({name: dictionary.sort() for name, dictionary in self._dictionaries.items()})
        self._torn = False

    def _renumber(self, numbers: Mapping[str, Ints]) -> None:
        by_column = {column: numbers[domain] for column, domain in self._domains.items()}
        for index in self._indices:
            index.renumber(by_column[index.by], len(self._numbers(index.by)), by_column)
        self._bind()

    def _take(self, batch: Batch) -> tuple[Order, Ints, Ints, NDArray[np.bool_]]:
        """Count a batch; return its order, stored values, where the spine's events are, and which are too late."""
        order, places, late, counts = self._deal(batch)
        outside: Counter[str] = Counter()
        events = np.empty((self._width, len(places)), np.int64)
        for (stream, _), encoder, (count, _, end) in zip(self._streams, self._encoders, counts, strict=True):
            if count:
                of_stream = places[end - count : end]
                found = encoder.write(batch.columns[stream], events, of_stream)
                outside.update({f"{stream}.{column}": number for column, number in found.items()})
        self._torn = True
        for column, number in outside.items():
            self.out_of_range[column] += number
        for (stream, _), (count, missed, _) in zip(self._streams, counts, strict=True):
            self.applied[stream] += count - missed
            self.too_late[stream] += missed
        if len(places):
            self.reached = int(order[2][-1])
        return order, events, places[: counts[0][0]], late

    def read(self, columns: Mapping[str, Values], event_time: Ints) -> Floats:
        """Return the features of entities at moments, without an event: nothing is applied, counted or learnt.

        `columns` are those of the spine, with a value for each moment; of a text that no event had there is nothing.
        Raises ValueError for a moment before the newest arrival by more than the lateness: what it needs may be gone.
        """
        self._check_whole()
        encoder, count = self._encoders[0], len(event_time)
        encoder.check(columns, count)
        moments = np.ascontiguousarray(event_time, np.int64)
        oldest = max(FIRST_INSTANT, self.reached - self._lateness)
        if not kernel.between(moments, oldest, LAST_INSTANT):
            raise ValueError(f"moments must lie between {oldest} and {LAST_INSTANT}: what came before may be gone")
        events, places = np.empty((self._width, count), np.int64), np.arange(count)
        if count:
            encoder.write(columns, events, places, learns=False)
        aggregates = self._fold((_NONE, moments, moments), events, count)
        return self._rows.values(self._clocks, events, places, aggregates)

    def snapshot(self) -> bytes:
        """Return everything the engine knows; equal logs give equal bytes, however they were cut into batches.

        A read leaves windows where it looked, so bytes may differ after one; values never do.
        """
        self._check_whole()
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
        for name, texts in header["dictionaries"].items():
            self._dictionaries[name].restore(texts)
        for number, index in enumerate(self._indices):
            index.restore(*arrays[3 * number : 3 * number + 3])
        self._progress[:] = 0
        self._torn = False
        self._bind()

    def state_bytes(self) -> int:
        """Return the size of the numeric state in memory, dictionaries excluded."""
        return sum(index.state_bytes() for index in self._indices)

    def _deal(self, batch: Batch) -> tuple[Order, Ints, NDArray[np.bool_], list[list[int]]]:
        """Return the order of a batch, the places of its events, stream after stream, and which are too late.

        Last comes for each stream how many events there are, how many of them too late, and where their places end.
        """
        self._check_whole()
        check_lengths(batch)
        order = (
            np.ascontiguousarray(batch.stream, np.int8),
            np.ascontiguousarray(batch.event_time, np.int64),
            np.ascontiguousarray(batch.arrival, np.int64),
        )
        places, late = np.empty(len(order[0]), np.int64), np.empty(len(order[0]), np.bool_)
        bounds = FIRST_INSTANT, LAST_INSTANT, self.reached
        counts = np.zeros((len(self._streams), 3), np.int64)
        verdict = kernel.deal(order, self._lateness, bounds, places, late, counts)
        if verdict != kernel.OK:
            names = ", ".join(self.compiled.streams)
            raise ValueError(_WRONG[verdict].format(streams=len(self._streams), names=names))
        told: list[list[int]] = counts.tolist()
        for (stream, _), encoder, (count, _, _) in zip(self._streams, self._encoders, told, strict=True):
            encoder.check(batch.columns.get(stream, {}), count)
        return order, places, late, told

    def _fold(self, order: Order, events: Ints, rows: int) -> Floats:
        """Return the aggregates of each event of the spine."""
        self._torn = True
        if self._shard is not None:
            self._own(self._shard)
        aggregates = np.empty((rows, len(self._aggregates)))
        while lack := kernel.fold(self._tables.given, self._clocks.table, *order, events, aggregates, self._progress):
            index = self._indices[self._progress[AT_INDEX]]
            index.widen(lack, len(self._numbers(index.by)))
        self._torn = False
        return aggregates

    def _check_whole(self) -> None:
        """Raise RuntimeError when a call before was interrupted: nobody knows what it has applied."""
        if self._torn:
            raise RuntimeError("a call before was interrupted within its events; restore a snapshot, or begin anew")

    def _own(self, shard: Shard) -> None:
        """Tell the indices which keys are this shard's, and last whether no key is."""
        for index in self._indices:
            texts, known = self._numbers(index.by), index.owned[:-1]
            if len(known) != len(texts) or not len(index.owned):
                found = [shard.owns(index.name, key) for key in [*texts.texts[len(known) :], None]]
                index.own(np.concatenate([known, np.array(found, np.int64)]))

    def _mine(self, spine: Ints) -> NDArray[np.bool_]:
        """Return which aggregates of each event of the spine this engine can know."""
        mine = np.ones((spine.shape[1], len(self._aggregates)), np.bool_)
        for index in self._indices if self._shard else ():
            mine[:, index.outputs] = index.owned[spine[index.key.at].clip(-1), np.newaxis]
        return mine

    def _numbers(self, column: str) -> Dictionary:
        return self._dictionaries[self._domains[column]]

    def _bind(self) -> None:
        """Tell the programs the numbers of the texts that they compare with; forget whose the keys were."""
        for index, code in zip(self._indices, self._terms, strict=True):
            code.lay(index.tables, self._number)
            index.own(np.empty(0, np.int64))
        self._rows.bind(self._number)

    def _number(self, column: str, text: str) -> int:
        return self._numbers(column).learn(text)


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
