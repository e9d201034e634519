"""The types of stream columns: how a value is written down as one int64, which is all the fold ever sees."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from mainstem.feature_engine.calls import written
from mainstem.feature_engine.errors import DefinitionError

NULL = -(2**63)
"""The stored form of a missing value."""

EXACT = 2**53
"""Beyond this an integer is no longer exact as float64: no stored number is larger."""

MAX_SCALE = 2**30


class Kind(StrEnum):
    """What a column holds."""

    CATEGORY = "category"  #: text, stored as the number of its first appearance
    FIXED = "fixed"  #: a number, stored as round(value * scale), ties to even
    TIME = "time"  #: an instant, stored as microseconds since 1970-01-01 UTC
    BOOLEAN = "boolean"  #: stored as 0 or 1


@dataclass(frozen=True, slots=True)
class ColumnType:
    """The type of a column; `lo` and `hi` are the inclusive range in stored units, outside of which a value is null."""

    kind: Kind
    unit: str = ""
    scale: int = 1
    lo: int | None = None
    hi: int | None = None

    @property
    def magnitude(self) -> int | None:
        """The largest absolute stored value, or None if the range is open."""
        return None if self.lo is None or self.hi is None else max(abs(self.lo), abs(self.hi))

    def as_spec(self) -> dict[str, object]:
        """Return the JSON form."""
        if self.kind is not Kind.FIXED:
            return {"type": self.kind.value}
        return {"type": "fixed", "unit": self.unit, "scale": self.scale, "lo": self.lo, "hi": self.hi}

    @classmethod
    def from_spec(cls, spec: Mapping[str, object]) -> "ColumnType":
        """Return the type of a JSON form; raise ValueError if it says something else."""
        kind = Kind(str(spec["type"]))
        if kind is not Kind.FIXED:
            return cls(kind, lo=0, hi=1) if kind is Kind.BOOLEAN else cls(kind)
        scale, lo, hi = (spec[name] for name in ("scale", "lo", "hi"))
        if not isinstance(scale, int) or not isinstance(lo, int | None) or not isinstance(hi, int | None):
            raise TypeError(f"scale, lo and hi must be whole numbers in stored units, not {scale!r}, {lo!r}, {hi!r}")
        return cls(kind, str(spec["unit"]), scale, lo, hi)


@written("category()")
def category() -> ColumnType:
    """Declare a text from an open set of values: usable as a key and in `distinct`."""
    return ColumnType(Kind.CATEGORY)


@written("time()")
def time() -> ColumnType:
    """Declare an instant in microseconds since 1970-01-01 UTC."""
    return ColumnType(Kind.TIME)


@written("boolean()")
def boolean() -> ColumnType:
    """Declare a truth: true, false or null."""
    return ColumnType(Kind.BOOLEAN, lo=0, hi=1)


@written('fixed("eur", scale=100, lo=0, hi=500)')
def fixed(unit: str, scale: int = 1, lo: float | None = None, hi: float | None = None) -> ColumnType:
    """Declare a number in `unit`, kept to 1/scale of it.

    Outside `lo` and `hi` (inclusive, in `unit`) it is null and counted. Sums and means need both. Raises
    DefinitionError, which names the unit, for what is no unit, no scale or no range.

    >>> fixed("mph", scale=1000, lo=0, hi=200).hi
    200000
    """
    name = f"fixed({unit!r})"
    kind = number_type(unit, scale, lo, hi)
    if not 1 <= scale <= MAX_SCALE:
        raise DefinitionError(name, f"scale {scale} is not in 1..2**30", "write scale=100 to keep hundredths")
    if kind.lo is not None and kind.hi is not None and kind.lo > kind.hi:
        raise DefinitionError(name, f"lo {lo} is above hi {hi}", "swap them")
    if max(abs(kind.lo or 0), abs(kind.hi or 0)) > EXACT:
        raise DefinitionError(name, "range times scale is beyond 2**53", "narrow the range or lower the scale")
    return kind


def number_type(unit: str, scale: int, lo: float | None, hi: float | None) -> ColumnType:
    """Return the type of a number as `fixed` does, also for a range and a scale that authors are refused."""
    name = f"fixed({unit!r})"
    _check_kept(name, unit, scale)
    return ColumnType(Kind.FIXED, unit, scale, _stored(name, lo, scale), _stored(name, hi, scale))


def is_unicode(text: str) -> bool:
    """Return whether a text can be written down: Python also has some with lone surrogates in them."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _check_kept(name: str, unit: object, scale: object) -> None:
    if not isinstance(unit, str) or not unit or not is_unicode(unit):
        raise DefinitionError(name, "it has no unit", "write the unit as a text, 'eur'; what is counted has '1'")
    if isinstance(scale, bool) or not isinstance(scale, int):
        raise DefinitionError(name, f"scale {scale!r} is no whole number", "write scale=100 to keep hundredths")


def _stored(name: str, bound: float | None, scale: int) -> int | None:
    if bound is None:
        return None
    try:
        stored = round(bound * scale)
    except (TypeError, ValueError, OverflowError) as exc:
        raise DefinitionError(name, f"{bound!r} is no finite number", "write lo= and hi= in the unit") from exc
    if isinstance(bound, bool):
        raise DefinitionError(name, f"{bound!r} is a truth", "write lo= and hi= in the unit")
    return stored
