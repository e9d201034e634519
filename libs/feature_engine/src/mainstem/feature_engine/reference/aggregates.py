"""Aggregates over the records of one stream that share a key, and the records themselves, for as long as one may ask.

Records lie in the order of (event time, position). What no later query can reach is dropped; `last` and `age`, which
may look back for ever, keep the newest record with a value among those dropped.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from functools import lru_cache
from math import sqrt

from mainstem.feature_engine.reference.exact import Exact, Json, Stored, exact, quotient

_ROOM = 8
"""A key with fewer records than this is not searched for what may go."""


@dataclass(frozen=True, slots=True)
class Applied:
    """A record in the applied order; times in µs since 1970-01-01 UTC, columns in their natural units.

    A category is a str, a fixed number a float or int, a time an int in µs, a boolean a bool or 1, 0 and -1 (null).
    None, NaN and a column that is missing are null. `place` is handed back to the caller as it is.
    """

    stream: str
    event_time_us: int
    arrival_us: int
    columns: Mapping[str, object]
    place: object = None


@dataclass(slots=True, eq=False)
class Held:
    """A record that was applied, with the values that were already read from it."""

    record: Applied
    values: dict[str, Stored] = field(default_factory=dict)


Item = tuple[int, int, Held]
"""Event time, position in the applied order, record."""


@dataclass(frozen=True, slots=True)
class Aggregate:
    """An aggregate of the specification; durations in µs, `reach` being the window, the horizon or the ttl."""

    op: str
    stream: str
    by: str
    at: str
    name: str  #: of the value that it reads
    value: Exact
    reach: int | None  #: None: without end
    hop: int = 0
    tick: int = 1
    half_life: int = 1

    def begins(self, t: int) -> int | None:
        """Return the earliest event time that counts at a spine event at `t`, or None if all do."""
        if self.reach is None:
            return None
        begins = t - self.reach
        return begins // self.hop * self.hop if self.hop else begins

    def stored(self, item: Item) -> Stored:
        """Return the value of a record, null or not."""
        values = item[2].values
        if self.name not in values:
            values[self.name] = self.value.read(item[2].record.columns)
        return values[self.name]

    def combine(self, items: Sequence[Item], t: int) -> float | None:
        """Return the aggregate of the records that count at `t`, none of which has a null value."""
        if self.op == "age":
            return quotient(t - items[-1][0], 1_000_000) if items else None
        values = [self.stored(item) for item in items]
        if self.op == "distinct":
            return float(len(set(values)))
        whole = [value for value in values if isinstance(value, int)]
        if self.op == "decay_mean":
            return self._decay_mean([t - item[0] for item in items], whole)
        return _FORMULAS[self.op](whole, self.value.scale)

    def _decay_mean(self, ages: list[int], values: list[int]) -> float | None:
        weights = [_weight(age // self.tick * self.tick, self.half_life) for age in ages]
        total = sum(weights)
        weighted = sum(weight * value for weight, value in zip(weights, values, strict=True))
        return quotient(weighted, self.value.scale * total) if total else None


def aggregate(spec: Json, types: Mapping[str, Json]) -> Aggregate:
    """Return an aggregate of the specification; `types` are the columns of all streams. ValueError if it is none."""
    match spec:
        case {"aggregate": str(op), "stream": str(stream), "by": str(by), "at": str(at)}:
            value = spec.get("value", {"number": 1, "scale": 1})  # what count counts
            reads = (op, stream, by, at, repr(value), exact(value, types[stream]))
        case _:
            raise ValueError(f"{spec!r} is no aggregate: it must be one that the compiler writes")
    match spec:
        case {"window_us": int(window), "hop_us": int(hop)}:
            return Aggregate(*reads, reach=window, hop=hop)
        case {"ttl_us": int() | None as ttl}:
            return Aggregate(*reads, reach=ttl)
        case {"horizon_us": int(horizon), "half_life_us": int(half_life), "tick_us": int(tick)}:
            return Aggregate(*reads, reach=horizon, tick=tick, half_life=half_life)
        case _:
            raise ValueError(f"{spec!r} does not say how far back it looks: it must be one that the compiler writes")


@dataclass(slots=True)
class _Key:
    items: list[Item] = field(default_factory=list)
    newest_dropped: dict[str, Item] = field(default_factory=dict)  #: with a value, by the name of the value
    room: int = _ROOM  #: size at which to look for what may be dropped


class Records:
    """The records of one stream, grouped by one of its categories."""

    def __init__(self, by: str) -> None:
        self.by = by
        self.aggregates: list[Aggregate] = []
        self._keys: dict[str, _Key] = {}

    def __len__(self) -> int:
        return sum(len(key.items) + len(key.newest_dropped) for key in self._keys.values())

    def add(self, text: str, item: Item, horizon: int) -> None:
        """Take a record; no query that counts will come from before `horizon` any more."""
        key = self._keys.get(text)
        if key is None:
            key = self._keys[text] = _Key()
        if key.items and key.items[-1] > item:
            insort(key.items, item)
        else:
            key.items.append(item)
        if len(key.items) >= key.room:
            self._drop(key, horizon)

    def under(self, aggregate: Aggregate, text: str | None, t: int) -> list[Item]:
        """Return the records that the aggregate of a key rests on at a spine event at `t`, in order."""
        key = None if text is None else self._keys.get(text)
        if key is None:
            return []
        if aggregate.op in {"last", "age"}:
            return _newest(aggregate, key, t)
        inside = key.items[_place(key.items, aggregate.begins(t)) : _place(key.items, t)]
        return [item for item in inside if aggregate.stored(item) is not None]

    def _drop(self, key: _Key, horizon: int) -> None:
        """Drop what lies before every window that may still be asked for."""
        looks_back = [each for each in self.aggregates if each.op in {"last", "age"}]
        windows = [each.begins(horizon) for each in self.aggregates if each not in looks_back]
        count = min(_place(key.items, begins) for begins in (horizon, *windows))
        for each in looks_back:
            newest = next((item for item in reversed(key.items[:count]) if each.stored(item) is not None), None)
            if newest is not None:
                key.newest_dropped[each.name] = newest
        del key.items[:count]
        key.room = max(_ROOM, 2 * len(key.items))


def _newest(aggregate: Aggregate, key: _Key, t: int) -> list[Item]:
    """Return the newest record with a value before `t`, unless it is too old."""
    earlier = (key.items[n] for n in range(_place(key.items, t) - 1, -1, -1))
    found = next((item for item in earlier if aggregate.stored(item) is not None), None)
    if found is None:
        found = key.newest_dropped.get(aggregate.name)
    begins = aggregate.begins(t)
    return [] if found is None or (begins is not None and found[0] < begins) else [found]


def _place(items: list[Item], t: int | None) -> int:
    """Return how many records happened before `t`."""
    return 0 if t is None else bisect_left(items, t, key=lambda item: item[0])


@lru_cache(2**16)
def _weight(age: int, half_life: int) -> int:
    """Return 2**24 * 2**-(age / half_life) as the nearest integer, ties to even."""
    whole, rest = divmod(age, half_life)
    with localcontext(prec=60):
        weight = Decimal(2) ** (24 - whole) * Decimal(2) ** -(Decimal(rest) / Decimal(half_life))
        return int(weight.to_integral_value(ROUND_HALF_EVEN))


def _mean(values: list[int], scale: int) -> float | None:
    return quotient(sum(values), len(values) * scale) if values else None


def _std(values: list[int], scale: int) -> float | None:
    n = len(values)
    above = n * sum(value * value for value in values) - sum(values) ** 2
    return sqrt(quotient(above, n * (n - 1) * scale**2)) if n > 1 else None


_FORMULAS: Mapping[str, Callable[[list[int], int], float | None]] = {
    "count": lambda values, _: float(len(values)),
    "sum": lambda values, scale: quotient(sum(values), scale),
    "mean": _mean,
    "std": _std,
    "min": lambda values, scale: quotient(min(values), scale) if values else None,
    "max": lambda values, scale: quotient(max(values), scale) if values else None,
    "last": lambda values, scale: quotient(values[-1], scale) if values else None,
}
