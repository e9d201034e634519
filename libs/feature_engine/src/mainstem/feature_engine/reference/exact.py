"""Expressions over the columns of one record, exactly: integers over a scale, instants, texts, and null.

An expression is turned into a function of the columns once. Truths are the numbers 1 and 0; null is None.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import isfinite, lcm
from typing import Literal
from zoneinfo import ZoneInfo

from mainstem.feature_engine.zones import zone_info

Json = Mapping[str, object]
Columns = Mapping[str, object]
Stored = int | str | None
Kind = Literal["number", "time", "text"]

COMPARISONS: Mapping[str, Callable[..., bool]] = {
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "eq": operator.eq,
    "ne": operator.ne,
}

MICROSECONDS = 1_000_000
LARGEST = 2**53
"""No stored number is larger, so that each is exact as a float64."""

FIRST_INSTANT = -62_135_510_400 * MICROSECONDS
"""0001-01-02 UTC: before it some place has no calendar."""
LAST_INSTANT = 253_402_214_400 * MICROSECONDS
"""9999-12-31 UTC: after it some place has none any more."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_PARTS: Mapping[str, Callable[[datetime], int]] = {
    "hour": lambda at: at.hour,
    "minute_of_day": lambda at: at.hour * 60 + at.minute,
    "day_of_week": lambda at: at.weekday(),
    "hour_of_week": lambda at: at.weekday() * 24 + at.hour,
}


@dataclass(frozen=True, slots=True)
class Exact:
    """A readable expression: a number is what `read` returns over `scale`, a time counts µs, a text is itself."""

    kind: Kind
    scale: int
    read: Callable[[Columns], Stored]

    def natural(self, stored: Stored) -> float | int | str | None:
        """Return a value that was read as people write it: a number in its unit, by one division."""
        if isinstance(stored, int) and self.kind == "number":
            return quotient(stored, self.scale)
        return stored


def quotient(numerator: int, denominator: int) -> float:
    """Return the float64 of two exact integers: each to the nearest, ties to even, then one division."""
    return float(numerator) / float(denominator)


def exact(expression: object, types: Json) -> Exact:
    """Return the reading of an exact expression over columns of these types; ValueError if it is none."""
    match expression:
        case {"column": str(name)}:
            return _column(name, types[name])
        case {"number": int(number), "scale": int(scale)}:
            return Exact("number", scale, lambda _: number)
        case {"text": str(text)}:
            return Exact("text", 1, lambda _: text)
        case {"local": str(part), "zone": str(zone), "of": of}:
            return Exact("number", 1, _strict(_clock(part, zone_info(zone)), exact(of, types)))
        case {"op": str(op), "args": [*args]} if op in _OPERATIONS:
            return _OPERATIONS[op](*(exact(arg, types) for arg in args))
        case {"op": str(op), "args": [left, right]} if op in COMPARISONS:
            return _compare(COMPARISONS[op], exact(left, types), exact(right, types))
        case _:
            raise ValueError(f"{expression!r} is no exact expression: it must be one that the compiler writes")


def is_exact(expression: object) -> bool:
    """Return whether an expression holds neither an aggregate nor a division."""
    match expression:
        case {"aggregate": _} | {"op": "div"}:
            return False
        case {"op": _, "args": [*args]}:
            return all(is_exact(arg) for arg in args)
        case _:
            return True


def _column(name: str, declared: object) -> Exact:
    match declared:
        case {"type": "fixed", "scale": int(scale), "lo": int() | None as lo, "hi": int() | None as hi}:
            low, high = (-LARGEST if lo is None else lo), (LARGEST if hi is None else hi)
            return Exact("number", scale, lambda columns: _fixed(columns.get(name), scale, low, high))
        case {"type": "boolean"}:
            return Exact("number", 1, lambda columns: _boolean(columns.get(name)))
        case {"type": "time"}:
            return Exact("time", 1, lambda columns: _time(columns.get(name)))
        case {"type": "category"}:
            return Exact("text", 1, lambda columns: text(columns.get(name)))
        case _:
            raise ValueError(f"column {name} has the type {declared!r}: it must be one that the compiler writes")


def _fixed(value: object, scale: int, low: int, high: int) -> int | None:
    if not isinstance(value, int | float):
        return None
    scaled = _float(value) * float(scale)
    stored = round(scaled) if isfinite(scaled) else None
    return stored if stored is not None and low <= stored <= high else None


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _boolean(value: object) -> int | None:
    return int(value == 1) if value in (0, 1) else None


def _time(value: object) -> int | None:
    return value if isinstance(value, int) and FIRST_INSTANT <= value <= LAST_INSTANT else None


def text(value: object) -> str | None:
    """Return the text of a category, or null."""
    return value if isinstance(value, str) else None


def _strict(operation: Callable[..., int], *args: Exact) -> Callable[[Columns], int | None]:
    """Return a function that is null where any argument is."""

    def read(columns: Columns) -> int | None:
        values = [arg.read(columns) for arg in args]
        return None if None in values else operation(*values)

    return read


def _clock(part: str, zone: ZoneInfo) -> Callable[[int], int]:
    return lambda us: _PARTS[part]((_EPOCH + timedelta(microseconds=us)).astimezone(zone))


def _scaled(arg: Exact, scale: int) -> Exact:
    """Return the same numbers at a multiple of their scale."""
    factor = scale // arg.scale
    return Exact("number", scale, _strict(lambda value: value * factor, arg))


def _add(left: Exact, right: Exact) -> Exact:
    scale = lcm(left.scale, right.scale)
    return Exact("number", scale, _strict(operator.add, _scaled(left, scale), _scaled(right, scale)))


def _sub(left: Exact, right: Exact) -> Exact:
    if left.kind == right.kind == "time":
        return Exact("number", MICROSECONDS, _strict(operator.sub, left, right))
    scale = lcm(left.scale, right.scale)
    return Exact("number", scale, _strict(operator.sub, _scaled(left, scale), _scaled(right, scale)))


def _mul(left: Exact, right: Exact) -> Exact:
    return Exact("number", left.scale * right.scale, _strict(operator.mul, left, right))


def _neg(arg: Exact) -> Exact:
    return Exact("number", arg.scale, _strict(operator.neg, arg))


def _clip(arg: Exact, low: Exact, high: Exact) -> Exact:
    scale = lcm(arg.scale, low.scale, high.scale)
    args = (_scaled(each, scale) for each in (arg, low, high))
    return Exact("number", scale, _strict(lambda x, lo, hi: min(max(x, lo), hi), *args))


def _compare(compare: Callable[..., bool], left: Exact, right: Exact) -> Exact:
    if left.kind == "number":
        scale = lcm(left.scale, right.scale)
        left, right = _scaled(left, scale), _scaled(right, scale)
    return Exact("number", 1, _strict(lambda a, b: int(compare(a, b)), left, right))


def _and(*args: Exact) -> Exact:
    def read(columns: Columns) -> int | None:
        values = [arg.read(columns) for arg in args]
        return 0 if 0 in values else None if None in values else 1

    return Exact("number", 1, read)


def _or(*args: Exact) -> Exact:
    def read(columns: Columns) -> int | None:
        values = [arg.read(columns) for arg in args]
        return 1 if any(values) else None if None in values else 0

    return Exact("number", 1, read)


def _not(arg: Exact) -> Exact:
    return Exact("number", 1, _strict(lambda value: 1 - value, arg))


def _is_null(arg: Exact) -> Exact:
    return Exact("number", 1, lambda columns: int(arg.read(columns) is None))


def _where(condition: Exact, first: Exact, second: Exact) -> Exact:
    if first.kind == "number":
        scale = lcm(first.scale, second.scale)
        first, second = _scaled(first, scale), _scaled(second, scale)

    def read(columns: Columns) -> Stored:
        truth = condition.read(columns)
        return None if truth is None else first.read(columns) if truth else second.read(columns)

    return Exact(first.kind, first.scale, read)


_OPERATIONS: Mapping[str, Callable[..., Exact]] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "neg": _neg,
    "clip": _clip,
    "and": _and,
    "or": _or,
    "not": _not,
    "is_null": _is_null,
    "where": _where,
}
