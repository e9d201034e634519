"""The rows of a feature set by its definitions, and the records behind each value."""

import json
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite

from mainstem.feature_engine.reference.aggregates import Aggregate, Applied, Held, Records, aggregate
from mainstem.feature_engine.reference.exact import COMPARISONS, Exact, Json, exact, is_exact, quotient, text
from mainstem.feature_engine.reference.wording import wording

_KERNEL = 2
"""The semantics that are read here."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one record brings to one value."""

    of: str  #: the aggregate, or the column of the spine, in words
    place: object  #: of the record, as it was given
    event_time_us: int
    value: float | int | str | None  #: a number in its unit, a time in µs; 1 for each record that is counted


@dataclass(frozen=True, slots=True)
class _Moment:
    """A spine record that is answered, with the aggregates known so far."""

    record: Applied
    too_late: bool
    known: dict[str, float | None] = field(default_factory=dict)


Cell = Callable[[_Moment], float | None]


class Reference:
    """Evaluates feature definitions over the records applied so far.

    Records are applied in one order, in which arrivals never fall, and only once; a spine record is asked about before
    it is applied. Each record's columns are kept as they are given, not copied, for as long as a window may reach them.
    """

    def __init__(self, spec: Mapping[str, object]) -> None:
        """Read the specification of a compiled feature set; ValueError if it is of another kernel or not whole."""
        if spec.get("kernel") != _KERNEL:
            raise ValueError(f"the set is of kernel {spec.get('kernel')!r}: this evaluator reads kernel {_KERNEL}")
        match spec:
            case {"lateness_us": int(lateness), "streams": [*streams], "features": [*features]}:
                self.lateness_us = lateness
            case _:
                raise ValueError("the specification lacks lateness_us, streams or features: compile the set again")
        self._types = dict(map(_types, streams))
        self._spine = next(iter(self._types))
        self._records: dict[str, list[Records]] = {stream: [] for stream in self._types}
        self._aggregates: dict[str, tuple[Aggregate, Records]] = {}
        self._expressions = dict(map(_feature, features))
        self._cells = [self._cell(expression) for expression in self._expressions.values()]
        self._applied = 0
        self._newest_arrival: int | None = None

    @property
    def aggregates(self) -> list[Aggregate]:
        """Return the aggregates that the features are made of, each once."""
        return [each for each, _ in self._aggregates.values()]

    def __len__(self) -> int:
        """Return how many records are held, once for each grouping they are held in."""
        return sum(len(records) for grouped in self._records.values() for records in grouped)

    def apply(self, record: Applied) -> None:
        """Take the next record of the log, of any stream of the set.

        Raises ValueError if it arrived before an earlier one, and KeyError if the set has no such stream.
        """
        self._newest_arrival = self._arrival(record)
        self._applied += 1
        groupings = self._records[record.stream]
        if self.too_late(record):
            return
        item = (record.event_time_us, self._applied, Held(record))
        for records in groupings:
            key = record.columns.get(records.by)
            if isinstance(key, str):
                records.add(key, item, record.arrival_us - self.lateness_us)

    def row(self, record: Applied) -> list[float | None]:
        """Return the vector of a spine record as the next of the log, without applying it; null is None."""
        moment = self._moment(record)
        return [cell(moment) for cell in self._cells]

    def behind(self, record: Applied, feature: str) -> list[Contribution]:
        """Return what one value of `row(record)` rests on, in the order of event time.

        That is each record in each aggregate of the feature, and the columns of the spine record that it reads. Raises
        KeyError if the set has no such feature.
        """
        moment = self._moment(record)
        parts = {_address(part): part for part in _leaves(self._expressions[feature])}
        found = [each for part in parts.values() for each in self._contributions(part, moment)]
        return sorted(found, key=lambda contribution: contribution.event_time_us)

    def _contributions(self, part: Mapping[str, object], moment: _Moment) -> Iterator[Contribution]:
        record, words = moment.record, wording(part)
        if "aggregate" not in part:
            column = exact(part, self._types[self._spine])
            value = column.natural(column.read(record.columns))
            yield Contribution(words, record.place, record.event_time_us, value)
        elif not moment.too_late:
            each, records = self._aggregates[_address(part)]
            for item in records.under(each, text(record.columns.get(each.at)), record.event_time_us):
                value = each.value.natural(each.stored(item))
                yield Contribution(words, item[2].record.place, item[0], value)

    def _moment(self, record: Applied) -> _Moment:
        if record.stream != self._spine:
            raise ValueError(f"a record of {record.stream} has no row: the spine is {self._spine}")
        self._arrival(record)
        return _Moment(record, self.too_late(record))

    def _arrival(self, record: Applied) -> int:
        """Return the arrival of a record that may come next."""
        if self._newest_arrival is not None and record.arrival_us < self._newest_arrival:
            problem = f"{record.place!r} arrived at {record.arrival_us}, an earlier one at {self._newest_arrival}"
            raise ValueError(f"{problem}: give the records in applied order")
        return record.arrival_us

    def too_late(self, record: Applied) -> bool:
        """Tell whether a record came later than the set waits for any: nothing counts it, and its row is unknown."""
        return record.event_time_us < record.arrival_us - self.lateness_us

    def _cell(self, expression: object) -> Cell:
        """Return the reading of a row expression."""
        if is_exact(expression):
            return _number(exact(expression, self._types[self._spine]))
        match expression:
            case Mapping() if "aggregate" in expression:
                return self._aggregate(expression)
            case {"op": str(op), "args": [*args]} if op in _OPERATIONS:
                operation, cells = _OPERATIONS[op], [self._cell(arg) for arg in args]
                return lambda moment: operation(*(cell(moment) for cell in cells))
            case _:
                raise ValueError(f"{expression!r} is no expression: it must be one that the compiler writes")

    def _aggregate(self, spec: Mapping[str, object]) -> Cell:
        name = _address(spec)
        if name not in self._aggregates:
            self._aggregates[name] = self._declared(aggregate(spec, self._types))
        each, records = self._aggregates[name]

        def cell(moment: _Moment) -> float | None:
            if moment.too_late:
                return None
            if name not in moment.known:
                key, t = text(moment.record.columns.get(each.at)), moment.record.event_time_us
                moment.known[name] = each.combine(records.under(each, key, t), t)
            return moment.known[name]

        return cell

    def _declared(self, each: Aggregate) -> tuple[Aggregate, Records]:
        grouped = self._records[each.stream]
        records = next((records for records in grouped if records.by == each.by), None)
        if records is None:
            records = Records(each.by)
            grouped.append(records)
        records.aggregates.append(each)
        return each, records


def _types(stream: object) -> tuple[str, Json]:
    match stream:
        case {"name": str(name), "columns": Mapping() as columns}:
            return name, columns
        case _:
            raise ValueError(f"{stream!r} is no stream: it must be one that the compiler writes")


def _feature(feature: object) -> tuple[str, object]:
    match feature:
        case {"name": str(name), "value": value}:
            return name, value
        case _:
            raise ValueError(f"{feature!r} is no feature: it must be one that the compiler writes")


def _leaves(expression: object) -> Iterator[Mapping[str, object]]:
    """Yield the aggregates of an expression and the columns of the spine that it reads, keys among them."""
    match expression:
        case {"column": name}:
            yield {"column": name}
        case Mapping() if "aggregate" in expression:
            yield {"column": expression["at"]}
            yield expression
        case {"local": _, "of": of}:
            yield from _leaves(of)
        case {"op": _, "args": [*args]}:
            for arg in args:
                yield from _leaves(arg)
        case _:
            pass


def _address(part: Mapping[str, object]) -> str:
    """Return what two equal parts of expressions have in common."""
    return json.dumps(part, sort_keys=True)


def _number(part: Exact) -> Cell:
    """Return an exact number as float64."""

    def cell(moment: _Moment) -> float | None:
        stored = part.read(moment.record.columns)
        return quotient(stored, part.scale) if isinstance(stored, int) else None

    return cell


def _finite(operation: Callable[..., float]) -> Callable[..., float | None]:
    """Return an operation that is null where an argument is, and where its result is not finite."""

    def apply(*args: float | None) -> float | None:
        if None in args:
            return None
        result = float(operation(*args))
        return result if isfinite(result) else None

    return apply


def _divide(left: float | None, right: float | None) -> float | None:
    return None if right == 0.0 else _finite(operator.truediv)(left, right)


def _clip(x: float, low: float, high: float) -> float:
    return low if x < low else min(x, high)


def _and(*args: float | None) -> float | None:
    return 0.0 if 0.0 in args else None if None in args else 1.0


def _or(*args: float | None) -> float | None:
    return 1.0 if any(args) else None if None in args else 0.0


def _where(condition: float | None, first: float | None, second: float | None) -> float | None:
    return None if condition is None else first if condition else second


_OPERATIONS: Mapping[str, Callable[..., float | None]] = {
    "add": _finite(operator.add),
    "sub": _finite(operator.sub),
    "mul": _finite(operator.mul),
    "div": _divide,
    "neg": _finite(operator.neg),
    "clip": _finite(_clip),
    "not": _finite(lambda truth: 1.0 - truth),
    "and": _and,
    "or": _or,
    "is_null": lambda value: float(value is None),
    "where": _where,
    **{name: _finite(compare) for name, compare in COMPARISONS.items()},
}
