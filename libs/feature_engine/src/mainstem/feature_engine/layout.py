"""Where an index keeps what: the plan of the kernel, laid out from the aggregates that share the index."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from itertools import accumulate, chain

import numpy as np

from mainstem.feature_engine import kernel
from mainstem.feature_engine.column_types import ColumnType
from mainstem.feature_engine.definition import AS_OF, DECAY, Aggregate, Term
from mainstem.feature_engine.kernel import NEVER, NULL, Ints, Plan

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


@dataclass(frozen=True, slots=True)
class Layout:
    """The constant side of an index."""

    terms: list[Term]  #: what the columns of the pool after the time hold
    plan: Plan
    weights: Ints  #: decay weights, one table after another
    template: Ints  #: the row of a key that nothing is known about


def lay_out(aggregates: Sequence[Aggregate], columns: Mapping[str, ColumnType]) -> Layout:
    """Return the layout for aggregates of one stream with these columns; equal windows and sums are kept once."""
    terms = list(dict.fromkeys(a.term for a in aggregates if a.term is not None))
    windows = sorted({a.span for a in aggregates if a.op not in AS_OF})
    kept = sorted({_kept(a, windows, terms) for a in aggregates if a.op in _SIGNS})
    sizes = [kernel.EXTREME if sign else kernel.SUMS for _, _, sign in kept]
    *places, floors = accumulate(sizes, initial=kernel.HEADS + len(windows))
    weights = [decay_weights(a.half_life, a.span, a.tick) if a.op == DECAY else [] for a in aggregates]
    *tables, free = accumulate(map(len, weights), initial=0)
    features = []
    for a, table in zip(aggregates, tables, strict=True):
        window, column, sign = _kept(a, windows, terms)
        place = places[kept.index((window, column, sign))] if a.op in _SIGNS else floors + kernel.FLOOR * (column - 1)
        parameter = sign if a.op in _SIGNS else a.tick if a.op == DECAY else a.span
        start = free if a.op == "distinct" else table
        features.append([_OPS[a.op], column, window, place, parameter, _scale(a.term, columns), start])
    parts = [[window, column, place, sign] for (window, column, sign), place in zip(kept, places, strict=True)]
    plan = (_table(windows), _table(parts).reshape(-1, 4), _table(features))
    return Layout(terms, plan, _table(list(chain.from_iterable(weights))), _template(plan[1], floors, len(terms)))


def decay_weights(half_life: int, horizon: int, tick: int) -> list[int]:
    """Return round(2**24 * 2**-(i * tick / half_life)) for each age in ticks; exact, whatever the maths library.

    >>> decay_weights(half_life=2, horizon=4, tick=1)
    [16777216, 11863283, 8388608, 5931642, 4194304]
    """
    with localcontext(prec=40):
        ages = (Decimal(i * tick) / Decimal(half_life) for i in range(horizon // tick + 1))
        return [int((Decimal(2) ** (24 - age)).to_integral_value()) for age in ages]


def _kept(aggregate: Aggregate, windows: list[int], terms: list[Term]) -> tuple[int, int, int]:
    """Return window (-1: none), column of the pool (0: none) and sign of an aggregate."""
    window = -1 if aggregate.op in AS_OF else windows.index(aggregate.span)
    column = 0 if aggregate.term is None else 1 + terms.index(aggregate.term)
    return window, column, _SIGNS.get(aggregate.op, 0)


def _scale(term: Term | None, columns: Mapping[str, ColumnType]) -> int:
    return columns[term.column].scale if term is not None and term.comparison is None else 1


def _template(parts: Ints, floors: int, columns: int) -> Ints:
    row = np.zeros(floors + kernel.FLOOR * columns, np.int64)
    row[kernel.AT] = NEVER
    row[parts[parts[:, 3] != 0, 2] + kernel.BEST] = NULL
    row[floors + kernel.TIME :: kernel.FLOOR] = NEVER
    row[floors + kernel.VALUE :: kernel.FLOOR] = NULL
    return row


def _table(rows: Sequence[int] | Sequence[Sequence[int]]) -> Ints:
    return np.array(rows, np.int64)
