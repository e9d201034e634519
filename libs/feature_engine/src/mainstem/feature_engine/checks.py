"""What a definition must satisfy before anything is folded: types, ranges that fit into the state, keys that meet."""

from zoneinfo import ZoneInfo

from mainstem.feature_engine.column_types import EXACT, MAX_SCALE, ColumnType, Kind
from mainstem.feature_engine.definition import (
    AS_OF,
    COMPARISONS,
    DECAY,
    WINDOWED,
    Aggregate,
    Definition,
    Feature,
    Local,
    Plain,
    StreamSpec,
    Term,
)
from mainstem.feature_engine.errors import DefinitionError
from mainstem.feature_engine.localtime import PARTS

SUMMED = frozenset({"sum", "mean", "std", DECAY})
ORDERED = frozenset({"min", "max", "last"})

MAX_SUMMED = 2**31
"""Up to 2**31 values of this size, their squares and their weighted values sum up exactly in the state."""

MAX_SPAN = 366 * 100 * 86_400_000_000
"""A hundred years in µs: longer windows mean `all`, which needs no window."""

MAX_TICKS = 10_000


def check(definition: Definition) -> None:
    """Raise DefinitionError for the first stream or feature that cannot be computed exactly."""
    if not 0 <= definition.lateness <= MAX_SPAN:
        raise DefinitionError(definition.name, "lateness is negative or above 100 years", "give a duration like '6h'")
    if not definition.features or not definition.streams:
        raise DefinitionError(definition.name, "it has no features", "add at least one")
    streams = {stream.name: stream for stream in definition.streams}
    names = [feature.name for feature in definition.features]
    if len(streams) != len(definition.streams) or len(set(names)) != len(names):
        raise DefinitionError(definition.name, "two streams or two features share a name", "rename one")
    for stream in definition.streams:
        _check_stream(stream)
    for feature in definition.features:
        _check_feature(feature, definition.streams[0], streams)


def _check_stream(stream: StreamSpec) -> None:
    for name, kind in stream.columns.items():
        where = f"{stream.name}.{name}"
        if not 1 <= kind.scale <= MAX_SCALE:
            raise DefinitionError(where, f"scale {kind.scale} is not in 1..2**30", "take a smaller scale")
        if kind.lo is not None and kind.hi is not None and kind.lo > kind.hi:
            raise DefinitionError(where, f"lo {kind.lo} is above hi {kind.hi}", "swap them")
        if (kind.magnitude or 0) > EXACT:
            raise DefinitionError(where, "range times scale is beyond 2**53", "narrow the range or lower the scale")


def _check_feature(feature: Feature, spine: StreamSpec, streams: dict[str, StreamSpec]) -> None:
    match feature:
        case Plain(name, term):
            _numeric(name, "a value", _type(name, spine, term))
        case Local():
            _check_local(feature, spine)
        case Aggregate():
            _check_aggregate(feature, spine, streams)


def _check_local(feature: Local, spine: StreamSpec) -> None:
    kind = _type(feature.name, spine, Term(feature.column)).kind
    if kind is not Kind.TIME:
        raise DefinitionError(feature.name, f"{feature.column} is a {kind}, not a time", "declare it as time()")
    if feature.part not in PARTS:
        raise DefinitionError(feature.name, f"unknown part {feature.part}", f"take one of {', '.join(PARTS)}")
    try:
        ZoneInfo(feature.zone)
    except (KeyError, ValueError, OSError) as exc:
        raise DefinitionError(
            feature.name, f"unknown zone {feature.zone!r}", "take a name like 'Europe/Paris'"
        ) from exc


def _check_aggregate(feature: Aggregate, spine: StreamSpec, streams: dict[str, StreamSpec]) -> None:
    if feature.op not in WINDOWED | AS_OF | {DECAY}:
        raise DefinitionError(feature.name, f"unknown aggregate {feature.op}", "see the methods of `by(...)`")
    if feature.stream not in streams:
        raise DefinitionError(feature.name, f"unknown stream {feature.stream}", "list it under streams")
    for stream in (streams[feature.stream], spine):
        _check_key(feature, stream)
    if not 0 < feature.span <= MAX_SPAN:
        raise DefinitionError(feature.name, "window is not positive or above 100 years", "give a duration like '1h'")
    if feature.op == DECAY:
        _check_decay(feature)
    if (feature.term is None) != (feature.op == "count"):
        raise DefinitionError(feature.name, f"{feature.op} and its column do not fit", "`count` alone takes no column")
    if feature.term is not None:
        _check_operand(feature, _type(feature.name, streams[feature.stream], feature.term))


def _check_key(feature: Aggregate, stream: StreamSpec) -> None:
    if feature.key not in stream.columns:
        problem = f"key {feature.key} is not a column of {stream.name}"
        raise DefinitionError(feature.name, problem, "add the column, or join by a key that both streams have")
    if stream.columns[feature.key].kind is not Kind.CATEGORY:
        raise DefinitionError(feature.name, f"key {stream.name}.{feature.key} is no category", "declare it category()")


def _check_decay(feature: Aggregate) -> None:
    if not (0 < feature.tick <= feature.span and feature.half_life > 0):
        raise DefinitionError(feature.name, "half_life and tick must be positive, tick within the horizon", "mend them")
    if feature.span // feature.tick > MAX_TICKS:
        raise DefinitionError(feature.name, f"more than {MAX_TICKS} ticks in the horizon", "take a longer tick")


def _check_operand(feature: Aggregate, kind: ColumnType) -> None:
    if feature.op == "distinct" and kind.kind is not Kind.CATEGORY:
        raise DefinitionError(feature.name, f"distinct needs a category, not a {kind.kind}", "declare it category()")
    if feature.op in SUMMED | ORDERED:
        _numeric(feature.name, feature.op, kind)
    if feature.op in SUMMED and (kind.magnitude is None or kind.magnitude > MAX_SUMMED):
        size = "has no declared range" if kind.magnitude is None else "times its scale is beyond 2**31"
        fix = "declare lo= and hi=, or lower the scale, so that sums cannot overflow"
        raise DefinitionError(feature.name, f"{feature.op} of a column that {size}", fix)


def _numeric(name: str, use: str, kind: ColumnType) -> None:
    if kind.kind not in {Kind.FIXED, Kind.BOOLEAN}:
        fix = "take a fixed or boolean column, or a part of .local(zone) of a time"
        raise DefinitionError(name, f"{use} needs a number, not a {kind.kind}", fix)


def _type(name: str, stream: StreamSpec, term: Term) -> ColumnType:
    """Return the type of a term's values."""
    if term.column not in stream.columns:
        raise DefinitionError(name, f"{stream.name} has no column {term.column}", f"it has {', '.join(stream.columns)}")
    kind = stream.columns[term.column]
    if term.comparison is None:
        return kind
    if term.comparison not in COMPARISONS or abs(term.constant) > EXACT:
        raise DefinitionError(name, f"cannot compare by {term.comparison}", f"take one of {', '.join(COMPARISONS)}")
    _numeric(name, "a comparison", kind)
    return ColumnType(Kind.BOOLEAN, lo=0, hi=1)
