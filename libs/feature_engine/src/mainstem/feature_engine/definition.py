"""A feature set as plain data: what `load` reads out of a specification and the engine works from."""

from collections.abc import Mapping
from dataclasses import dataclass

from mainstem.feature_engine.column_types import ColumnType

WINDOWED = frozenset({"count", "sum", "mean", "std", "min", "max", "distinct"})
AS_OF = frozenset({"last", "age"})
DECAY = "decay_mean"
COMPARISONS = frozenset({"gt", "ge", "lt", "le"})


@dataclass(frozen=True, slots=True)
class Term:
    """A value of a stream: a column, or whether it compares to a constant in stored units (then 1, 0 or null)."""

    column: str
    comparison: str | None = None
    constant: int = 0


@dataclass(frozen=True, slots=True)
class Plain:
    """A value of the spine event itself."""

    name: str
    term: Term


@dataclass(frozen=True, slots=True)
class Local:
    """A part of a time of the spine event, on the wall clock of a zone."""

    name: str
    column: str
    zone: str
    part: str


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A value over the events of `stream` whose `key` equals the spine's, in [t - span, t); durations in µs.

    `span` is the window, the ttl of `last` and `age`, or the horizon of `decay_mean`.
    """

    name: str
    op: str
    stream: str
    key: str
    term: Term | None
    span: int
    half_life: int = 0
    tick: int = 0


Feature = Plain | Local | Aggregate


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """A stream with the columns that the features need."""

    name: str
    key: str
    columns: Mapping[str, ColumnType]


@dataclass(frozen=True, slots=True)
class Definition:
    """A whole feature set; the spine is the first stream; features are in declaration order; lateness in µs."""

    name: str
    lateness: int
    streams: tuple[StreamSpec, ...]
    features: tuple[Feature, ...]
