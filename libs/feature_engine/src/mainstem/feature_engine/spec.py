"""The language in which features are declared.

Nothing is checked while a declaration is written, so that every complaint can name the feature: `compile` checks.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isclose

from mainstem.feature_engine.column_types import ColumnType, Kind
from mainstem.feature_engine.compiled import CompiledSet, compiled
from mainstem.feature_engine.definition import Aggregate, Definition, Feature, Local, Plain, StreamSpec, Term
from mainstem.feature_engine.durations import microseconds
from mainstem.feature_engine.errors import DefinitionError


@dataclass(frozen=True, eq=False)
class Stream:
    """A stream of events; its columns are attributes (`dep.origin`) or items (`dep["name"]`)."""

    name: str
    key: str
    columns: Mapping[str, ColumnType]

    def __getattr__(self, column: str) -> "Column":
        if column.startswith("__"):
            raise AttributeError(column)
        return Column(self, column)

    def __getitem__(self, column: str) -> "Column":
        return Column(self, column)

    def by(self, key: str) -> "Grouped":
        """Group by a category column; at a spine event the group of the spine's column of the same name is read."""
        return Grouped(self, key)


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """A column of a stream; compared with a number (in the column's unit) it is true, false or null."""

    stream: Stream
    name: str

    def __gt__(self, constant: float) -> "Comparison":
        return Comparison(self, "gt", constant)

    def __ge__(self, constant: float) -> "Comparison":
        return Comparison(self, "ge", constant)

    def __lt__(self, constant: float) -> "Comparison":
        return Comparison(self, "lt", constant)

    def __le__(self, constant: float) -> "Comparison":
        return Comparison(self, "le", constant)

    def local(self, zone: str) -> "LocalTime":
        """Read a time column on the wall clock of an IANA zone."""
        return LocalTime(self, zone)


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Whether a column compares to a constant: 1, 0 or, for a null, null."""

    column: Column
    comparison: str
    constant: float


@dataclass(frozen=True, slots=True, eq=False)
class LocalPart:
    """A part of a local time."""

    time: "LocalTime"
    part: str


@dataclass(frozen=True, slots=True, eq=False)
class LocalTime:
    """A time on the wall clock of a zone."""

    column: Column
    zone: str

    @property
    def hour(self) -> LocalPart:
        """0 to 23."""
        return LocalPart(self, "hour")

    @property
    def minute_of_day(self) -> LocalPart:
        """0 to 1439."""
        return LocalPart(self, "minute_of_day")

    @property
    def day_of_week(self) -> LocalPart:
        """0 (Monday) to 6."""
        return LocalPart(self, "day_of_week")

    @property
    def hour_of_week(self) -> LocalPart:
        """0 (Monday, midnight to one) to 167."""
        return LocalPart(self, "hour_of_week")


Value = str | Column | Comparison


@dataclass(frozen=True, slots=True, eq=False)
class Windowed:
    """An aggregate as declared; durations are texts such as "6h"."""

    group: "Grouped"
    op: str
    value: Value | None
    span: str
    half_life: str | None = None
    tick: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Grouped:
    """The events of a stream that share a key.

    At a spine event with event time t, a window W holds the events before it in the applied order with event time in
    [t - W, t): the event itself and all ties at t are outside. Nulls are ignored by all but `count`.
    """

    stream: Stream
    key: str

    def count(self, window: str) -> Windowed:
        """Count the events."""
        return Windowed(self, "count", None, window)

    def sum(self, value: Value, window: str) -> Windowed:
        """Sum; 0 if there is nothing."""
        return Windowed(self, "sum", value, window)

    def mean(self, value: Value, window: str) -> Windowed:
        """Mean, or null."""
        return Windowed(self, "mean", value, window)

    def std(self, value: Value, window: str) -> Windowed:
        """Sample standard deviation; null for fewer than two values."""
        return Windowed(self, "std", value, window)

    def min(self, value: Value, window: str) -> Windowed:
        """Smallest value, or null."""
        return Windowed(self, "min", value, window)

    def max(self, value: Value, window: str) -> Windowed:
        """Largest value, or null."""
        return Windowed(self, "max", value, window)

    def distinct(self, value: Value, window: str) -> Windowed:
        """Count the different categories."""
        return Windowed(self, "distinct", value, window)

    def last(self, value: Value, *, ttl: str) -> Windowed:
        """Value of the greatest (event time, applied position) that is not null, if no older than `ttl`."""
        return Windowed(self, "last", value, ttl)

    def age(self, value: Value, *, ttl: str) -> Windowed:
        """Seconds since the event that `last` would take."""
        return Windowed(self, "age", value, ttl)

    def decay_mean(self, value: Value, *, half_life: str, horizon: str, tick: str) -> Windowed:
        """Mean over [t - horizon, t), weighted by round(2**24 * 2**-(age in whole ticks / half_life))."""
        return Windowed(self, "decay_mean", value, horizon, half_life, tick)


Declared = Column | Comparison | LocalPart | Windowed


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """A declared feature set; `compile` makes it usable."""

    name: str
    spine: Stream
    lateness: str
    features: Mapping[str, object]

    def compile(self) -> CompiledSet:
        """Return the checked set with its id; raise DefinitionError, which names the feature and the fix."""
        features = tuple(_resolve(name, declared, self.spine) for name, declared in self.features.items())
        lateness = _duration(self.name, self.lateness)
        return compiled(Definition(self.name, lateness, tuple(_streams(self, features)), features))


def stream(name: str, *, key: str, columns: Mapping[str, ColumnType]) -> Stream:
    """Declare a stream: `key` names the column (a category, declared or not) of the entity its events are about."""
    return Stream(name, key, {key: ColumnType(Kind.CATEGORY), **columns})


def feature_set(name: str, *, spine: Stream, lateness: str) -> Callable[[type], FeatureSet]:
    """Make a class whose attributes are features, in order, a feature set with one row for each event of `spine`.

    An event that is older than the newest of its stream by more than `lateness` is too late: counted, not applied.
    """

    def collect(cls: type) -> FeatureSet:
        features = {attribute: value for attribute, value in vars(cls).items() if not attribute.startswith("__")}
        return FeatureSet(name, spine, lateness, features)

    return collect


def _resolve(name: str, declared: object, spine: Stream) -> Feature:
    match declared:
        case Column() | Comparison():
            return Plain(name, _term(name, declared, spine))
        case LocalPart(LocalTime(column, zone), part):
            return Local(name, _term(name, column, spine).column, zone, part)
        case Windowed():
            return _aggregate(name, declared)
        case _:
            fix = "assign a column, a comparison, a local part or an aggregate of `by(...)`"
            raise DefinitionError(name, f"{declared!r} is not a feature", fix)


def _aggregate(name: str, declared: Windowed) -> Aggregate:
    group = declared.group
    term = None if declared.value is None else _term(name, declared.value, group.stream)
    half_life, tick = (0 if text is None else _duration(name, text) for text in (declared.half_life, declared.tick))
    span = _duration(name, declared.span)
    return Aggregate(name, declared.op, group.stream.name, group.key, term, span, half_life, tick)


def _term(name: str, value: Value, owner: Stream) -> Term:
    """Return the term of a value that must belong to `owner`, with its constant in stored units."""
    if isinstance(value, str):
        value = Column(owner, value)
    column = value.column if isinstance(value, Comparison) else value
    if column.stream is not owner:
        problem = f"{column.stream.name}.{column.name} is not a column of {owner.name}"
        raise DefinitionError(name, problem, f"take a column of {owner.name}")
    if column.name not in owner.columns:
        problem = f"{owner.name} has no column {column.name}"
        raise DefinitionError(name, problem, f"declare it, or take one of {', '.join(owner.columns)}")
    if isinstance(value, Column):
        return Term(column.name)
    return Term(column.name, value.comparison, _stored_constant(name, value, owner.columns[column.name]))


def _stored_constant(name: str, value: Comparison, kind: ColumnType) -> int:
    stored = round(value.constant * kind.scale)
    if not isclose(stored, value.constant * kind.scale, rel_tol=1e-12, abs_tol=1e-9):
        problem = f"{value.column.name} is kept to 1/{kind.scale} and cannot be compared with {value.constant}"
        raise DefinitionError(name, problem, "raise the scale of the column or round the constant")
    return stored


def _duration(name: str, text: str) -> int:
    try:
        return microseconds(text)
    except ValueError as exc:
        raise DefinitionError(name, str(exc), "mend the duration") from exc


def _streams(declared: FeatureSet, features: tuple[Feature, ...]) -> Iterator[StreamSpec]:
    """Yield the spine and then the other streams in order of first use, each with the columns in use."""
    streams = {declared.spine.name: declared.spine}
    for value in declared.features.values():
        if isinstance(value, Windowed):
            streams.setdefault(value.group.stream.name, value.group.stream)
            if streams[value.group.stream.name] is not value.group.stream:
                raise DefinitionError(declared.name, f"two streams are named {value.group.stream.name}", "rename one")
    for name, stream in streams.items():
        used = _columns_used(name, declared.spine.name, features)
        yield StreamSpec(
            name, stream.key, {column: stream.columns[column] for column in sorted(used & {*stream.columns})}
        )


def _columns_used(stream: str, spine: str, features: tuple[Feature, ...]) -> set[str]:
    used: set[str] = set()
    for feature in features:
        if isinstance(feature, Aggregate):
            if stream in {feature.stream, spine}:
                used.add(feature.key)
            if stream == feature.stream and feature.term is not None:
                used.add(feature.term.column)
        elif stream == spine:
            used.add(feature.column if isinstance(feature, Local) else feature.term.column)
    return used
