"""The types a column of a source may have: each judges a value, and says how it is decoded and gathered."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal, Self, TypedDict, TypeGuard, Unpack

import msgspec
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from mainstem import feature_engine
from mainstem.events.instants import NEVER
from mainstem.feature_engine import DefinitionError
from mainstem.feature_engine.calls import written
from mainstem.project.reasons import Reason

#: A decoded column, as the feature engine takes it: texts as a list (None = null); numbers as float64 (NaN = null);
#: instants as int64 microseconds since 1970 (NEVER = null); booleans as int64 1 and 0 (-1 = null).
Gathered = list[str | None] | npt.NDArray[np.float64] | npt.NDArray[np.int64]
#: What one value is reproached with.
Complaint = tuple[Reason, str]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TICK: Final = timedelta(microseconds=1)
_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:?\d\d)", re.ASCII)
_LONGEST_SHOWN: Final = 60


class _Column(BaseModel):
    """What all columns share: a description for people, and whether null is a value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    description: str = Field(min_length=1)
    nullable: bool = False


class CategoryColumn(_Column):
    """A text out of few: an airport, a carrier, a tail number. Features may group by it."""

    kind: Literal["category"] = "category"
    values: tuple[str, ...] | None = Field(default=None, min_length=1)
    max_length: int = Field(default=64, gt=0)

    @model_validator(mode="after")
    def _values_are_sorted_and_single(self) -> Self:
        if self.values is not None and list(self.values) != sorted(set(self.values)):
            raise ValueError("values must be sorted and each given once")
        return self

    def annotation(self) -> Any:
        """Return the type that decoders and models are made of."""
        if self.values is not None:
            return Literal[self.values]
        return Annotated[str, msgspec.Meta(max_length=self.max_length), Field(max_length=self.max_length)]

    def complaint(self, value: object) -> Complaint | None:
        """Return what is wrong with a value that is not null."""
        if not isinstance(value, str):
            return _wrong("a text", value)
        if self.values is not None:
            return None if value in self.values else (Reason.UNKNOWN_CATEGORY, f"{_show(value)} is none of its values")
        return _too_long(value, self.max_length)

    def gather(self, values: Sequence[str | None]) -> list[str | None]:
        """Return the decoded values as a column."""
        return list(values)


class TextColumn(_Column):
    """Free text: kept with the record, never a feature."""

    kind: Literal["text"] = "text"
    max_length: int = Field(default=1_000, gt=0)

    def annotation(self) -> Any:
        """Return the type that decoders and models are made of."""
        return Annotated[str, msgspec.Meta(max_length=self.max_length), Field(max_length=self.max_length)]

    def complaint(self, value: object) -> Complaint | None:
        """Return what is wrong with a value that is not null."""
        return _too_long(value, self.max_length) if isinstance(value, str) else _wrong("a text", value)

    def gather(self, values: Sequence[str | None]) -> list[str | None]:
        """Return the decoded values as a column."""
        return list(values)


class FixedColumn(_Column):
    """A number with a unit and a range, kept to `1 / scale` of the unit."""

    kind: Literal["fixed"] = "fixed"
    unit: str = Field(min_length=1)
    scale: int = Field(default=1, gt=0)
    lo: float = Field(allow_inf_nan=False)
    hi: float = Field(allow_inf_nan=False)
    integer: bool = False

    @model_validator(mode="after")
    def _range_fits(self) -> Self:
        if self.lo > self.hi:
            raise ValueError(f"lo {self.lo} lies above hi {self.hi}")
        if self.integer and not (self.lo.is_integer() and self.hi.is_integer() and self.scale == 1):
            raise ValueError("an integer column has whole numbers for lo and hi, and scale 1")
        return self

    def annotation(self) -> Any:
        """Return the type that decoders and models are made of."""
        number = int if self.integer else float
        lo, hi = number(self.lo), number(self.hi)
        return Annotated[number, msgspec.Meta(ge=lo, le=hi), Field(ge=lo, le=hi)]

    def complaint(self, value: object) -> Complaint | None:
        """Return what is wrong with a value that is not null."""
        if self.as_fraction(value):
            return Reason.WRONG_TYPE, f"{_show(value)} is written as a fraction; write {_show(int(value))}"
        if isinstance(value, bool) or not isinstance(value, int if self.integer else int | float):
            return _wrong("a whole number" if self.integer else "a number", value)
        if self.lo <= (value if self.integer else _as_float(value)) <= self.hi:
            return None
        return Reason.OUT_OF_RANGE, f"{_show(value)} {self.unit} is not within {self.lo:g} and {self.hi:g}"

    def as_fraction(self, value: object) -> TypeGuard[float]:
        """Tell whether a value is a whole number that is refused for its form alone: 5.0 in an integer column."""
        return self.integer and isinstance(value, float) and value.is_integer()

    def gather(self, values: Sequence[float | None]) -> npt.NDArray[np.float64]:
        """Return the decoded values as a column."""
        return np.array(values, np.float64)


class TimeColumn(_Column):
    """An instant: on the wire RFC 3339 with an offset, decoded to microseconds since 1970 in UTC."""

    kind: Literal["time"] = "time"

    def annotation(self) -> Any:
        """Return the type that decoders and models are made of."""
        return Annotated[datetime, msgspec.Meta(tz=True), Field(strict=False), BeforeValidator(_instant_text)]

    def complaint(self, value: object) -> Complaint | None:
        """Return what is wrong with a value that is not null."""
        try:
            msgspec.convert(value, Annotated[datetime, msgspec.Meta(tz=True)])
        except msgspec.ValidationError:
            return _wrong("an RFC 3339 instant with an offset", value)
        return None

    def gather(self, values: Sequence[datetime | None]) -> npt.NDArray[np.int64]:
        """Return the decoded values as a column."""
        instants = (NEVER if value is None else (value - _EPOCH) // _TICK for value in values)
        return np.fromiter(instants, np.int64, len(values))


class BooleanColumn(_Column):
    """True or false."""

    kind: Literal["boolean"] = "boolean"

    def annotation(self) -> Any:
        """Return the type that decoders and models are made of."""
        return bool

    def complaint(self, value: object) -> Complaint | None:
        """Return what is wrong with a value that is not null."""
        return None if isinstance(value, bool) else _wrong("true or false", value)

    def gather(self, values: Sequence[bool | None]) -> npt.NDArray[np.int64]:
        """Return the decoded values as a column."""
        return np.fromiter((-1 if value is None else value for value in values), np.int64, len(values))


Column = Annotated[CategoryColumn | TextColumn | FixedColumn | TimeColumn | BooleanColumn, Field(discriminator="kind")]


class NumberSettings(TypedDict, total=False):
    """The optional settings of a number: see `FixedColumn`."""

    scale: int
    nullable: bool
    integer: bool


@written('category("the airport", values=["EWR", "JFK"])')
def category(
    description: str, *, values: Sequence[str] | None = None, nullable: bool = False, max_length: int = 64
) -> CategoryColumn:
    """Declare a text out of few; `values` lists them all, without it any text up to `max_length` characters passes."""
    if isinstance(values, str):
        raise DefinitionError("category()", f"its values are one text, {values!r}", "write a list, values=['A', 'B']")
    known = None if values is None else tuple(sorted(values))
    return CategoryColumn(description=description, values=known, nullable=nullable, max_length=max_length)


@written('text("a remark")')
def text(description: str, *, nullable: bool = False, max_length: int = 1_000) -> TextColumn:
    """Declare free text of at most `max_length` characters."""
    return TextColumn(description=description, nullable=nullable, max_length=max_length)


@written('fixed("what it costs", unit="eur", lo=0, hi=500, scale=100)')
def fixed(description: str, *, unit: str, lo: float, hi: float, **settings: Unpack[NumberSettings]) -> FixedColumn:
    """Declare a number from `lo` to `hi`, both allowed, kept to `1 / scale`; `integer` refuses fractions, even 5.0."""
    column = FixedColumn(description=description, unit=unit, lo=lo, hi=hi, **settings)
    feature_engine.fixed(unit, scale=column.scale, lo=column.lo, hi=column.hi)  # refuses what features cannot read
    return column


@written('time("when it is planned")')
def time(description: str, *, nullable: bool = False) -> TimeColumn:
    """Declare an instant."""
    return TimeColumn(description=description, nullable=nullable)


@written('boolean("whether it is in a hurry")')
def boolean(description: str, *, nullable: bool = False) -> BooleanColumn:
    """Declare a truth value."""
    return BooleanColumn(description=description, nullable=nullable)


def _wrong(wanted: str, value: object) -> Complaint:
    return Reason.WRONG_TYPE, f"{_show(value)} is not {wanted}"


def _too_long(value: str, limit: int) -> Complaint | None:
    if len(value) <= limit:
        return None
    return Reason.TOO_LONG, f"{len(value)} characters, at most {limit} are allowed"


def _show(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}..."


def _as_float(value: float) -> float:
    """Round to the float that the decoder compares; beyond the floats is beyond every range."""
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _instant_text(value: object) -> object:
    if not isinstance(value, str) or not _INSTANT.fullmatch(value):
        raise ValueError("not an RFC 3339 instant with an offset")
    return value
