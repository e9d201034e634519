"""What is written on the right of a feature's name: columns, operators, parts of local time, aggregates.

Nothing is checked while a declaration is written, so that every complaint can name the feature: `compile` checks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from reprlib import Repr
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, NoReturn

from mainstem.feature_engine.calls import Uncalled, written
from mainstem.feature_engine.column_types import ColumnType
from mainstem.feature_engine.definition import AS_OF, DECAY, WINDOWED, StreamSpec
from mainstem.feature_engine.localtime import PARTS
from mainstem.feature_engine.misuse import Unread, Unwritten, lacks

AGGREGATES = tuple(sorted(WINDOWED | AS_OF | {DECAY}))


class Expression(Unwritten):
    """A value: compare, calculate, choose. Operators make expressions; they compute nothing."""

    def __add__(self, other: "Operand") -> "Made":
        return Made("add", (self, other))

    def __radd__(self, other: "Operand") -> "Made":
        return Made("add", (other, self))

    def __sub__(self, other: "Operand") -> "Made":
        return Made("sub", (self, other))

    def __rsub__(self, other: "Operand") -> "Made":
        return Made("sub", (other, self))

    def __mul__(self, other: "Operand") -> "Made":
        return Made("mul", (self, other))

    def __rmul__(self, other: "Operand") -> "Made":
        return Made("mul", (other, self))

    def __truediv__(self, other: "Operand") -> "Made":
        return Made("div", (self, other))

    def __rtruediv__(self, other: "Operand") -> "Made":
        return Made("div", (other, self))

    def __neg__(self) -> "Made":
        return Made("neg", (self,))

    def __lt__(self, other: "Operand") -> "Made":
        return Made("lt", (self, other))

    def __le__(self, other: "Operand") -> "Made":
        return Made("le", (self, other))

    def __gt__(self, other: "Operand") -> "Made":
        return Made("gt", (self, other))

    def __ge__(self, other: "Operand") -> "Made":
        return Made("ge", (self, other))

    def __eq__(self, other: object) -> "Made":  # type: ignore[override, explicit-override]  # an expression
        return Made("eq", (self, other))

    def __ne__(self, other: object) -> "Made":  # type: ignore[override, explicit-override]
        return Made("ne", (self, other))

    def __and__(self, other: "Operand") -> "Made":
        return Made("and", (self, other))

    def __or__(self, other: "Operand") -> "Made":
        return Made("or", (self, other))

    def __invert__(self) -> "Made":
        return Made("not", (self,))

    def __bool__(self) -> bool:
        raise TypeError("a feature is no truth while it is declared: use &, | and ~, and where(condition, a, b)")

    __hash__ = object.__hash__

    if not TYPE_CHECKING:  # for a type checker what is missing is missing

        def __getattr__(self, name: str) -> NoReturn:
            if name in AGGREGATES:
                instead = f'group its stream first, like order.by("shop").{name}("amount", ...)'
                raise AttributeError(f"{shown(self)} has no {name}: {instead}")
            raise lacks(shown(self), name, ("clip", "is_null", "local"))

        def __call__(self, *_: object, **__: object) -> NoReturn:
            """Raise TypeError: only methods are called."""
            raise TypeError(f"{shown(self)} is no function: write it without ()")

        def __getitem__(self, _: object) -> NoReturn:
            raise TypeError(f"{shown(self)} has no parts: it is compared and calculated with as a whole")

        def __len__(self) -> NoReturn:
            raise TypeError(f"{shown(self)} has no length: let the source send it as a column")

    @written("clip(0, 60)")
    def clip(self, lo: float, hi: float) -> "Made":
        """Hold the value between two numbers."""
        return Made("clip", (self, lo, hi))

    @written("is_null()")
    def is_null(self) -> "Made":
        """Whether there is no value; never null itself."""
        return Made("is_null", (self,))

    @written('local("Europe/Paris")')
    def local(self, zone: str) -> "LocalTime":
        """Read a time on the wall clock of an IANA zone."""
        return LocalTime(self, zone)


Operand = Expression | int | float | str


@written("where(order.rush, 4.5, 0)")
def where(condition: Expression, one: Operand, other: Operand) -> "Made":
    """Choose `one` where the condition is true and `other` where it is false; null where it is null."""
    return Made("where", (condition, one, other))


@dataclass(frozen=True, slots=True, eq=False)
class Made(Expression):
    """An operation on expressions and constants."""

    op: str
    args: tuple[object, ...]


@dataclass(frozen=True, eq=False)
class Stream:
    """A stream of events; its columns are attributes (`dep.origin`) or items (`dep["by"]`), whatever their names."""

    _spec: StreamSpec

    if not TYPE_CHECKING:

        def __call__(self, *_: object, **__: object) -> NoReturn:
            """Raise TypeError: only methods are called."""
            raise TypeError(f'{shown(self)} is no function: write {spec_of(self).name}["amount"]')

    def __getattr__(self, column: str) -> "Column":
        if column.startswith("_"):
            raise AttributeError(f'{column} is no attribute of a stream: a column of that name is written ["{column}"]')
        return Column(self, column)

    def __getitem__(self, column: str) -> "Column":
        if not isinstance(column, str):
            raise _no_name(self, column)
        return Column(self, column)

    @written('by("shop")', besides='a column of that name is written order["by"]')
    def by(self, key: str, *, at: str | None = None) -> "Grouped":
        """Group by a category column; at a spine event the group of the spine's column `at` (the same name) is read."""
        return Grouped(self, key, key if at is None else at)


def spec_of(stream: Stream) -> StreamSpec:
    """Return what a stream was declared with, which has no attributes of its own: each could be that of a column."""
    return stream._spec


def _no_name(stream: Stream, given: object) -> TypeError:
    name = spec_of(stream).name
    return TypeError(f'{shown(given)} is no column of {name}: give its name, like {name}["amount"]')


@dataclass(frozen=True, slots=True, eq=False)
class Column(Expression):
    """A column of a stream."""

    stream: Stream
    name: str

    def __call__(self, *_: object, **__: object) -> NoReturn:
        """Raise TypeError: what was meant is an aggregate."""
        instead = "write it without ()"
        if self.name in AGGREGATES:
            instead = f'group the stream first, like {spec_of(self.stream).name}.by("shop").{self.name}(...)'
        raise TypeError(f"{shown(self)} is no function: {instead}")


@dataclass(frozen=True, slots=True, eq=False)
class LocalPart(Expression):
    """A part of a local time."""

    time: "LocalTime"
    part: str


@dataclass(frozen=True, slots=True, eq=False)
class LocalTime:
    """A time on the wall clock of a zone."""

    of: Expression
    zone: str

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            raise lacks(shown(self), name, PARTS)

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


@dataclass(frozen=True, slots=True)
class Window:
    """A length of time that slides in hops; without one it slides continuously."""

    span: str | None
    hop: str


@written('window("1h", hop="5m")')
def window(span: str, *, hop: str) -> Window:
    """Let a window begin at whole hops since 1970 UTC only: it is at least `span` long, and shorter than span + hop."""
    return Window(span, hop)


@dataclass(frozen=True, slots=True, eq=False)
class Windowed(Expression):
    """An aggregate as declared; durations are texts such as "6h"."""

    group: "Grouped"
    op: str
    value: "Expression | str | None"
    span: str | Window | None
    half_life: str | None = None
    tick: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Grouped:
    """The events of a stream that share a key.

    At a spine event with event time t, a window W holds the events before it in the applied order with event time in
    [t - W, t): the event itself and all ties at t are outside. Nulls are ignored by all but `count`.
    """

    stream: Stream
    by: str
    at: str

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            raise lacks(shown(self), name, AGGREGATES)

        def __call__(self, *_: object, **__: object) -> NoReturn:
            """Raise TypeError: only methods are called."""
            raise TypeError(f"{shown(self)} is no function: take one of {', '.join(AGGREGATES)}")

        __getitem__ = __call__

    @written('count("1h")')
    def count(self, window: str | Window) -> Windowed:
        """Count the events."""
        return Windowed(self, "count", None, window)

    @written('sum("amount", "1h")')
    def sum(self, value: "Operated", window: str | Window) -> Windowed:
        """Sum; 0 if there is nothing."""
        return Windowed(self, "sum", value, window)

    @written('mean("amount", "1h")')
    def mean(self, value: "Operated", window: str | Window) -> Windowed:
        """Mean, or null."""
        return Windowed(self, "mean", value, window)

    @written('std("amount", "1h")')
    def std(self, value: "Operated", window: str | Window) -> Windowed:
        """Sample standard deviation; null for fewer than two values."""
        return Windowed(self, "std", value, window)

    @written('min("amount", "1h")')
    def min(self, value: "Operated", window: str | Window) -> Windowed:
        """Smallest value, or null."""
        return Windowed(self, "min", value, window)

    @written('max("amount", "1h")')
    def max(self, value: "Operated", window: str | Window) -> Windowed:
        """Largest value, or null."""
        return Windowed(self, "max", value, window)

    @written('distinct("item", "1h")')
    def distinct(self, value: "Operated", window: str | Window) -> Windowed:
        """Count the different categories."""
        return Windowed(self, "distinct", value, window)

    @written('last("amount", ttl="1d")')
    def last(self, value: "Operated", *, ttl: str | None) -> Windowed:
        """Value of the greatest (event time, applied position) that is not null, if no older than `ttl`; None: ever."""
        return Windowed(self, "last", value, ttl)

    @written('age("amount", ttl="1d")')
    def age(self, value: "Operated", *, ttl: str | None) -> Windowed:
        """Seconds since the event that `last` would take."""
        return Windowed(self, "age", value, ttl)

    @written('decay_mean("amount", half_life="20m", horizon="1h", tick="1m")')
    def decay_mean(self, value: "Operated", *, half_life: str, horizon: str, tick: str) -> Windowed:
        """Mean over [t - horizon, t), weighted by round(2**24 * 2**-(age in whole ticks / half_life))."""
        return Windowed(self, "decay_mean", value, horizon, half_life, tick)


Operated = str | Expression


@dataclass(frozen=True, slots=True)
class Target(Unread):
    """The label of a set: what becomes known about a spine event later. No feature may read it."""

    value: Expression
    on: str
    wait: str


def shown(value: object) -> str:
    """Return what an author handed over, in a few words."""
    match value:
        case Column(stream, name):
            return f"the column {spec_of(stream).name}.{name}"
        case Stream():
            return f"the stream {spec_of(value).name}"
        case Grouped(stream):
            return f"a group of {spec_of(stream).name}"
        case Windowed(Grouped(stream)):
            return f"an aggregate of {spec_of(stream).name}"
        case _ if type(value) in _THINGS:
            return _THINGS[type(value)]
        case _:
            return _python(value)


def _python(value: object) -> str:
    if isinstance(value, FunctionType | type):
        return f"the {'class' if isinstance(value, type) else 'function'} {value.__name__}"
    if isinstance(value, ModuleType):
        return f"the module {value.__name__} (import it above the class)"
    return _SHORT.repr(value)


_SHORT = Repr()
_SHORT.maxother = _SHORT.maxstring = 60

_THINGS: Mapping[type, str] = {
    Made: "an expression",
    LocalPart: "a part of a local time",
    LocalTime: "a local time",
    Window: "a window with a hop",
    Target: "the target",
    Uncalled: "a method without its ()",
    ColumnType: "the type of a column",
    tuple: "a tuple (a comma at the end makes one)",
    list: "a list",
    dict: "a dict",
}
