"""Constants as an author writes them, and as a definition holds them."""

from decimal import Decimal
from typing import TypeGuard

from mainstem.feature_engine.definition import Number, Text


def number(value: float) -> Number:
    """Return a number as written, in lowest terms of ten; raise ValueError for what is no finite number.

    >>> number(15.5), number(300), number(0.001)
    (Number(value=155, scale=10), Number(value=300, scale=1), Number(value=1, scale=1000))
    """
    written = Decimal(str(value))
    if not written.is_finite():
        raise ValueError(f"{value!r} is no number")
    top, bottom = written.as_integer_ratio()
    digits = max(0, -int(written.normalize().as_tuple().exponent))
    return Number(top * 10**digits // bottom, 10**digits)


def constant(value: object) -> Number | Text | None:
    """Return a constant as data, None for what is none."""
    if isinstance(value, str):
        return Text(value)
    return number(value) if is_number(value) else None


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a constant is a number; a truth is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)
