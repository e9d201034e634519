"""Features written as in features.py, from the definition that services see."""

from mainstem.feature_engine import CompiledSet
from mainstem.feature_engine.definition import (
    AS_OF,
    DECAY,
    Aggregate,
    Column,
    Expression,
    Local,
    Number,
    Operation,
    Text,
)

_SIGNS = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "gt": ">",
    "ge": ">=",
    "lt": "<",
    "le": "<=",
    "eq": "==",
    "ne": "!=",
    "and": "&",
    "or": "|",
}
_UNITS = (("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000))


def expressions(compiled: CompiledSet) -> dict[str, str]:
    """Return each feature as it is computed, by name: `orders.by("shop").count("1h")`."""
    return {feature.name: written(feature.value, compiled.spine) for feature in compiled.definition.features}


def target(compiled: CompiledSet) -> str | None:
    """Return the label of a set in the words of its declaration; None when it declares none."""
    found = compiled.target
    if found is None:
        return None
    value = written(Operation("gt", (Column(found.column), found.above)), found.stream)
    return f'{found.name} = target({value}, on="{found.on}", wait="{duration(found.wait)}")'


def duration(length_us: int) -> str:
    """Return a length of time, whole milliseconds, in its largest whole unit: `90s`, `6h`, `30d`."""
    unit, size_us = next((unit, size_us) for unit, size_us in _UNITS if length_us % size_us == 0)
    return f"{length_us // size_us}{unit}"


def written(expression: Expression, stream: str) -> str:
    """Return an expression over the columns of a stream as an author writes it."""
    match expression:
        case Aggregate():
            return _aggregate(expression)
        case Local(part, zone, of):
            return f'{written(of, stream)}.local("{zone}").{part}'
        case Operation("where", args):
            return f"where({', '.join(written(arg, stream) for arg in args)})"
        case Operation(op, args):
            return _operation(op, [_bracketed(arg, stream) for arg in args])
        case _:
            return _leaf(expression, stream)


def _leaf(expression: Column | Number | Text, stream: str) -> str:
    match expression:
        case Column(name):
            return f"{stream}.{name}"
        case Number(value, scale):
            return f"{value / scale:.15g}"
        case Text(value):
            return repr(value)


def _operation(op: str, args: list[str]) -> str:
    match op, args:
        case "clip", (value, low, high):
            return f"{value}.clip({low}, {high})"
        case "is_null", (value,):
            return f"{value}.is_null()"
        case "neg" | "not", (value,):
            return f"{'-' if op == 'neg' else '~'}{value}"
        case _:
            return f" {_SIGNS[op]} ".join(args)


def _bracketed(expression: Expression, stream: str) -> str:
    text = written(expression, stream)
    return f"({text})" if isinstance(expression, Operation) and expression.op in _SIGNS else text


def _aggregate(found: Aggregate) -> str:
    at = "" if found.at == found.by else f', at="{found.at}"'
    value = [] if found.value is None else [written(found.value, found.stream)]
    return f'{found.stream}.by("{found.by}"{at}).{found.op}({", ".join([*value, *_spans(found)])})'


def _spans(found: Aggregate) -> list[str]:
    span = "None" if found.span is None else f'"{duration(found.span)}"'
    if found.op == DECAY:
        half_life, tick = duration(found.half_life), duration(found.tick)
        return [f'half_life="{half_life}"', f"horizon={span}", f'tick="{tick}"']
    if found.op in AS_OF:
        return [f"ttl={span}"]
    return [f'window({span}, hop="{duration(found.hop)}")' if found.hop else span]
