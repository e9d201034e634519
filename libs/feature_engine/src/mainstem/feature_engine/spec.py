"""The language in which feature sets are declared, and its compilation to a definition."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from mainstem.feature_engine import definition
from mainstem.feature_engine.column_types import ColumnType, Kind
from mainstem.feature_engine.compiled import CompiledSet, compiled
from mainstem.feature_engine.definition import Aggregate, Definition, Feature, Local, Operation, StreamSpec
from mainstem.feature_engine.durations import microseconds
from mainstem.feature_engine.errors import DefinitionError
from mainstem.feature_engine.expressions import (
    Column,
    Expression,
    LocalPart,
    LocalTime,
    Made,
    Stream,
    Window,
    Windowed,
    constant,
    number,
)


@dataclass(frozen=True, slots=True)
class Target:
    """The label of a set: what becomes known about a spine event later. No feature may read it."""

    value: Expression
    on: str
    wait: str


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """A declared feature set; `compile` makes it usable."""

    name: str
    spine: Stream
    lateness: str
    declared: Mapping[str, object]
    version: int = 1

    def compile(self) -> CompiledSet:
        """Return the checked set with its id; raise DefinitionError, which names the feature and the fix."""
        features, targets = [], []
        for name, value in self.declared.items():
            if isinstance(value, Target):
                targets.append(_target(name, value, self.spine))
            else:
                features.append(Feature(name, _Resolver(name, self.spine).feature(value)))
        if len(targets) > 1:
            raise DefinitionError(targets[1].name, "a set has one target", "declare another set for it")
        lateness = _duration(self.name, self.lateness)
        streams = tuple(_streams(self, features))
        target = targets[0] if targets else None
        return compiled(Definition(self.name, self.version, lateness, streams, tuple(features), target))


def stream(name: str, *, key: str, columns: Mapping[str, ColumnType]) -> Stream:
    """Declare a stream: `key` names the column (a category, declared or not) of the entity its events are about."""
    return Stream(name, key, {key: ColumnType(Kind.CATEGORY), **columns})


def table(name: str, *, key: str, columns: Mapping[str, ColumnType]) -> Stream:
    """Declare a static table: a stream with an event for each row of each key, looked up by `last(..., ttl=None)`."""
    return stream(name, key=key, columns=columns)


def target(value: Expression, *, on: str, wait: str) -> Target:
    """Declare the label: a column of a later record above a number, joined by the column `on` that both have.

    A record that comes more than `wait` after the spine's counts as missing.
    """
    return Target(value, on, wait)


def feature_set(name: str, *, spine: Stream, lateness: str, version: int = 1) -> Callable[[type], FeatureSet]:
    """Make a class whose attributes are features, in order, a feature set with one row for each event of `spine`.

    An event that becomes known more than `lateness` after it happened is too late: counted, not applied.
    A set whose models must not be disturbed is edited as its next `version`, beside it.
    """

    def collect(cls: type) -> FeatureSet:
        declared = {attribute: value for attribute, value in vars(cls).items() if not attribute.startswith("__")}
        return FeatureSet(name, spine, lateness, declared, version)

    return collect


@dataclass(frozen=True, slots=True)
class _Resolver:
    """Turns what was declared for a feature into data; `owner` is the stream whose columns may stand in it."""

    feature_name: str
    owner: Stream

    def feature(self, declared: object) -> definition.Expression:
        if not isinstance(declared, Expression):
            fix = "assign a column, an expression or an aggregate of `by(...)`"
            raise self._error(f"{declared!r} is not a feature", fix)
        return self.resolve(declared)

    def resolve(self, declared: object) -> definition.Expression:
        match declared:
            case Column():
                return self._column(declared)
            case LocalPart(LocalTime(of, zone), part):
                return Local(part, zone, self.resolve(of))
            case Windowed():
                return self._aggregate(declared)
            case Made(op, args):
                return Operation(op, tuple(self.resolve(arg) for arg in args))
            case Target():
                raise self._error(
                    "it reads the target, which is not known yet", "take what is known at the spine event"
                )
            case _:
                return self._constant(declared)

    def _constant(self, declared: object) -> definition.Expression:
        try:
            found = constant(declared)
        except ValueError as exc:
            raise self._error(str(exc), "write a finite number") from exc
        if found is None:
            raise self._error(f"{declared!r} is no value", "take a column, a number, a text or an aggregate")
        return found

    def _column(self, column: Column) -> definition.Column:
        if column.stream is not self.owner:
            problem = f"{column.stream.name}.{column.name} is not a column of {self.owner.name}"
            raise self._error(problem, f"take a column of {self.owner.name}, or an aggregate of {column.stream.name}")
        if column.name not in self.owner.columns:
            problem = f"{self.owner.name} has no column {column.name}"
            raise self._error(problem, f"declare it, or take one of {', '.join(self.owner.columns)}")
        return definition.Column(column.name)

    def _aggregate(self, declared: Windowed) -> Aggregate:
        group, value = declared.group, declared.value
        inside = _Resolver(self.feature_name, group.stream)
        if isinstance(value, str):
            value = Column(group.stream, value)
        found = None if value is None else inside.feature(value)
        spans = declared.span if isinstance(declared.span, Window) else Window(declared.span, "0s")
        span = None if spans.span is None else self._duration(spans.span)
        half_life, tick = (self._duration(text or "0s") for text in (declared.half_life, declared.tick))
        place = group.stream.name, group.by, group.at
        return Aggregate(declared.op, *place, found, span, self._duration(spans.hop), half_life, tick)

    def _duration(self, text: str) -> int:
        return _duration(self.feature_name, text)

    def _error(self, problem: str, fix: str) -> DefinitionError:
        return DefinitionError(self.feature_name, problem, fix)


def _target(name: str, declared: Target, spine: Stream) -> definition.Target:
    match declared.value:
        case Made("gt", (Column(stream, column), int() | float() as above)):
            for owner in (spine, stream):
                _has(name, owner, declared.on, Kind.CATEGORY, "join by a category that both have")
            _has(name, stream, column, Kind.FIXED, "take a number of the later record")
            place = name, stream.name, declared.on, column
            return definition.Target(*place, number(above), _duration(name, declared.wait))
        case _:
            fix = "write target(paid.amount > 0, on='order', wait='24h')"
            raise DefinitionError(name, "a target is a column of a later record above a number", fix)


def _has(name: str, stream: Stream, column: str, kind: Kind, fix: str) -> None:
    if column not in stream.columns:
        raise DefinitionError(name, f"{stream.name} has no column {column}", fix)
    if stream.columns[column].kind is not kind:
        raise DefinitionError(name, f"{stream.name}.{column} is a {stream.columns[column].kind}", fix)


def _duration(name: str, text: str) -> int:
    try:
        return microseconds(text)
    except ValueError as exc:
        raise DefinitionError(name, str(exc), "mend the duration") from exc


def _streams(declared: FeatureSet, features: list[Feature]) -> Iterator[StreamSpec]:
    """Yield the spine and then the other streams in order of first use, each with the columns in use."""
    streams = {declared.spine.name: declared.spine}
    for value in declared.declared.values():
        for stream in _named(value):
            streams.setdefault(stream.name, stream)
            if streams[stream.name] is not stream:
                raise DefinitionError(declared.name, f"two streams are named {stream.name}", "rename one")
    found = Definition(declared.name, declared.version, 0, (), tuple(features))
    for name, stream in streams.items():
        used = set(_columns_used(found, name, name == declared.spine.name))
        columns = {column: stream.columns[column] for column in sorted(used & {*stream.columns})}
        yield StreamSpec(name, stream.key, columns)


def _named(value: object) -> Iterator[Stream]:
    """Yield the streams that are aggregated in a declaration."""
    match value:
        case Windowed(group):
            yield group.stream
        case Made(_, args):
            for arg in args:
                yield from _named(arg)
        case LocalPart(LocalTime(of, _), _):
            yield from _named(of)
        case _:
            pass


def _columns_used(found: Definition, stream: str, spine: bool) -> Iterator[str]:
    if spine:
        for feature in found.features:
            yield from definition.columns_read(feature.value)
    for aggregate in found.aggregates:
        if aggregate.stream == stream:
            yield aggregate.by
            if aggregate.value is not None:
                yield from definition.columns_read(aggregate.value)
