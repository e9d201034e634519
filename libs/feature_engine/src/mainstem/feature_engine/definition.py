"""A feature set as plain data: what `load` reads out of a specification and the engine works from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mainstem.feature_engine.column_types import ColumnType

WINDOWED = frozenset({"count", "sum", "mean", "std", "min", "max", "distinct"})
AS_OF = frozenset({"last", "age"})
DECAY = "decay_mean"
FOR_EVER = 2**61
"""The ttl, in µs, of what never grows old."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the stream that the expression is about."""

    name: str


@dataclass(frozen=True, slots=True)
class Number:
    """The rational number value / scale, in lowest terms of ten."""

    value: int
    scale: int = 1


@dataclass(frozen=True, slots=True)
class Text:
    """A category to compare with."""

    value: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One of the operations of `inference`."""

    op: str
    args: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class Local:
    """A part of a time, on the wall clock of a zone."""

    part: str
    zone: str
    of: "Expression"


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A value over the events of `stream` whose `by` equals the spine's `at`, in [t - span, t); durations in µs.

    `span` is the window, the ttl of `last` and `age` (None: for ever), or the horizon of `decay_mean`.
    """

    op: str
    stream: str
    by: str
    at: str
    value: "Expression | None"
    span: int | None
    hop: int = 0
    half_life: int = 0
    tick: int = 0


Expression = Column | Number | Text | Operation | Local | Aggregate


@dataclass(frozen=True, slots=True)
class Feature:
    """A value of the vector, written over the columns of the spine."""

    name: str
    value: Expression


@dataclass(frozen=True, slots=True)
class Target:
    """The label: whether `column` of the record of `stream` that shares the spine's `on` is above a number.

    A record that comes later than `wait` µs after the spine's counts as missing.
    """

    name: str
    stream: str
    on: str
    column: str
    above: Number
    wait: int


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
    version: int
    lateness: int
    streams: tuple[StreamSpec, ...]
    features: tuple[Feature, ...]
    target: Target | None = None

    @property
    def aggregates(self) -> tuple[Aggregate, ...]:
        """The different aggregates, in order of first use."""
        found = [part for feature in self.features for part in parts(feature.value) if isinstance(part, Aggregate)]
        return tuple(dict.fromkeys(found))


def parts(expression: Expression) -> Iterator[Expression]:
    """Yield an expression and what it is made of; an aggregate's own value is not entered."""
    yield expression
    match expression:
        case Operation(_, args):
            for arg in args:
                yield from parts(arg)
        case Local(_, _, of):
            yield from parts(of)
        case _:
            pass


def columns_read(expression: Expression) -> Iterator[str]:
    """Yield the columns of its own stream that an expression reads; those of an aggregate's stream are not its own."""
    for part in parts(expression):
        match part:
            case Column(name):
                yield name
            case Aggregate():
                yield part.at
            case _:
                pass
