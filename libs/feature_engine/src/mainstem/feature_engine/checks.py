"""What a definition must satisfy before anything is folded: types, ranges that fit into the state, keys that meet."""

from collections.abc import Mapping

from mainstem.feature_engine.column_types import EXACT, MAX_SCALE, Kind
from mainstem.feature_engine.definition import (
    AS_OF,
    DECAY,
    WINDOWED,
    Aggregate,
    Definition,
    Feature,
    Number,
    StreamSpec,
    parts,
)
from mainstem.feature_engine.errors import DefinitionError
from mainstem.feature_engine.inference import Unfit, Value, infer

SUMMED = frozenset({"sum", "mean", "std", DECAY})
SQUARED = frozenset({"std", DECAY})

MAX_SQUARED = 2**31
"""Up to 2**31 values of this size, their squares and their weighted values sum up exactly in the state."""

MAX_SPAN = 366 * 100 * 86_400_000_000
"""A hundred years in µs."""

MAX_TICKS = 10_000

MAX_STREAMS = 127
"""What the number of a stream, an int8, can tell apart."""


def check(definition: Definition) -> None:
    """Raise DefinitionError for the first stream or feature that cannot be computed exactly."""
    if not 0 <= definition.lateness <= MAX_SPAN:
        raise DefinitionError(definition.name, "lateness is negative or above 100 years", "give a duration like '6h'")
    if definition.version < 1:
        raise DefinitionError(definition.name, f"version {definition.version} is below 1", "count versions from 1")
    if not definition.features or not definition.streams:
        raise DefinitionError(definition.name, "it has no features", "add at least one")
    if len(definition.streams) > MAX_STREAMS:
        problem = f"it reads {len(definition.streams)} streams, {MAX_STREAMS} are the most"
        raise DefinitionError(definition.name, problem, "split it into several feature sets")
    streams = {stream.name: stream for stream in definition.streams}
    names = [feature.name for feature in definition.features]
    names += [definition.target.name] if definition.target else []
    if len(streams) != len(definition.streams) or len(set(names)) != len(names):
        raise DefinitionError(definition.name, "two streams or two features share a name", "rename one")
    for stream in definition.streams:
        _check_stream(stream)
    for feature in definition.features:
        try:
            _check_feature(feature, definition.streams[0], streams)
        except Unfit as fault:
            raise DefinitionError(feature.name, fault.problem, fault.fix) from fault
    if definition.target and not 0 < definition.target.wait <= MAX_SPAN:
        raise DefinitionError(definition.target.name, "the wait is not positive or above 100 years", "mend it: '24h'")


def _check_stream(stream: StreamSpec) -> None:
    for name, kind in stream.columns.items():
        where = f"{stream.name}.{name}"
        if not 1 <= kind.scale <= MAX_SCALE:
            raise DefinitionError(where, f"scale {kind.scale} is not in 1..2**30", "take a smaller scale")
        if kind.lo is not None and kind.hi is not None and kind.lo > kind.hi:
            raise DefinitionError(where, f"lo {kind.lo} is above hi {kind.hi}", "swap them")
        if (kind.magnitude or 0) > EXACT:
            raise DefinitionError(where, "range times scale is beyond 2**53", "narrow the range or lower the scale")


def _check_feature(feature: Feature, spine: StreamSpec, streams: Mapping[str, StreamSpec]) -> None:
    for part in parts(feature.value):
        if isinstance(part, Aggregate):
            _check_aggregate(part, spine, streams)
    found = infer(feature.value, spine.columns)
    if isinstance(feature.value, Number) or not _is_number(found):
        raise Unfit(f"a feature needs a number or a truth, not {_kind(found)}", _FIX_NUMBER)
    _check_exact(found)


def _check_exact(value: Value) -> None:
    if value.exact and value.magnitude > EXACT:
        raise Unfit("a value could be beyond 2**53, where float64 is no longer exact", "clip() it, or lower the scales")


def _check_aggregate(aggregate: Aggregate, spine: StreamSpec, streams: Mapping[str, StreamSpec]) -> None:
    if aggregate.op not in WINDOWED | AS_OF | {DECAY}:
        raise Unfit(f"unknown aggregate {aggregate.op}", "see the methods of `by(...)`")
    if aggregate.stream not in streams:
        raise Unfit(f"unknown stream {aggregate.stream}", "list it under streams")
    stream = streams[aggregate.stream]
    _check_key(aggregate.by, stream)
    _check_key(aggregate.at, spine)
    _check_durations(aggregate)
    if (aggregate.value is None) != (aggregate.op == "count"):
        raise Unfit(f"{aggregate.op} and its column do not fit", "`count` alone takes no column")
    if aggregate.value is not None:
        if any(isinstance(part, Aggregate) for part in parts(aggregate.value)):
            raise Unfit(f"{aggregate.op} of another aggregate", "aggregate the columns, and combine the features")
        _check_operand(aggregate.op, infer(aggregate.value, stream.columns))


def _check_key(key: str, stream: StreamSpec) -> None:
    if key not in stream.columns:
        raise Unfit(f"key {key} is not a column of {stream.name}", "add the column, or say at= what it is there")
    if stream.columns[key].kind is not Kind.CATEGORY:
        raise Unfit(f"key {stream.name}.{key} is no category", "declare it category()")


def _check_durations(aggregate: Aggregate) -> None:
    span = aggregate.span
    if span is None and aggregate.op not in AS_OF:
        raise Unfit(f"{aggregate.op} needs a window", "give a duration like '1h'")
    if span is not None and not 0 < span <= MAX_SPAN:
        called = "ttl" if aggregate.op in AS_OF else "horizon" if aggregate.op == DECAY else "window"
        raise Unfit(f"the {called} is not positive or above 100 years", "give a duration like '1h'")
    if not 0 <= aggregate.hop <= (span or 0):
        raise Unfit("the hop is negative or longer than the window", "take a hop within the window")
    if aggregate.op == DECAY and span is not None:
        if aggregate.half_life <= 0:
            raise Unfit("the half_life is not positive", "give a duration like '20m'")
        if not 0 < aggregate.tick <= span:
            raise Unfit("the tick is not positive or longer than the horizon", "take a tick within the horizon")
        if span // aggregate.tick > MAX_TICKS:
            raise Unfit(f"more than {MAX_TICKS} ticks in the horizon", "take a longer tick")


def _check_operand(op: str, value: Value) -> None:
    if not value.exact:
        raise Unfit(f"{op} of a quotient", "aggregate numerator and denominator, and divide the features")
    if op == "age":
        return
    if op == "distinct":
        if value.kind is not Kind.CATEGORY:
            raise Unfit(f"distinct needs a category, not {_kind(value)}", "declare it category()")
        return
    if not _is_number(value):
        raise Unfit(f"{op} needs a number or a truth, not {_kind(value)}", _FIX_NUMBER)
    if op in SUMMED and not value.declared:
        raise Unfit(f"{op} of a value that has no declared range", "declare lo= and hi=, or clip() it")
    if op in SQUARED and value.magnitude > MAX_SQUARED:
        raise Unfit(f"{op} of a value times its scale beyond 2**31", "narrow lo= and hi=, or lower the scale")
    _check_exact(value)


_FIX_NUMBER = "take a fixed or boolean column, a part of .local(zone) of a time, or a comparison"


def _is_number(value: Value) -> bool:
    return value.kind in {Kind.FIXED, Kind.BOOLEAN}


def _kind(value: Value) -> str:
    return f"a {value.kind}"
