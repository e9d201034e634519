"""The state of one (stream, key column): its plan, a row for each key, and the pool of rings."""

from collections.abc import Mapping, Sequence
from decimal import Decimal, localcontext

import numpy as np
from numpy.typing import NDArray

from mainstem.feature_engine import kernel
from mainstem.feature_engine.column_types import ColumnType, Kind
from mainstem.feature_engine.definition import AS_OF, DECAY, Aggregate, Term
from mainstem.feature_engine.kernel import NEVER, NULL, Ints, Plan, Ring, Work

_OPS = {
    "count": kernel.ROWS,
    "sum": kernel.SUM,
    "mean": kernel.MEAN,
    "std": kernel.STD,
    "min": kernel.MIN,
    "max": kernel.MAX,
    "last": kernel.LAST,
    "age": kernel.AGE,
    "decay_mean": kernel.DECAY,
    "distinct": kernel.DISTINCT,
}
_SUMS = frozenset({"sum", "mean", "std"})
_SIGNS = {"min": -1, "max": 1}


class Index:
    """Folds the events of one stream, grouped by one key, for the aggregates that read them.

    `aggregates` come with their column in the output. A key's state is one row of integers (see `kernel`) and a ring.
    """

    def __init__(self, aggregates: Sequence[tuple[int, Aggregate]], columns: Mapping[str, ColumnType]) -> None:
        self.terms: list[Term] = list(dict.fromkeys(a.term for _, a in aggregates if a.term is not None))
        self.counted = {a.term.column for _, a in aggregates if a.op == "distinct" and a.term is not None}
        self.plan = _plan(aggregates, self.terms, columns)
        self._template = _template(self.plan, len(self.terms))
        self.keys: Ints = np.empty((0, len(self._template)), np.int64)
        self.ring = self._pool(0)

    def fold(self, work: Work, keys: int, out: NDArray[np.float64]) -> None:
        """Answer the queries of `work` into `out` and apply its updates; keys are below `keys`."""
        if keys > len(self.keys):
            fresh = np.tile(self._template, (max(keys, 2 * len(self.keys)) - len(self.keys), 1))
            self.keys = np.concatenate([self.keys, fresh])
        cursor = np.zeros(2, np.int64)
        while not kernel.fold(self.plan, self.keys, self.ring, work, cursor, out):
            self._widen()

    def arrays(self) -> list[Ints]:
        """Return the state: rows of keys, times and values of the pool."""
        used = self.ring.used[0]
        return [self.keys, self.ring.times[:used], self.ring.values[:used]]

    def restore(self, arrays: Sequence[Ints]) -> None:
        """Take over a state that `arrays` returned."""
        self.keys, times, values = (array.copy() for array in arrays)
        self.ring = Ring(times, values, np.array([len(times)], np.int64))

    def _widen(self) -> None:
        old, self.ring = self.ring, self._pool(max(1024, 2 * len(self.ring.times)))
        self.ring.times[: len(old.times)] = old.times
        self.ring.values[: len(old.times)] = old.values
        self.ring.used[0] = old.used[0]

    def _pool(self, slots: int) -> Ring:
        return Ring(np.zeros(slots, np.int64), np.zeros((slots, len(self.terms)), np.int64), np.zeros(1, np.int64))


def decay_weights(half_life: int, horizon: int, tick: int) -> list[int]:
    """Return round(2**24 * 2**-(i * tick / half_life)) for each age in ticks; exact, whatever the maths library.

    >>> decay_weights(half_life=2, horizon=4, tick=1)
    [16777216, 11863283, 8388608, 5931642, 4194304]
    """
    with localcontext(prec=40):
        return [
            int((Decimal(2) ** (24 - Decimal(i * tick) / Decimal(half_life))).to_integral_value())
            for i in range(horizon // tick + 1)
        ]


def _plan(aggregates: Sequence[tuple[int, Aggregate]], terms: list[Term], columns: Mapping[str, ColumnType]) -> Plan:
    windows = sorted({a.span for _, a in aggregates if a.op not in AS_OF})
    cells = sorted({(windows.index(a.span), terms.index(a.term)) for _, a in aggregates if a.op in _SUMS and a.term})
    extremes = sorted(
        {(windows.index(a.span), terms.index(a.term), _SIGNS[a.op]) for _, a in aggregates if a.op in _SIGNS and a.term}
    )
    first_extreme = kernel.HEADS + len(windows) + kernel.CELL * len(cells)
    features: list[list[int]] = []
    weights: list[int] = []
    for out, a in aggregates:
        column = -1 if a.term is None else terms.index(a.term)
        window = -1 if a.op in AS_OF else windows.index(a.span)
        place = window
        if a.op in _SUMS:
            place = kernel.HEADS + len(windows) + kernel.CELL * cells.index((window, column))
        if a.op in _SIGNS:
            place = extremes.index((window, column, _SIGNS[a.op]))
        parameter = a.tick if a.op == DECAY else a.span
        features.append([_OPS[a.op], column, place, parameter, _scale(a.term, columns), out, len(weights)])
        if a.op == DECAY:
            weights += decay_weights(a.half_life, a.span, a.tick)
    return Plan(
        windows=_table(windows),
        cells=_table([[w, c, kernel.HEADS + len(windows) + kernel.CELL * i] for i, (w, c) in enumerate(cells)], 3),
        extremes=_table([[w, c, first_extreme + kernel.EXTREME * i, s] for i, (w, c, s) in enumerate(extremes)], 4),
        features=_table(features, 7),
        weights=_table(weights),
        floors=first_extreme + kernel.EXTREME * len(extremes),
        span=max(windows, default=0),
    )


def _scale(term: Term | None, columns: Mapping[str, ColumnType]) -> int:
    if term is None or term.comparison is not None or columns[term.column].kind is not Kind.FIXED:
        return 1
    return columns[term.column].scale


def _template(plan: Plan, columns: int) -> Ints:
    """Return the row of a key that nothing is known about."""
    row = np.zeros(plan.floors + kernel.FLOOR * columns, np.int64)
    row[kernel.AT] = NEVER
    row[plan.extremes[:, 2]] = NULL
    row[plan.floors :: kernel.FLOOR] = NEVER
    row[plan.floors + 1 :: kernel.FLOOR] = NULL
    return row


def _table(rows: Sequence[int] | Sequence[Sequence[int]], width: int | None = None) -> Ints:
    table = np.array(rows, np.int64)
    return table if width is None else table.reshape(-1, width)
