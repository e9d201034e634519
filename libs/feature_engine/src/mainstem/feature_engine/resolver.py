"""From what was declared for a feature to data: whatever cannot stand there is refused with the feature's name."""

from collections.abc import Iterator
from dataclasses import dataclass

from mainstem.feature_engine import definition
from mainstem.feature_engine.calls import Uncalled
from mainstem.feature_engine.column_types import Kind, is_unicode
from mainstem.feature_engine.constants import constant, is_number, number
from mainstem.feature_engine.definition import AS_OF, DECAY, Aggregate, Local, Operation, StreamSpec
from mainstem.feature_engine.durations import microseconds
from mainstem.feature_engine.errors import DefinitionError
from mainstem.feature_engine.expressions import (
    Column,
    Expression,
    LocalPart,
    LocalTime,
    Made,
    Stream,
    Target,
    Window,
    Windowed,
    shown,
    spec_of,
)

MAX_DEPTH = 200
"""So many operations may stand one inside the other."""

MAX_PARTS = 10_000
"""So many operations, columns and constants one feature may be made of."""


def duration(name: str, declared: object) -> int:
    """Return a duration in µs; raise DefinitionError for what is none."""
    if not isinstance(declared, str):
        raise DefinitionError(name, f"{shown(declared)} is not a duration", "write a text like '90s', '6h' or '30d'")
    try:
        return microseconds(declared)
    except ValueError as exc:
        raise DefinitionError(name, str(exc), "mend the duration") from exc


def text(name: str, declared: object, use: str, like: str) -> str:
    """Return a text that can be written down; raise DefinitionError for what is none."""
    if not isinstance(declared, str):
        raise DefinitionError(name, f"{use} is {shown(declared)}, no text", f"write a text like {like!r}")
    if not is_unicode(declared):
        raise DefinitionError(name, f"{use} {declared!r} is no Unicode text", "write it without lone surrogates")
    return declared


@dataclass(frozen=True, slots=True)
class Resolver:
    """Turns what was declared for a feature into data; `owner` is the stream whose columns may stand in it."""

    feature_name: str
    owner: Stream

    def feature(self, declared: object) -> definition.Expression:
        """Return the value of a feature; raise DefinitionError for what is none."""
        if isinstance(declared, Uncalled):
            raise declared.refusal(self.feature_name)
        if not isinstance(declared, Expression):
            fix = "assign a column, an expression or an aggregate of `by(...)`"
            if isinstance(declared, bool):
                fix = "write x.is_null() for `x is None`, and compare by == and !="
            raise self._error(f"{shown(declared)} is not a feature", fix)
        self._measure(declared)
        return self._resolve(declared)

    def _measure(self, declared: Expression) -> None:
        waiting: list[tuple[object, int]] = [(declared, 0)]
        for _ in range(MAX_PARTS):
            if not waiting:
                return
            part, depth = waiting.pop()
            if depth > MAX_DEPTH:
                raise self._error(f"more than {MAX_DEPTH} operations stand one inside the other", _SPLIT)
            waiting += [(inside, depth + 1) for inside in _inside(part)]
        raise self._error(f"it has more than {MAX_PARTS} parts", _SPLIT)

    def _resolve(self, declared: object) -> definition.Expression:
        match declared:
            case Column():
                return self._column(declared)
            case LocalPart(LocalTime(of, zone), part):
                return Local(part, text(self.feature_name, zone, "the zone", "Europe/Paris"), self._resolve(of))
            case Windowed():
                return self._aggregate(declared)
            case Made(op, args):
                return Operation(op, tuple(self._resolve(arg) for arg in args))
            case Target():
                raise self._error(
                    "it reads the target, which is not known yet", "take what is known at the spine event"
                )
            case _:
                return self._constant(declared)

    def _constant(self, declared: object) -> definition.Expression:
        if isinstance(declared, Uncalled):
            raise declared.refusal(self.feature_name)
        try:
            found = constant(declared)
            if is_number(declared):
                float(declared)
        except (ValueError, OverflowError) as exc:
            raise self._error(str(exc), "write a finite number") from exc
        if isinstance(declared, bool):
            raise self._error(f"{declared} is no value", "take the truth itself, or ~ of it")
        if declared is None:
            raise self._error("None is no value", "ask for it by x.is_null(); take a column, a number or an aggregate")
        if found is None:
            raise self._error(f"{shown(declared)} is no value", "take a column, a number, a text or an aggregate")
        if isinstance(found, definition.Text):
            text(self.feature_name, found.value, "the constant", "lamp")
        return found

    def _column(self, column: Column) -> definition.Column:
        if column.stream is not self.owner:
            raise self._foreign(column)
        owner = spec_of(self.owner)
        if column.name not in owner.columns:
            problem = f"{owner.name} has no column {column.name}"
            raise self._error(problem, f"declare it, or take one of {', '.join(owner.columns)}")
        return definition.Column(column.name)

    def _foreign(self, column: Column) -> DefinitionError:
        other, owner = spec_of(column.stream).name, spec_of(self.owner).name
        if other == owner:
            return twins(self.feature_name, owner)
        problem = f"{other}.{column.name} is not a column of {owner}"
        return self._error(problem, f"take a column of {owner}, or an aggregate of {other}")

    def _aggregate(self, declared: Windowed) -> Aggregate:
        group, value = declared.group, declared.value
        by, at = (text(self.feature_name, key, "the key of by()", "shop") for key in (group.by, group.at))
        if isinstance(value, str):
            value = Column(group.stream, value)
        found = None if value is None else Resolver(self.feature_name, group.stream).feature(value)
        span, hop = self._spans(declared)
        half_life, tick = (
            0 if length is None else duration(self.feature_name, length)
            for length in (declared.half_life, declared.tick)
        )
        return Aggregate(declared.op, spec_of(group.stream).name, by, at, found, span, hop, half_life, tick)

    def _spans(self, declared: Windowed) -> tuple[int | None, int]:
        """Return the window and its hop; there is none to a ttl or a horizon."""
        spans = declared.span
        if isinstance(spans, Window):
            if declared.op in AS_OF | {DECAY}:
                name = "horizon" if declared.op == DECAY else "ttl"
                fix = f"write a duration, {name}='6h'; a hop belongs to the windows of the other aggregates"
                raise self._error(f"the {name} of {declared.op} is a window with a hop", fix)
            span, hop = duration(self.feature_name, spans.span), duration(self.feature_name, spans.hop)
            if hop == 0:
                raise self._error("the hop of a window is 0", "take a hop within the window, or write the window alone")
            return span, hop
        return (None if spans is None else duration(self.feature_name, spans)), 0

    def _error(self, problem: str, fix: str) -> DefinitionError:
        return DefinitionError(self.feature_name, problem, fix)


_SPLIT = "declare parts of it as features of their own, or let the source send them"


def _inside(part: object) -> Iterator[object]:
    match part:
        case Made(_, args):
            yield from args
        case LocalPart(LocalTime(of, _), _):
            yield of
        case Windowed(_, _, value):
            yield value
        case _:
            pass


def label(name: str, declared: Target, spine: Stream) -> definition.Target:
    """Return the target as data; raise DefinitionError for what can be no label of the spine's records."""
    match declared.value:
        case Made("gt", (Column(stream, column), above)) if is_number(above):
            _check_place(name, declared, spine, stream)
            later, threshold = spec_of(stream), _threshold(name, above)
            _has(name, later, column, Kind.FIXED, "take a number of the later record")
            _check_reach(name, later, column, threshold)
            return definition.Target(name, later.name, declared.on, column, threshold, duration(name, declared.wait))
        case _:
            fix = "write target(paid.amount > 0, on='order', wait='24h')"
            raise DefinitionError(name, "a target is a column of a later record above a number", fix)


def _check_place(name: str, declared: Target, spine: Stream, stream: Stream) -> None:
    rows, later = spec_of(spine), spec_of(stream)
    if later.name == rows.name and stream is not spine:
        raise twins(name, rows.name)
    on = text(name, declared.on, "on=", "order")
    for owner in (rows, later):
        _has(name, owner, on, Kind.CATEGORY, "join by a category that both have")


def _has(name: str, stream: StreamSpec, column: str, kind: Kind, fix: str) -> None:
    if column not in stream.columns:
        raise DefinitionError(name, f"{stream.name} has no column {column}", fix)
    if stream.columns[column].kind is not kind:
        raise DefinitionError(name, f"{stream.name}.{column} is a {stream.columns[column].kind}", fix)


def _threshold(name: str, above: float) -> definition.Number:
    try:
        return number(above)
    except ValueError as exc:
        raise DefinitionError(name, str(exc), "write a finite number") from exc


def _check_reach(name: str, stream: StreamSpec, column: str, above: definition.Number) -> None:
    kind = stream.columns[column]
    over = kind.hi is not None and above.value * kind.scale >= kind.hi * above.scale
    under = kind.lo is not None and above.value * kind.scale < kind.lo * above.scale
    if over or under:
        problem = f"by its range {stream.name}.{column} is {'never' if over else 'always'} above the number"
        raise DefinitionError(name, problem, "take a number between its lo and its hi")


def twins(name: str, stream: str) -> DefinitionError:
    """Return the error for two streams of one name in a set."""
    return DefinitionError(name, f"two streams are named {stream}", "rename one, or declare it once and use that")
