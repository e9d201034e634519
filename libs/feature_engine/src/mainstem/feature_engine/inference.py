"""What an expression is: number, truth, text or time; exact or float; and within which bounds.

Exact values are integers (a number is stored / scale); bounds are those of the stored integers, by interval arithmetic,
so that nothing the machine computes leaves 64 bits.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import lcm

from mainstem.feature_engine.column_types import EXACT, MAX_SCALE, ColumnType, Kind
from mainstem.feature_engine.definition import Aggregate, Column, Expression, Local, Number, Operation, Text
from mainstem.feature_engine.localtime import FIRST_INSTANT, LAST_INSTANT, PARTS
from mainstem.feature_engine.zones import zone_info

ROOM = 2**62
"""No exact intermediate is larger than this."""

COUNTED = "1"
"""The unit of what is counted."""

MOST = {"hour": 23, "minute_of_day": 1439, "day_of_week": 6, "hour_of_week": 167}

ARITY = {
    **dict.fromkeys(("add", "sub", "mul", "div", "lt", "le", "gt", "ge", "eq", "ne", "and", "or"), 2),
    **dict.fromkeys(("neg", "not", "is_null"), 1),
    **dict.fromkeys(("where", "clip"), 3),
}


_TRUTHS = frozenset({"and", "or", "not"})
_SIGNS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "neg": "-"}


class Unfit(ValueError):
    """An expression that means nothing: the problem, and the fix."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(f"{problem}; {fix}")
        self.problem = problem
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Value:
    """The type of an expression. A float has no bounds; `declared` says whether the bounds were ever narrowed."""

    kind: Kind
    exact: bool = True
    scale: int = 1
    lo: int = 0
    hi: int = 1
    unit: str = ""
    declared: bool = True

    @property
    def magnitude(self) -> int:
        """The largest absolute stored value."""
        return max(abs(self.lo), abs(self.hi))


TRUTH = Value(Kind.BOOLEAN)
TEXT = Value(Kind.CATEGORY)
FLOAT = Value(Kind.FIXED, exact=False)


def infer(expression: Expression, columns: Mapping[str, ColumnType]) -> Value:
    """Return the type of an expression over some columns; raise Unfit for what has none."""
    match expression:
        case Column(name):
            return _column(name, columns)
        case Number(value, scale):
            return Value(Kind.FIXED, True, scale, value, value)
        case Text():
            return TEXT
        case Local(part, zone, of):
            return _local(part, zone, infer(of, columns))
        case Aggregate():
            return FLOAT
        case Operation(op, args):
            if len(args) != ARITY.get(op):
                raise Unfit(f"there is no operation {op} of {len(args)}", f"take one of {', '.join(ARITY)}")
            if all(isinstance(arg, Text | Number) for arg in args):
                raise Unfit(f"{op} of nothing but constants", "write what comes out of it")
            return _operation(op, [infer(arg, columns) for arg in args])


def aligned(values: list[Value]) -> tuple[int, list[int]]:
    """Return the common scale of exact numbers and what to multiply each with."""
    scale = lcm(*(value.scale for value in values))
    return scale, [scale // value.scale for value in values]


def _column(name: str, columns: Mapping[str, ColumnType]) -> Value:
    if name not in columns:
        raise Unfit(f"there is no column {name}", f"declare it, or take one of {', '.join(columns)}")
    kind = columns[name]
    match kind.kind:
        case Kind.FIXED:
            lo, hi = (-EXACT if kind.lo is None else kind.lo), (EXACT if kind.hi is None else kind.hi)
            return Value(kind.kind, True, kind.scale, lo, hi, kind.unit, kind.magnitude is not None)
        case Kind.BOOLEAN:
            return TRUTH
        case Kind.CATEGORY:
            return TEXT
        case Kind.TIME:
            return Value(kind.kind, True, 1, FIRST_INSTANT, LAST_INSTANT)


def _local(part: str, zone: str, of: Value) -> Value:
    if of.kind is not Kind.TIME:
        raise Unfit(f"{_named(of)} has no local time", "take a column declared as time()")
    if part not in PARTS:
        raise Unfit(f"unknown part {part} of a local time", f"take one of {', '.join(PARTS)}")
    try:
        zone_info(zone)
    except KeyError as exc:
        raise Unfit(f"unknown zone {zone!r}", "take a name like 'Europe/Paris'") from exc
    return Value(Kind.FIXED, True, 1, 0, MOST[part])


def _operation(op: str, args: list[Value]) -> Value:
    if op == "is_null":
        return replace(TRUTH, exact=args[0].exact)
    if op in _TRUTHS:
        return _truth(op, args)
    exact = op != "div" and all(arg.exact for arg in args)
    if op in {"lt", "le", "gt", "ge", "eq", "ne"}:
        return _comparison(op, args, exact)
    if op == "where":
        return _choice(args, exact)
    return _calculation(op, args, exact)


def _calculation(op: str, args: list[Value], exact: bool) -> Value:
    if op == "sub" and exact and all(arg.kind is Kind.TIME for arg in args):
        longest = args[0].hi - args[1].lo
        return _bounded(Value(Kind.FIXED, True, 1_000_000, -longest, longest, "s", False))
    for arg in args:
        _need(arg, Kind.FIXED, _SIGNS.get(op, op))
    _one_unit(op, args)
    if not exact:
        return FLOAT
    return _bounded(_ARITHMETIC[op](args))


def _truth(op: str, args: list[Value]) -> Value:
    for arg in args:
        _need(arg, Kind.BOOLEAN, op)
    return replace(TRUTH, exact=all(arg.exact for arg in args))


def _comparison(op: str, args: list[Value], exact: bool) -> Value:
    one, other = args
    if one.kind is not other.kind:
        raise Unfit(f"{_named(one)} cannot be compared with {_named(other)}", "compare things of one kind")
    if one.kind is Kind.CATEGORY and op not in {"eq", "ne"}:
        raise Unfit("categories have no order", "compare them by == or !=")
    if one.kind is Kind.BOOLEAN:
        raise Unfit("truths are not compared", "use &, | and ~")
    _one_unit("compare", args)
    if exact and one.kind is Kind.FIXED:
        _raised(args)
    return replace(TRUTH, exact=exact)


def _choice(args: list[Value], exact: bool) -> Value:
    condition, one, other = args
    _need(condition, Kind.BOOLEAN, "where")
    if one.kind is not other.kind or one.kind not in {Kind.FIXED, Kind.BOOLEAN}:
        raise Unfit(
            f"where() cannot choose between {_named(one)} and {_named(other)}", "give two numbers or two truths"
        )
    _one_unit("choose between", [one, other])
    if one.kind is Kind.BOOLEAN:
        return replace(TRUTH, exact=exact)
    if not exact:
        return FLOAT
    scale, (one, other) = _raised([one, other])
    lo, hi = min(one.lo, other.lo), max(one.hi, other.hi)
    return Value(Kind.FIXED, True, scale, lo, hi, one.unit or other.unit, one.declared and other.declared)


def _sum(args: list[Value]) -> Value:
    scale, (one, other) = _raised(args)
    return _number(args, scale, one.lo + other.lo, one.hi + other.hi)


def _difference(args: list[Value]) -> Value:
    scale, (one, other) = _raised(args)
    return _number(args, scale, one.lo - other.hi, one.hi - other.lo)


def _product(args: list[Value]) -> Value:
    one, other = args
    ends = [a * b for a in (one.lo, one.hi) for b in (other.lo, other.hi)]
    unit = product_unit(one.unit, other.unit)
    return replace(_number(args, one.scale * other.scale, min(ends), max(ends)), unit=unit)


def product_unit(one: str, other: str) -> str:
    """Return the unit of a product: so many pieces at a price are money.

    >>> product_unit("kg", "eur"), product_unit("1", "eur"), product_unit("", "1")
    ('kg·eur', 'eur', '1')
    """
    measured = [unit for unit in (one, other) if unit not in {"", COUNTED}]
    return "·".join(measured) or one or other


def _negative(args: list[Value]) -> Value:
    return _number(args, args[0].scale, -args[0].hi, -args[0].lo)


def _clipped(args: list[Value]) -> Value:
    scale, (value, low, high) = _raised(args)
    if low.lo != low.hi or high.lo != high.hi or low.lo > high.lo:
        raise Unfit("clip() needs two numbers, the smaller first", "write clip(0, 60)")
    lo, hi = (min(max(end, low.lo), high.lo) for end in (value.lo, value.hi))
    return replace(_number(args, scale, lo, hi), declared=True)


_ARITHMETIC: dict[str, Callable[[list[Value]], Value]] = {
    "add": _sum,
    "sub": _difference,
    "mul": _product,
    "neg": _negative,
    "clip": _clipped,
}


def _number(args: list[Value], scale: int, lo: int, hi: int) -> Value:
    unit = next((arg.unit for arg in args if arg.unit), "")
    return Value(Kind.FIXED, True, scale, lo, hi, unit, all(arg.declared for arg in args))


def _raised(args: list[Value]) -> tuple[int, list[Value]]:
    """Return exact numbers at their common scale; none may leave 64 bits on the way."""
    scale, factors = aligned(args)
    return scale, [
        _bounded(replace(arg, scale=scale, lo=arg.lo * factor, hi=arg.hi * factor))
        for arg, factor in zip(args, factors, strict=True)
    ]


def _bounded(value: Value) -> Value:
    if value.scale > MAX_SCALE:
        raise Unfit(f"the scale {value.scale} is beyond 2**30", "lower the scales of the columns")
    if value.magnitude > ROOM:
        fix = "declare narrower lo= and hi=, clip() first, or lower the scales"
        raise Unfit("a value on the way could leave 64 bits", fix)
    return value


def _need(value: Value, kind: Kind, use: str) -> None:
    if value.kind is not kind:
        fix = {
            Kind.FIXED: "take a number, a part of .local(zone) of a time, or where(truth, 1, 0)",
            Kind.BOOLEAN: "take a boolean column or a comparison",
        }
        raise Unfit(f"{use} needs a {_NAMES[kind]}, not {_named(value)}", fix[kind])


def _one_unit(op: str, args: list[Value]) -> None:
    if op in {"mul", "div", "neg"}:
        return
    units = sorted({arg.unit for arg in args if arg.unit})
    if len(units) > 1:
        raise Unfit(f"cannot {op} {' and '.join(units)}", "bring them to one unit first")


_NAMES = {Kind.FIXED: "number", Kind.BOOLEAN: "truth", Kind.CATEGORY: "category", Kind.TIME: "time"}


def _named(value: Value) -> str:
    return f"a {_NAMES[value.kind]}"
