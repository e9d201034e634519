"""What an author is refused although it could be computed: names, units that are mixed, what ranges decide beforehand.

A stored specification is loaded without these checks, so that an old set is computed for as long as there is one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from mainstem.feature_engine.column_types import ColumnType, Kind
from mainstem.feature_engine.definition import Aggregate, Column, Definition, Expression, Local, Number, Operation
from mainstem.feature_engine.errors import DefinitionError
from mainstem.feature_engine.inference import COUNTED, MOST, Unfit, infer, product_unit

_COMPARED = frozenset({"lt", "le", "gt", "ge", "eq", "ne"})
_KEEPING = frozenset({"min", "max", "mean", "last", "decay_mean"})
_UNITS = {"count": COUNTED, "distinct": COUNTED, "age": "s"}

Types = Mapping[str, ColumnType]


@dataclass(frozen=True, slots=True)
class Meaning:
    """What is known of a number beside its type: its unit ("" if none is known) and its bounds, in that unit."""

    unit: str = ""
    lo: Fraction | None = None
    hi: Fraction | None = None

    @property
    def constant(self) -> Fraction | None:
        """The number, if it can be only one."""
        return self.lo if self.lo == self.hi else None


RESERVED = frozenset({"spine_id", "entity", "event_time", "recorded_time", "position", "label"})
"""The other columns of a file of rows."""


def refuse(definition: Definition) -> None:
    """Raise DefinitionError for what no author may write; whoever takes a definition from outside asks this."""
    refuse_names(definition)
    refuse_meaning(definition)


def refuse_names(definition: Definition) -> None:
    """Raise DefinitionError for the first feature or target that may not be called so; nothing else need be checked."""
    for feature in definition.features:
        _refuse_name(feature.name)
        if feature.name in RESERVED:
            problem = "a file of rows has a column of this name beside the features"
            raise DefinitionError(feature.name, problem, "take another name")
    if definition.target is not None:
        _refuse_name(definition.target.name)


def refuse_meaning(definition: Definition) -> None:
    """Raise DefinitionError for the first feature or target of a checked definition that means nothing."""
    streams = {stream.name: stream.columns for stream in definition.streams}
    spine = definition.streams[0]
    reader = _Reader(streams, spine.columns)
    for feature in definition.features:
        try:
            reader.meaning(feature.value)
        except Unfit as fault:
            raise DefinitionError(feature.name, fault.problem, fault.fix) from fault
    if definition.target is not None and definition.target.stream == spine.name:
        problem = f"a target over the spine {spine.name} labels a record by itself"
        fix = "take a column of the stream by which it becomes known later"
        raise DefinitionError(definition.target.name, problem, fix)


def _refuse_name(name: str) -> None:
    if not name.isidentifier() or name.startswith("__"):
        raise DefinitionError(repr(name), "it is no name of a feature", "write a name as Python has them, like mean_1h")


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads expressions over the columns of one stream."""

    streams: Mapping[str, Types]
    columns: Types

    def meaning(self, expression: Expression) -> Meaning:
        """Return what is known of an expression; raise Unfit for the first part that means nothing."""
        match expression:
            case Column(name):
                _refuse_one_number(name, self.columns[name])
                return self._bounded(expression, self.columns[name].unit)
            case Number():
                return self._bounded(expression, "")
            case Local(part):
                return Meaning("", Fraction(0), Fraction(MOST[part] + 1))  # `hour < 24` is how a day is written
            case Aggregate():
                return self._aggregate(expression)
            case Operation(op, args):
                found = [self.meaning(arg) for arg in args]
                _refuse(op, found)
                return self._bounded(expression, _unit(op, found))
            case _:
                return Meaning()

    def _bounded(self, expression: Expression, unit: str) -> Meaning:
        """Return the bounds that the ranges of the columns leave to an exact number; those of others are open."""
        found = infer(expression, self.columns)
        if found.kind is not Kind.FIXED or not found.exact:
            return Meaning(unit)
        return Meaning(unit, Fraction(found.lo, found.scale), Fraction(found.hi, found.scale))

    def _aggregate(self, aggregate: Aggregate) -> Meaning:
        columns = self.streams[aggregate.stream]
        if aggregate.value is None:
            return Meaning(COUNTED, Fraction(0))
        of = _Reader(self.streams, columns).meaning(aggregate.value)
        truth = infer(aggregate.value, columns).kind is Kind.BOOLEAN
        if aggregate.op in _KEEPING:
            return Meaning("", Fraction(0), Fraction(1)) if truth else of
        if aggregate.op == "sum":
            return Meaning(COUNTED if truth else of.unit)
        return Meaning(_UNITS.get(aggregate.op, of.unit), Fraction(0))


def _refuse_one_number(name: str, kind: ColumnType) -> None:
    if kind.kind is Kind.FIXED and kind.lo is not None and kind.lo == kind.hi:
        problem = (
            f"at its scale {kind.scale} the range of {name} holds one number, {_shown(Fraction(kind.lo, kind.scale))}"
        )
        raise Unfit(problem, "take a larger scale, or a wider range")


def _refuse(op: str, args: list[Meaning]) -> None:
    if op in {"add", "sub"} | _COMPARED:
        _one_unit("compare" if op in _COMPARED else op, args)
    if op == "where":
        _one_unit("choose between", args[1:])
    if op in _COMPARED:
        _refuse_decided(op, *args)
    if op == "clip":
        _refuse_clip(*args)
    if op == "div" and args[1].constant == 0:
        raise Unfit("a division by 0 is always null", "divide by what is not always 0")


def _one_unit(verb: str, args: list[Meaning]) -> None:
    units = sorted({arg.unit for arg in args if arg.unit})
    if len(units) > 1:
        fix = "bring them to one unit first: what is divided by a number has no unit any more"
        raise Unfit(f"cannot {verb} {' and '.join(units)}", fix)


def _refuse_decided(op: str, one: Meaning, other: Meaning) -> None:
    """Refuse a comparison with a number beyond the range, or at its end if that makes it false for ever.

    The number stands on the right: Python itself turns `5 < x` into `x > 5`.
    """
    number = other.constant
    if number is None:
        return
    over = one.hi is not None and (number > one.hi or (op == "gt" and number == one.hi))
    under = one.lo is not None and (number < one.lo or (op == "lt" and number == one.lo))
    if over or under:
        end = f"above {_shown(one.hi)}" if over else f"below {_shown(one.lo)}"
        problem = f"a comparison with {_shown(number)} is decided beforehand, since the value is never {end}"
        raise Unfit(problem, "take a number inside the range")


def _refuse_clip(value: Meaning, low: Meaning, high: Meaning) -> None:
    least, most = low.constant, high.constant
    if least is None or most is None or least > most:
        raise Unfit("clip() needs two numbers, the smaller first", "write clip(0, 60)")
    if (value.hi is not None and least > value.hi) or (value.lo is not None and most < value.lo):
        span = f"{_shown(value.lo)} to {_shown(value.hi)}"
        raise Unfit(f"clip({_shown(least)}, {_shown(most)}) lies outside of {span}", "clip within the range")


def _unit(op: str, args: list[Meaning]) -> str:
    """Return the unit of what comes out of an operation, "" if it has none or none is known."""
    if op in _COMPARED | {"and", "or", "not", "is_null"}:
        return ""
    units = [arg.unit for arg in args]
    if op == "mul":
        return product_unit(*units)
    if op == "div":
        return units[0] if units[1] == COUNTED and units[0] != COUNTED else ""
    return next((unit for unit in units if unit), "")


def _shown(number: Fraction | None) -> str:
    return "" if number is None else f"{float(number):.15g}"
