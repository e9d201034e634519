"""The language in which feature sets are declared, and its compilation to a definition."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn

from mainstem.feature_engine import authored, definition
from mainstem.feature_engine.calls import Uncalled, written
from mainstem.feature_engine.column_types import ColumnType, Kind
from mainstem.feature_engine.compiled import CompiledSet, compiled
from mainstem.feature_engine.definition import Definition, Feature, StreamSpec
from mainstem.feature_engine.errors import DefinitionError
from mainstem.feature_engine.expressions import (
    Column,
    Expression,
    LocalPart,
    LocalTime,
    Made,
    Stream,
    Target,
    Windowed,
    shown,
    spec_of,
)
from mainstem.feature_engine.resolver import Resolver, duration, label, text, twins

MOST_VERSIONS = 9_999

_SET_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}", re.ASCII)


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """A declared feature set; `compile` makes it usable."""

    name: str
    spine: Stream
    lateness: str
    declared: Mapping[str, object]
    version: int = 1

    def __mro_entries__(self, bases: tuple[object, ...]) -> NoReturn:
        """Refuse to be a parent: all features of a set are written in its own class."""
        raise TypeError(f"a set cannot inherit the features of {self.name}: write all of them in its own class")

    def holds(self, cls: type) -> bool:
        """Return whether the set was made of a class."""
        return all(self.declared.get(name) is vars(cls)[name] for name in features_of(cls))

    def compile(self) -> CompiledSet:
        """Return the checked set with its id; raise DefinitionError, which names the feature and the fix."""
        _check_set(self.name, self.spine, self.version)
        features, targets = [], []
        for name, value in self.declared.items():
            if isinstance(value, Target):
                targets.append(label(name, value, self.spine))
            else:
                features.append(Feature(name, Resolver(name, self.spine).feature(value)))
        if len(targets) > 1:
            raise DefinitionError(targets[1].name, "a set has one target", "declare another set for it")
        lateness = duration(self.name, self.lateness)
        streams = tuple(_streams(self, features))
        target = targets[0] if targets else None
        whole = Definition(self.name, self.version, lateness, streams, tuple(features), target)
        authored.refuse_names(whole)
        found = compiled(whole)
        authored.refuse_meaning(whole)
        return found


@written('stream("order", key="order", columns={"amount": fixed("eur")})')
def stream(name: str, *, key: str, columns: Mapping[str, ColumnType]) -> Stream:
    """Declare a stream: `key` names the column (a category, declared or not) of the entity its events are about.

    Raises DefinitionError for a name that is no text, and for a column that has no type.
    """
    _check_columns(name, columns)
    text("stream()", name, "the name of the stream", "order")
    text(name, key, "the key", "order")
    for column, kind in columns.items():
        text(name, column, "the name of a column", "amount")
        _check_type(f"{name}.{column}", kind)
    return Stream(StreamSpec(name, key, {key: ColumnType(Kind.CATEGORY), **columns}))


@written('table("site", key="shop", columns={"area": fixed("m2")})')
def table(name: str, *, key: str, columns: Mapping[str, ColumnType]) -> Stream:
    """Declare a static table: a stream with an event for each row of each key, looked up by `last(..., ttl=None)`."""
    return stream(name, key=key, columns=columns)


@written('target(paid.amount > 0, on="order", wait="24h")')
def target(value: Expression, *, on: str, wait: str) -> Target:
    """Declare the label: a column of a later record above a number, joined by the column `on` that both have.

    A record that comes more than `wait` after the spine's counts as missing.
    """
    return Target(value, on, wait)


@written('@feature_set("shop_orders", spine=order, lateness="30m")')
def feature_set(name: str, *, spine: Stream, lateness: str, version: int = 1) -> Callable[[type], FeatureSet]:
    """Make a class whose attributes are features, in order, a feature set with one row for each event of `spine`.

    An event that becomes known more than `lateness` after it happened is too late: counted, not applied.
    A set whose models must not be disturbed is edited as its next `version`, beside it. All features are written in the
    class itself: DefinitionError if it inherits some.
    """

    def collect(cls: type) -> FeatureSet:
        _check_class(name, cls)
        for parent in cls.__mro__[1:]:
            for inherited in _attributes(parent):
                problem = f"{cls.__name__} inherits {inherited} of {parent.__name__}"
                raise DefinitionError(shown(name), problem, "write all features of a set in its own class")
        return FeatureSet(name, spine, lateness, _attributes(cls), version)

    return collect


def features_of(cls: type) -> list[str]:
    """Return the names under which a class holds what may be features of a set or its target."""
    return [name for name, value in vars(cls).items() if isinstance(value, Expression | Target)]


def _check_class(name: object, declared: object) -> None:
    if not isinstance(declared, type):
        fix = "write a class below @feature_set(...), with a line for each feature"
        raise DefinitionError(shown(name), f"{shown(declared)} is no class with features", fix)


def _attributes(cls: type) -> dict[str, object]:
    """Return what an author wrote in a class; what Python puts there besides begins with two underscores."""
    found = vars(cls).items()
    return {name: value for name, value in found if not name.startswith("__") or isinstance(value, Expression | Target)}


def _check_set(name: object, spine: object, version: object) -> None:
    if not isinstance(name, str) or not _SET_NAME.fullmatch(name):
        fix = "take small letters, digits and _, a letter first, 63 at most"
        raise DefinitionError(shown(name), "it is no name of a feature set", fix)
    if isinstance(spine, Uncalled):
        raise spine.refusal(name)
    if not isinstance(spine, Stream):
        source = callable(getattr(spine, "stream", None)) and not isinstance(spine, Expression)
        fix = "give the stream of the source, spine=orders.stream()" if source else "give a stream, spine=order"
        kind = f"a {type(spine).__name__}" if source else shown(spine)
        raise DefinitionError(name, f"the spine is {kind}, no stream", fix)
    if isinstance(version, bool) or not isinstance(version, int):
        raise DefinitionError(name, f"version {shown(version)} is no whole number", "count versions from 1")
    if version > MOST_VERSIONS:
        raise DefinitionError(name, f"version {version} is above {MOST_VERSIONS}", "count versions from 1, one by one")


def _check_columns(name: object, columns: object) -> None:
    if not isinstance(columns, Mapping):
        fix = 'write each with its name, columns={"amount": fixed("eur"), "shop": category()}'
        raise DefinitionError(shown(name), f"its columns are {shown(columns)}", fix)


def _check_type(column: str, kind: object) -> None:
    if not isinstance(kind, ColumnType):
        fix = "call category(), time(), boolean() or fixed(unit, ...)"
        raise DefinitionError(column, f"{shown(kind)} is no column type", fix)


def _streams(declared: FeatureSet, features: list[Feature]) -> Iterator[StreamSpec]:
    """Yield the spine and then the other streams in order of first use, each with the columns in use."""
    spine = spec_of(declared.spine).name
    streams = {spine: declared.spine}
    for feature, value in declared.declared.items():
        for stream in _named(value):
            if streams.setdefault(spec_of(stream).name, stream) is not stream:
                raise twins(feature, spec_of(stream).name)
    for name, value in declared.declared.items():
        match value:
            case Target(Made(_, (Column(later, _), _))) if streams.get(spec_of(later).name, later) is not later:
                raise twins(name, spec_of(later).name)
            case _:
                pass
    found = Definition(declared.name, declared.version, 0, (), tuple(features))
    for name, stream in streams.items():
        used = set(_columns_used(found, name, name == spine))
        every = spec_of(stream)
        columns = {column: every.columns[column] for column in sorted(used & {*every.columns})}
        yield StreamSpec(name, every.key, columns)


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
