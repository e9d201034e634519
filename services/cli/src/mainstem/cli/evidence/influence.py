"""Which rows a record of a source went into: those whose values rest on it, by the windows that it lies in."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mainstem.cli.evidence.columns import Columns, Ints
from mainstem.feature_engine import CompiledSet
from mainstem.feature_engine.definition import AS_OF
from mainstem.feature_engine.reference import Applied, Reference
from mainstem.feature_engine.reference.aggregates import Aggregate

_NONE: Final = np.empty(0, np.int64)


class Influence:
    """Finds the rows of one feature set that rest on a record.

    A row rests on a record that one of its aggregates counts, and on the one that asked for it. What came too late, or
    has a null where a value is wanted, is counted by none; of `last` and `age` only the record that they give counts.
    """

    def __init__(self, compiled: CompiledSet, columns: Columns) -> None:
        self._spine_name = compiled.spine
        self._columns = columns
        self._spine = columns.streams[compiled.spine]
        self._reading = Reference(compiled.spec)

    def leaves(self, stream: str, leaf: int) -> Ints:
        """Return the leaves of the spine records whose rows rest on a record, rising, given the leaf of its acceptance.

        Empty for a record that the set did not apply.
        """
        row = self._columns.streams[stream].row_of(leaf)
        if row is None:
            return _NONE
        ((position, record),) = self._columns.streams[stream].records(stream, np.array([row]))
        found = [np.array([row])] if stream == self._spine_name else []
        if not self._reading.too_late(record):
            found += self._counting(record, position)
        rows = np.unique(np.concatenate([_NONE, *found]))
        return np.sort(self._spine.places["leaf"][rows])

    def _counting(self, record: Applied, position: int) -> Iterator[Ints]:
        """Yield the rows of the spine at which an aggregate counts a record."""
        for each in self._reading.aggregates:
            if each.stream == record.stream and each.value.read(record.columns) is not None:
                rows = self._spine.after(each.at, record.columns.get(each.by), position)
                rows = rows[self._reached(each, record, rows)]
                if each.op in AS_OF:
                    rows = rows[~self._superseded(each, record, position, rows)]
                yield rows

    def _reached(self, each: Aggregate, record: Applied, rows: Ints) -> NDArray[np.bool_]:
        """Tell at which rows the window of an aggregate reaches back to a record."""
        times, arrivals = (self._spine.places[name][rows] for name in ("time_us", "arrival_us"))
        reached = (times > record.event_time_us) & (times >= arrivals - self._reading.lateness_us)
        if each.reach is not None:
            begins = times - each.reach
            reached &= (begins // each.hop * each.hop if each.hop else begins) <= record.event_time_us
        return np.asarray(reached)

    def _superseded(self, each: Aggregate, record: Applied, position: int, rows: Ints) -> NDArray[np.bool_]:
        """Tell at which rows a newer record of the same key, applied by then, has taken the place of a record."""
        stream = self._columns.streams[each.stream]
        others = stream.of(each.by, record.columns.get(each.by))
        at, since = stream.places["position"][others], stream.places["time_us"][others]
        newer = (since > record.event_time_us) | ((since == record.event_time_us) & (at > position))
        kept = [
            (one.event_time_us, place)
            for place, one in stream.records(each.stream, others[newer])
            if not self._reading.too_late(one) and each.value.read(one.columns) is not None
        ]
        if not kept:
            return np.zeros(len(rows), np.bool_)
        times, places = np.array(sorted(kept), np.int64).T
        first = np.minimum.accumulate(places)
        count = np.searchsorted(times, self._spine.places["time_us"][rows])
        return np.asarray((count > 0) & (first[count - 1] < self._spine.places["position"][rows]))
