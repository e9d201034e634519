"""Durations as people write them (`90s`, `6h`, `30d`) and as the engine counts them: whole microseconds."""

import re

_UNITS = {
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}
_FORM = re.compile(r"(\d+)(ms|s|m|h|d|w)", re.ASCII)


def microseconds(text: str) -> int:
    """Return the duration in microseconds; raise ValueError unless it is a whole number and a unit (ms s m h d w)."""
    form = _FORM.fullmatch(text)
    if form is None:
        raise ValueError(f"{text!r} is not a duration: write a whole number and one of {' '.join(_UNITS)}, like '6h'")
    return int(form[1]) * _UNITS[form[2]]
