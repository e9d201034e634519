"""Feature sets as specifications: written by hand, and drawn at random; equal seeds give equal ones.

What is drawn is valid: types meet, and by the declared ranges no arithmetic leaves ±2**62 and no final number ±2**53.
"""

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

SECOND = 1_000_000
HOUR = 3600 * SECOND
WIDEST, FINAL, SQUARED, FINEST = 2**62, 2**53, 2**31, 2**30
FIRST, LAST = -62_135_510_400 * SECOND, 253_402_214_400 * SECOND

ZONES = ("America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Europe/Dublin", "UTC")
PARTS = ("hour", "minute_of_day", "day_of_week", "hour_of_week")
COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")
TRUTHS = {"not": 1, "and": 2, "or": 2, "where": 3}
TEXTS = ("", "a", "b", "c", "é", "A")


def column(name):
    """Return the expression of a column."""
    return {"column": name}


def number(value, scale=1):
    """Return the expression of the number value/scale."""
    return {"number": value, "scale": scale}


def text(value):
    """Return the expression of a text."""
    return {"text": value}


def op(name, *args):
    """Return the expression of an operation."""
    return {"op": name, "args": list(args)}


def local(part, zone, of):
    """Return the expression of a part of a local time."""
    return {"local": part, "zone": zone, "of": of}


def windowed(aggregate, stream, by, value=None, *, window, hop=0, at=None):
    """Return the expression of an aggregate over a window; `at` is `by` if it is not given."""
    group = {"aggregate": aggregate, "stream": stream, "by": by, "at": at or by}
    return group | ({} if value is None else {"value": value}) | {"window_us": window, "hop_us": hop}


def as_of(aggregate, stream, by, value, *, ttl, at=None):
    """Return the expression of `last` or `age`; ttl None is for ever."""
    return {"aggregate": aggregate, "stream": stream, "by": by, "at": at or by, "value": value, "ttl_us": ttl}


def decay_mean(stream, by, value, *, horizon, half_life, tick, at=None):
    """Return the expression of a decayed mean."""
    group = {"aggregate": "decay_mean", "stream": stream, "by": by, "at": at or by, "value": value}
    return group | {"horizon_us": horizon, "half_life_us": half_life, "tick_us": tick}


def fixed(scale=1, lo=None, hi=None):
    """Return the type of a number; lo and hi in stored units."""
    return {"type": "fixed", "unit": "", "scale": scale, "lo": lo, "hi": hi}


CATEGORY, TIME, BOOLEAN = {"type": "category"}, {"type": "time"}, {"type": "boolean"}


def specification(streams, features, lateness=0):
    """Return the JSON form of a set; the spine is the first stream, columns and streams in use are kept, in order."""
    used: dict[str, set[str]] = {next(iter(streams)): set()}
    for expression in features.values():
        _note_columns(expression, next(iter(streams)), next(iter(streams)), used)
    kept = [
        {"name": name, "key": "id", "columns": {c: streams[name][c] for c in sorted(columns)}}
        for name, columns in used.items()
    ]
    return {
        "feature_set": "random",
        "version": 1,
        "kernel": 2,
        "lateness_us": lateness,
        "streams": kept,
        "features": [{"name": name, "value": value} for name, value in features.items()],
        "target": None,
    }


def _note_columns(expression, stream, spine, used):
    """Write down by stream which columns an expression reads."""
    if "column" in expression:
        used[stream].add(expression["column"])
    if "aggregate" in expression:
        used[spine].add(expression["at"])
        stream = expression["stream"]
        used.setdefault(stream, set()).add(expression["by"])
    for part in (*expression.get("args", ()), *(expression[n] for n in ("value", "of") if n in expression)):
        _note_columns(part, stream, spine, used)


@dataclass(frozen=True)
class Made:
    """An expression with what the compiler can know of it; lo and hi in stored units."""

    expression: dict[str, object]
    kind: str  #: number, truth, time or text
    scale: int = 1
    lo: int = 0
    hi: int = 1
    open: bool = False  #: a range without an end
    unit: str = ""

    @property
    def magnitude(self) -> int:
        return max(abs(self.lo), abs(self.hi))

    def at(self, scale: int) -> "Made":
        factor = scale // self.scale
        return replace(self, scale=scale, lo=self.lo * factor, hi=self.hi * factor)


class Misfit(Exception):
    """What was drawn would not be valid: draw again."""


@dataclass
class Maker:
    """Draws expressions over the columns of given streams, the first of which is the spine."""

    rng: random.Random
    streams: Mapping[str, Mapping[str, Mapping[str, object]]]
    unit: int  #: µs: durations are small multiples of it
    spine: str = field(init=False)

    def __post_init__(self) -> None:
        self.spine = next(iter(self.streams))

    def until_it_fits(self, draw: Callable[[], Made]) -> Made:
        """Return what is drawn, once it is valid."""
        for _ in range(1000):
            try:
                return draw()
            except Misfit:
                continue
        raise AssertionError("nothing valid was drawn in 1000 attempts")

    # Exact expressions

    def column_of(self, stream: str, *kinds: str) -> Made:
        """Return a column of one of the types."""
        columns = self.streams[stream]
        names = [name for name in columns if columns[name]["type"] in kinds]
        if not names:
            raise Misfit
        name = self.rng.choice(names)
        kind = columns[name]
        match kind["type"]:
            case "fixed":
                lo, hi = (-FINAL if kind["lo"] is None else kind["lo"]), (FINAL if kind["hi"] is None else kind["hi"])
                return Made(column(name), "number", kind["scale"], lo, hi, None in (kind["lo"], kind["hi"]))
            case "boolean":
                return Made(column(name), "truth")
            case "time":
                return Made(column(name), "time", 1, FIRST, LAST)
            case _:
                return Made(column(name), "text")

    def literal(self) -> Made:
        """Return a decimal number in lowest terms."""
        value, scale = self.rng.choice([0, 1, 3, 15, -2, 100, -7, 12345, self.rng.randrange(-FINAL, FINAL)]), 1
        for _ in range(self.rng.choice([0, 0, 1, 2, 6])):
            if value % 10:
                scale *= 10
        return Made(number(value, scale), "number", scale, value, value)

    def exact_number(self, stream: str, depth: int) -> Made:
        """Return an exact expression that is a number."""
        if depth == 0 or self.rng.random() < 0.3:
            return self.column_of(stream, "fixed")
        draws = [self.arithmetic, self.arithmetic, self.arithmetic, self.negated, self.clipped, self.chosen]
        return self.rng.choice([*draws, self.clock_part])(stream, depth - 1)

    def arithmetic(self, stream: str, depth: int) -> Made:
        return self.joined(self.rng.choice(["add", "sub", "mul"]), *self.exact_pair(stream, depth))

    def negated(self, stream: str, depth: int) -> Made:
        made = self.exact_number(stream, depth)
        return replace(made, expression=op("neg", made.expression), lo=-made.hi, hi=-made.lo)

    def clipped(self, stream: str, depth: int) -> Made:
        return self.clip(self.elapsed(stream) if self.rng.random() < 0.4 else self.exact_number(stream, depth))

    def chosen(self, stream: str, depth: int) -> Made:
        return self.joined("where", *self.exact_pair(stream, depth), self.exact_truth(stream, depth))

    def clock_part(self, stream: str, _: int) -> Made:
        part, zone = self.rng.choice(PARTS), self.rng.choice(ZONES)
        return Made(local(part, zone, self.column_of(stream, "time").expression), "number", 1, 0, 1439)

    def exact_pair(self, stream: str, depth: int) -> tuple[Made, Made]:
        left = self.exact_number(stream, depth)
        return left, self.literal() if self.rng.random() < 0.3 else self.exact_number(stream, depth)

    def elapsed(self, stream: str) -> Made:
        """Return the seconds between two times."""
        ends = self.column_of(stream, "time"), self.column_of(stream, "time")
        between = op("sub", *(end.expression for end in ends))
        return Made(between, "number", SECOND, FIRST - LAST, LAST - FIRST, open=True, unit="s")

    def joined(self, name: str, left: Made, right: Made, condition: Made | None = None) -> Made:
        """Return two numbers under an operation."""
        common = math.lcm(left.scale, right.scale)
        if name == "mul":
            scale, a, b = left.scale * right.scale, left, right
        else:
            scale, a, b = common, left.at(common), right.at(common)
        match name:
            case "add":
                ends = [a.lo + b.lo, a.hi + b.hi]
            case "sub":
                ends = [a.lo - b.hi, a.hi - b.lo]
            case "mul":
                ends = [x * y for x in (a.lo, a.hi) for y in (b.lo, b.hi)]
            case _:
                ends = [a.lo, a.hi, b.lo, b.hi]
        args = [each.expression for each in (condition, left, right) if each is not None]
        unit = left.unit + right.unit if name == "mul" else one_unit(left, right)
        made = Made(op(name, *args), "number", scale, min(ends), max(ends), left.open or right.open, unit)
        return within(made, a, b)

    def clip(self, made: Made) -> Made:
        """Return a number between two bounds."""
        lo, hi = sorted((self.literal(), self.literal()), key=lambda each: each.lo * 10**6 // each.scale)
        scale = math.lcm(made.scale, lo.scale, hi.scale)
        a, b, c = made.at(scale), lo.at(scale), hi.at(scale)
        ends = [min(max(end, b.lo), c.lo) for end in (a.lo, a.hi)]
        clipped = op("clip", made.expression, lo.expression, hi.expression)
        if b.lo > c.lo:
            raise Misfit
        return within(Made(clipped, "number", scale, *ends, unit=made.unit), a, b, c)

    def exact_truth(self, stream: str, depth: int) -> Made:
        """Return an exact expression that is true, false or null."""
        if depth == 0 or self.rng.random() < 0.15:
            return self.column_of(stream, "boolean") if self.rng.random() < 0.4 else self.comparison(stream, 0)
        draws = [self.comparison, self.comparison, self.same_text, self.same_time, self.missing, self.logic, self.logic]
        return self.rng.choice(draws)(stream, depth - 1)

    def same_text(self, stream: str, _: int) -> Made:
        left = self.column_of(stream, "category").expression
        drawn = self.rng.choice([*TEXTS, "nowhere"])
        other = text(drawn) if self.rng.random() < 0.6 else self.column_of(stream, "category").expression
        return Made(op(self.rng.choice(["eq", "ne"]), left, other), "truth")

    def same_time(self, stream: str, _: int) -> Made:
        ends = (self.column_of(stream, "time").expression for _ in range(2))
        return Made(op(self.rng.choice(COMPARISONS), *ends), "truth")

    def missing(self, stream: str, _: int) -> Made:
        return Made(op("is_null", self.column_of(stream, "fixed", "boolean", "time", "category").expression), "truth")

    def logic(self, stream: str, depth: int) -> Made:
        name = self.rng.choice(["and", "or", "not", "where"])
        args = (self.exact_truth(stream, depth).expression for _ in range(TRUTHS[name]))
        return Made(op(name, *args), "truth")

    def comparison(self, stream: str, depth: int) -> Made:
        """Return the comparison of two numbers."""
        left, right = self.exact_pair(stream, depth)
        if self.rng.random() < 0.2:
            left = self.elapsed(stream)
        common = math.lcm(left.scale, right.scale)
        one_unit(left, right)
        compared = Made(op(self.rng.choice(COMPARISONS), left.expression, right.expression), "truth")
        return within(compared, left.at(common), right.at(common))

    # Aggregates and row expressions

    def span(self) -> int:
        return self.unit * self.rng.choice([1, 2, 3, 5, 10, 10, 50, 1000, 604_800])

    def aggregate(self) -> Made:
        """Return an aggregate over any stream."""
        name = self.rng.choice(["count", "sum", "mean", "std", "min", "max", "distinct", "last", "age", "decay_mean"])
        stream = self.rng.choice(list(self.streams))
        by = self.column_of(stream, "category").expression["column"]
        shared = by in self.streams[self.spine] and self.streams[self.spine][by] == CATEGORY
        drawn = self.column_of(self.spine, "category").expression["column"]
        group = {"stream": stream, "by": by, "at": by if shared and self.rng.random() < 0.7 else drawn}
        value = self.operand(name, stream)
        if name in {"last", "age"}:
            ttl = None if self.rng.random() < 0.3 else self.span()
            return Made(as_of(name, **group, value=value, ttl=ttl), "number")
        window = self.span()
        if name == "decay_mean":
            tick = max(1, window // self.rng.choice([1, 3, 10, 100]))
            half_life = max(1, int(window * self.rng.choice([0.01, 0.1, 0.3, 1, 5])))
            return Made(decay_mean(**group, value=value, horizon=window, half_life=half_life, tick=tick), "number")
        hop = max(1, window // self.rng.choice([1, 2, 3, 10])) if self.rng.random() < 0.3 else 0
        return Made(windowed(name, **group, value=value, window=window, hop=hop), "number")

    def operand(self, aggregate: str, stream: str) -> dict[str, object] | None:
        """Return a value that the aggregate can take."""
        if aggregate == "count":
            return None
        if aggregate == "distinct":
            return self.column_of(stream, "category").expression
        if aggregate == "age" and self.rng.random() < 0.5:
            return self.column_of(stream, "category", "time", "boolean", "fixed").expression
        draw = self.exact_truth if self.rng.random() < 0.25 else self.exact_number
        made = draw(stream, self.rng.choice([0, 0, 1, 2]))
        limit = SQUARED if aggregate in {"std", "decay_mean"} else FINAL
        if made.magnitude > limit or (made.open and aggregate in {"sum", "mean", "std", "decay_mean"}):
            raise Misfit
        return made.expression

    def row_number(self, depth: int) -> Made:
        """Return a number over aggregates; what stands to the right may be exact."""
        if depth == 0 or self.rng.random() < 0.2:
            return self.aggregate()
        left = self.row_number(depth - 1).expression
        match self.rng.choice(["add", "sub", "mul", "div", "div", "neg", "clip", "where"]):
            case "neg":
                made = op("neg", left)
            case "clip":
                ends = sorted((self.literal(), self.literal()), key=lambda each: each.lo / each.scale)
                made = op("clip", left, *(end.expression for end in ends))
            case "where":
                made = op("where", self.row_truth(depth - 1).expression, left, self.any_number(depth - 1))
            case "div" if self.rng.random() < 0.3:
                made = op("div", self.exact_number(self.spine, 1).expression, self.any_number(depth - 1))
            case name:
                made = op(name, left, self.any_number(depth - 1))
        return Made(made, "number")

    def any_number(self, depth: int) -> dict[str, object]:
        match self.rng.choice(["row", "row", "exact", "literal"]):
            case "row":
                return self.row_number(depth).expression
            case "exact":
                return self.exact_number(self.spine, 1).expression
            case _:
                return self.literal().expression

    def row_truth(self, depth: int) -> Made:
        """Return a truth over aggregates and columns of the spine."""
        name = self.rng.choice(["compare", "compare", "exact", "is_null", *(TRUTHS if depth > 0 else [])])
        if name in TRUTHS:
            return Made(op(name, *(self.row_truth(depth - 1).expression for _ in range(TRUTHS[name]))), "truth")
        if name == "exact":
            return self.exact_truth(self.spine, 1)
        left = self.row_number(depth - 1 if depth > 0 else 0).expression
        if name == "is_null":
            return Made(op("is_null", left), "truth")
        return Made(op(self.rng.choice(COMPARISONS), left, self.any_number(0)), "truth")

    def final(self, made: Made) -> Made:
        """Return a number that may leave the integers."""
        if made.magnitude > FINAL:
            raise Misfit
        return made

    def feature(self) -> Made:
        """Return any feature."""
        match self.rng.choice(["aggregate"] * 6 + ["row"] * 3 + ["truth", "exact", "exact"]):
            case "aggregate":
                return self.aggregate()
            case "row":
                return self.row_number(self.rng.choice([1, 2, 3]))
            case "truth":
                return self.row_truth(self.rng.choice([0, 1, 2]))
            case _:
                draw = self.rng.choice([self.exact_number, self.exact_truth])
                return self.final(draw(self.spine, self.rng.choice([0, 1, 2])))


def within(made: Made, *args: Made) -> Made:
    """Return what was made of numbers at a common scale, if nothing can overflow."""
    if any(each.magnitude > WIDEST or each.scale > FINEST for each in (made, *args)):
        raise Misfit
    return made


def one_unit(left: Made, right: Made) -> str:
    """Return the unit of two numbers that meet: seconds and plain numbers do, seconds and their squares do not."""
    if left.unit and right.unit and left.unit != right.unit:
        raise Misfit
    return left.unit or right.unit


def random_types(rng: random.Random, names: str) -> dict[str, dict[str, object]]:
    """Return columns of all types, the first a category."""
    types = {names[0]: CATEGORY}
    for name in names[1:]:
        kind = rng.choice(["fixed", "fixed", "fixed", "category", "time", "boolean"])
        types[name] = {"category": CATEGORY, "time": TIME, "boolean": BOOLEAN}.get(kind) or random_range(rng)
    return types


def random_range(rng: random.Random) -> dict[str, object]:
    """Return a fixed type: any scale, and a range from a few units to all there is."""
    scale = rng.choice([1, 1, 2, 3, 7, 10, 12, 100, 1000, 10**6])
    size = rng.choice([1, 3, 100, 50_000, SQUARED, SQUARED, 2**40, FINAL])
    lo, hi = rng.choice([(-size, size), (0, size), (-size, -size // 2), (size // 2, size), (-1, size)])
    return fixed(scale, *rng.choice([(lo, hi)] * 6 + [(None, hi), (lo, None), (None, None)]))


def random_specification(seed: int) -> dict[str, object]:
    """Return a feature set over two to four streams, with five to fifteen features."""
    rng = random.Random(seed)
    names = ["spine", "other", "third", "fourth"][: rng.choice([2, 2, 3, 4])]
    streams = {
        name: random_types(rng, rng.choice("kkm") + "".join(rng.sample("abcdef", rng.choice([1, 3, 5]))))
        for name in names
    }
    unit = rng.choice([1, 1000, SECOND, 60 * SECOND, HOUR])
    maker = Maker(rng, streams, unit)
    count = rng.choice([5, 8, 12, 15])
    features = {f"f{n}": maker.until_it_fits(maker.feature).expression for n in range(count)}
    lateness = rng.choice([0, 1, unit, 3 * unit, 10 * unit, 10 * unit, 50 * unit, 1000 * unit, 6 * HOUR])
    return specification(streams, features, lateness)
