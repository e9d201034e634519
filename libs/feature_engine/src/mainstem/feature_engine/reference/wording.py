"""Expressions as a person would write them, for the list of records behind a value."""

from collections.abc import Mapping

_INFIX = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==",
    "ne": "!=", "and": "and", "or": "or",
}  # fmt: skip

_UNITS = {"w": 604_800_000_000, "d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1_000}


def wording(expression: object) -> str:
    """Return an expression of the specification in one line.

    >>> wording({"op": "gt", "args": [{"column": "delay"}, {"number": 155, "scale": 10}]})
    '(delay > 15.5)'
    """
    match expression:
        case Mapping() if "aggregate" in expression:
            return _aggregate(expression)
        case {"local": part, "zone": zone, "of": of}:
            return f"{wording(of)}.local({zone}).{part}"
        case {"op": str(op), "args": [left, right]} if op in _INFIX:
            return f"({wording(left)} {_INFIX[op]} {wording(right)})"
        case {"op": op, "args": [*args]}:
            return f"{op}({', '.join(map(wording, args))})"
        case _:
            return _leaf(expression)


def _leaf(expression: object) -> str:
    match expression:
        case {"column": str(name)}:
            return name
        case {"number": int(number), "scale": int(scale)}:
            return str(number) if scale == 1 else str(number / scale)
        case {"text": str(text)}:
            return repr(text)
        case _:
            raise ValueError(f"{expression!r} is no expression: it must be one that the compiler writes")


def _aggregate(spec: Mapping[str, object]) -> str:
    by, at = spec["by"], spec["at"]
    group = f"{spec['stream']}.by({by})" if by == at else f"{spec['stream']}.by({by}, at={at})"
    value = [wording(spec["value"])] if "value" in spec else []
    spans = [
        f"{name.removesuffix('_us')}={_duration(span)}"
        for name, span in spec.items()
        if name.endswith("_us") and (name, span) != ("hop_us", 0)
    ]
    return f"{group}.{spec['aggregate']}({', '.join([*value, *spans])})"


def _duration(us: object) -> str:
    if not isinstance(us, int):
        return "any"
    return next((f"{us // size}{unit}" for unit, size in _UNITS.items() if us % size == 0), f"{us}us")
