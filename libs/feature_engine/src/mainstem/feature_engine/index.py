"""The state of one (stream, key column): its plan, a row for each key, and the pool of rings."""

from collections.abc import Mapping, Sequence
from decimal import Decimal, localcontext
from itertools import accumulate, chain

import numpy as np
from numpy.typing import NDArray

from mainstem.feature_engine import kernel
from mainstem.feature_engine.column_types import ColumnType, Kind
from mainstem.feature_engine.definition import AS_OF, DECAY, Aggregate, Term
from mainstem.feature_engine.kernel import NEVER, NULL, Ints, Plan, Work

_OPS = {
    "count": kernel.ROWS,
    "sum": kernel.SUM,
    "mean": kernel.MEAN,
    "std": kernel.STD,
    "min": kernel.EXTREMUM,
    "max": kernel.EXTREMUM,
    "last": kernel.LAST,
    "age": kernel.AGE,
    "decay_mean": kernel.DECAY,
    "distinct": kernel.DISTINCT,
}
_SIGNS = {"sum": 0, "mean": 0, "std": 0, "min": -1, "max": 1}
"""What is kept of a window for an aggregate: sums (0), or the largest sign * value."""


class Index:
    """Folds the events of one stream, grouped by one key, for the aggregates that read them.

    `aggregates` come with their column in the output. A key's state is one row of integers (see `kernel`) and a ring.
    """

    def __init__(self, aggregates: Sequence[tuple[int, Aggregate]], columns: Mapping[str, ColumnType]) -> None:
        self.terms: list[Term] = list(dict.fromkeys(a.term for _, a in aggregates if a.term is not None))
        self.counted = {a.term.column for _, a in aggregates if a.op == "distinct" and a.term is not None}
        self.outputs = np.array([out for out, _ in aggregates])
        weights = [_weights(a) for _, a in aggregates]
        self.weights = np.array(list(chain.from_iterable(weights)), np.int64)
        self.plan = _plan(
            [a for _, a in aggregates], self.terms, columns, list(accumulate(map(len, weights), initial=0))
        )
        self._template = _template(self.plan, len(self.terms))
        self.keys: Ints = np.empty((0, len(self._template)), np.int64)
        self.pool: Ints = np.empty((0, 1 + len(self.terms)), np.int64)
        self._used = 0

    def fold(self, work: Work, keys: int) -> NDArray[np.float64]:
        """Answer the queries of `work` and apply its updates; keys are below `keys`. Returns a row for each query."""
        if keys > len(self.keys):
            fresh = np.tile(self._template, (max(keys, 2 * len(self.keys)) - len(self.keys), 1))
            self.keys = np.concatenate([self.keys, fresh])
        out = np.empty((len(work.query_at), len(self.outputs)))
        cursor = np.array([0, 0, self._used], np.int64)
        while not kernel.fold(self.plan, self.keys, self.pool, work, cursor, out):
            self.pool = np.concatenate([self.pool, np.zeros((max(1024, len(self.pool)), self.pool.shape[1]), np.int64)])
        self._used = int(cursor[2])
        return out

    def arrays(self) -> list[Ints]:
        """Return the state: the rows of the keys and the pool."""
        return [self.keys, self.pool[: self._used]]

    def restore(self, keys: Ints, pool: Ints) -> None:
        """Take over a state that `arrays` returned."""
        self.keys, self.pool, self._used = keys, pool, len(pool)


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


def _weights(aggregate: Aggregate) -> list[int]:
    return decay_weights(aggregate.half_life, aggregate.span, aggregate.tick) if aggregate.op == DECAY else []


def _plan(
    aggregates: Sequence[Aggregate], terms: list[Term], columns: Mapping[str, ColumnType], tables: list[int]
) -> Plan:
    windows = sorted({a.span for a in aggregates if a.op not in AS_OF})
    kept = sorted({(windows.index(a.span), _column(a, terms), _SIGNS[a.op]) for a in aggregates if a.op in _SIGNS})
    sizes = [kernel.EXTREME if sign else kernel.SUMS for _, _, sign in kept]
    places = list(accumulate(sizes, initial=kernel.HEADS + len(windows)))
    floors = places.pop()
    features: list[list[int]] = []
    for a, table in zip(aggregates, tables, strict=False):
        column = _column(a, terms)
        window = -1 if a.op in AS_OF else windows.index(a.span)
        place = floors + kernel.FLOOR * (column - 1)
        if a.op in _SIGNS:
            place = places[kept.index((window, column, _SIGNS[a.op]))]
        parameter = a.tick if a.op == DECAY else _SIGNS.get(a.op, a.span)
        table = tables[-1] if a.op == "distinct" else table
        features.append([_OPS[a.op], column, window, place, parameter, _scale(a.term, columns), table])
    parts = [[window, column, place, sign] for (window, column, sign), place in zip(kept, places, strict=True)]
    return Plan(np.array(windows, np.int64), np.array(parts, np.int64).reshape(-1, 4), np.array(features, np.int64))


def _column(aggregate: Aggregate, terms: list[Term]) -> int:
    """Return the column of the pool that holds the values of an aggregate; 0, the times, if it needs none."""
    return 0 if aggregate.term is None else 1 + terms.index(aggregate.term)


def _scale(term: Term | None, columns: Mapping[str, ColumnType]) -> int:
    if term is None or term.comparison is not None or columns[term.column].kind is not Kind.FIXED:
        return 1
    return columns[term.column].scale


def _template(plan: Plan, columns: int) -> Ints:
    """Return the row of a key that nothing is known about."""
    sizes = np.where(plan.parts[:, 3] == 0, kernel.SUMS, kernel.EXTREME)
    floors = kernel.HEADS + len(plan.windows) + int(sizes.sum())
    row = np.zeros(floors + kernel.FLOOR * columns, np.int64)
    row[kernel.AT] = NEVER
    row[plan.parts[plan.parts[:, 3] != 0, 2]] = NULL
    row[floors + kernel.TIME :: kernel.FLOOR] = NEVER
    row[floors + kernel.VALUE :: kernel.FLOOR] = NULL
    return row
