"""Where an index keeps what: the tables of the kernel, laid out from the aggregates that share the index."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import lru_cache
from itertools import accumulate, chain, pairwise

import numpy as np

from mainstem.feature_engine.column_types import ColumnType
from mainstem.feature_engine.definition import AS_OF, DECAY, FOR_EVER, Aggregate, Expression
from mainstem.feature_engine.inference import infer
from mainstem.feature_engine.kernel import fields
from mainstem.feature_engine.kernel.fields import NEVER, NULL, Ints, Plan

MAX_NARROW = 2**31
"""Sums of values up to this size fit into one limb."""

_OPS = {
    "count": fields.ROWS,
    "sum": fields.SUM,
    "mean": fields.MEAN,
    "std": fields.STD,
    "min": fields.EXTREMUM,
    "max": fields.EXTREMUM,
    "last": fields.LAST,
    "age": fields.AGE,
    "decay_mean": fields.DECAY,
    "distinct": fields.DIFFERENT,
}
_WIDE = {"sum": fields.WIDE_SUM, "mean": fields.WIDE_MEAN}
_KEPT = {"sum": fields.COUNTED, "mean": fields.COUNTED, "std": fields.SQUARED, "distinct": fields.DISTINCT}

Window = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Key:
    """What an index belongs to: the number of its stream, its key column there and in the spine, the lateness in µs."""

    stream: int
    by: int
    at: int
    lateness: int


class Layout:
    """The constant side of an index: the aggregates of one stream, each with its column in the output."""

    def __init__(
        self, key: Key, aggregates: Sequence[tuple[int, Aggregate]], columns: Mapping[str, ColumnType]
    ) -> None:
        found = [aggregate for _, aggregate in aggregates]
        #: What the columns of the pool after the time hold; behind them, the running sums of the decayed terms.
        self.terms: list[Expression] = list(dict.fromkeys(a.value for a in found if a.value is not None))
        self._types = [infer(term, columns) for term in self.terms]
        self._spans = {_window(a) for a in found}
        self._windows = sorted({_window(a) for a in found if a.op not in AS_OF})
        self._decayed = list(dict.fromkeys(self._term(a) for a in found if a.op == DECAY))
        self._kinds = self._kinds_of_parts(found)
        self._parts = sorted(self._kinds)
        sizes = (fields.SIZES[self._kinds[part]] for part in self._parts)
        *self._places, self._floors = accumulate(sizes, initial=fields.HEADS + len(self._windows))
        self.width = 1 + len(self.terms) + 2 * len(self._decayed)
        self.plan: Plan = (
            self._index(key, found),
            self._window_table(),
            self._part_table(),
            self._sum_table(),
            self._feature_table(aggregates),
            _table(list(chain.from_iterable(map(_weights, found)))),
        )

    @property
    def reach(self) -> int | None:
        """How far the values look back, in µs; None when one of them looks back without end."""
        reach = max(span + hop for span, hop in self._spans)
        return None if reach >= FOR_EVER else reach

    @property
    def counted(self) -> int:
        """In how many parts different values are counted."""
        return sum(kind == fields.DISTINCT for kind in self._kinds.values())

    @property
    def template(self) -> Ints:
        """The row of a key that nothing is known about."""
        row = np.zeros(self._floors + fields.FLOOR * len(self.terms), np.int64)
        row[fields.AT] = NEVER
        row[self._floors + fields.TIME :: fields.FLOOR] = NEVER
        row[self._floors + fields.VALUE :: fields.FLOOR] = NULL
        return row

    def _term(self, aggregate: Aggregate) -> int:
        return 0 if aggregate.value is None else self.terms.index(aggregate.value)

    def _part(self, aggregate: Aggregate) -> tuple[int, int]:
        return self._windows.index(_window(aggregate)), self._term(aggregate)

    def _kinds_of_parts(self, found: Sequence[Aggregate]) -> dict[tuple[int, int], int]:
        """Return what is kept for each (window, term): squares if asked for, two limbs if one is too small."""
        kinds: dict[tuple[int, int], int] = {}
        for a in found:
            if a.op in _KEPT:
                narrow = self._types[self._term(a)].magnitude <= MAX_NARROW
                kind = _KEPT[a.op] if narrow or a.op == "distinct" else fields.WIDE
                part = self._part(a)
                kinds[part] = max(kind, kinds.get(part, kind))
        return kinds

    def _index(self, key: Key, found: Sequence[Aggregate]) -> Ints:
        reach = max((span + hop for span, hop in self._windows), default=0)
        ops = {a.op for a in found}
        by_largest, by_smallest = not ops.isdisjoint(AS_OF | {"max"}), "min" in ops
        place = [key.stream, key.by, key.at, key.lateness]
        return _table([*place, reach, self._floors, 1 + len(self.terms), int(by_largest), int(by_smallest)])

    def _window_table(self) -> Ints:
        starts = [bisect_left(self._parts, (window,)) for window in range(len(self._windows) + 1)]
        return _table([[*w, *ends] for w, ends in zip(self._windows, pairwise(starts), strict=True)], 4)

    def _part_table(self) -> Ints:
        lines = zip(self._parts, self._places, strict=True)
        return _table([[self._kinds[part], 1 + part[1], place] for part, place in lines], 3)

    def _sum_table(self) -> Ints:
        first = 1 + len(self.terms)
        return _table([[1 + term, first + 2 * i, first + 2 * i + 1] for i, term in enumerate(self._decayed)], 3)

    def _feature_table(self, aggregates: Sequence[tuple[int, Aggregate]]) -> Ints:
        starts = accumulate((len(_weights(a)) for _, a in aggregates), initial=0)
        return _table([self._feature(out, a, start) for (out, a), start in zip(aggregates, starts, strict=False)], 8)

    def _feature(self, out: int, a: Aggregate, table: int) -> list[int]:
        term = self._term(a)
        window = 0 if a.op in AS_OF else self._windows.index(_window(a))
        op, where = _OPS[a.op], self._floors + fields.FLOOR * term
        if a.op in _KEPT:
            where = self._places[self._parts.index(self._part(a))]
            op = _WIDE[a.op] if self._kinds[self._part(a)] == fields.WIDE else op
        elif a.op == DECAY:
            where = self._decayed.index(term)
        scale = self._types[term].scale if a.value is not None else 1
        return [op, 1 + term, window, where, _parameter(a), scale, table, out]


@lru_cache(maxsize=256)
def decay_weights(half_life: int, horizon: int, tick: int) -> tuple[int, ...]:
    """Return round(2**24 * 2**-(i * tick / half_life)) for each age in ticks; exact, whatever the maths library.

    >>> decay_weights(half_life=2, horizon=4, tick=1)
    (16777216, 11863283, 8388608, 5931642, 4194304)
    """
    with localcontext(prec=40):
        ages = (Decimal(i * tick) / Decimal(half_life) for i in range(horizon // tick + 1))
        return tuple(int((Decimal(2) ** (24 - age)).to_integral_value()) for age in ages)


def _weights(a: Aggregate) -> tuple[int, ...]:
    return decay_weights(a.half_life, _window(a)[0], a.tick) if a.op == DECAY else ()


def _window(a: Aggregate) -> Window:
    return (FOR_EVER if a.span is None else a.span), a.hop


def _parameter(a: Aggregate) -> int:
    return {"min": -1, "max": 1, DECAY: a.tick}.get(a.op, _window(a)[0])


def _table(rows: Sequence[int] | Sequence[Sequence[int]], width: int = 0) -> Ints:
    table = np.array(rows, np.int64)
    return table.reshape(-1, width) if width else table
