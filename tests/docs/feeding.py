"""Records written as lines and fed to a feature set, as docs/features.md does; each value is computed twice."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isnan, nan
from typing import Final

import numpy as np

from mainstem.feature_engine import NULL, Batch, ColumnType, CompiledSet, Engine, FeatureSet, Kind
from mainstem.feature_engine.reference import Applied, Reference

#: A time without a date is of this Monday.
_DAY: Final = "2024-05-06"
#: Instead of a stream: values are read, and nothing happens.
_READ: Final = "read"
_NULLS: Final[Mapping[Kind, object]] = {Kind.CATEGORY: None, Kind.FIXED: nan, Kind.TIME: NULL, Kind.BOOLEAN: -1}

Value = float | int | str | None


@dataclass(frozen=True, slots=True)
class Record:
    """A line, read: when it happened, as written and in µs, when it became known, and what it carries."""

    written: str
    stream: str
    event_time: int
    arrival: int
    columns: Mapping[str, Value]


def feed(declared: FeatureSet, log: str) -> None:
    """Apply the lines of a log one after the other; print a row for each record of the spine, and for each `read`.

    A line is `happened[/known] stream column=value ...`, times of a day in UTC; what is left out is null.
    How many were too late or out of range comes last. Raises AssertionError if the reference evaluator has other bits.
    """
    compiled = declared.compile()
    engine, reference = Engine(compiled), Reference(compiled.spec)
    for line in filter(None, map(str.strip, log.splitlines())):
        record = _record(compiled, line)
        found = _read(engine, record) if record.stream == _READ else _processed(engine, record)
        applied = _applied(compiled, record)
        if found is not None:
            assert repr(found) == repr(reference.row(applied)), f"the reference evaluator disagrees on {line!r}"
            values = (f"{name}={_number(value)}" for name, value in zip(compiled.names, found, strict=True))
            print("  ".join([record.written, *values]))
        if record.stream != _READ:
            reference.apply(applied)
    _counts("too late", engine.too_late)
    _counts("out of range", engine.out_of_range)


def _record(compiled: CompiledSet, line: str) -> Record:
    times, stream, *assignments = line.split()
    happened, _, known = times.partition("/")
    kinds = compiled.streams[compiled.spine if stream == _READ else stream]
    given = dict(assignment.split("=", 1) for assignment in assignments)
    columns = {name: _value(kind, given.get(name)) for name, kind in kinds.items()}
    return Record(happened, stream, _instant(happened), _instant(known or happened), columns)


def _value(kind: ColumnType, text: str | None) -> Value:
    match kind.kind, text:
        case _, None:
            return None
        case Kind.FIXED, str():
            return float(text)
        case Kind.TIME, str():
            return _instant(text)
        case Kind.BOOLEAN, str():
            return {"yes": 1, "no": 0}[text]
        case _:
            return text


def _instant(text: str) -> int:
    moment = datetime.fromisoformat(text if "T" in text else f"{_DAY}T{text}").replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond


def _processed(engine: Engine, record: Record) -> list[float | None] | None:
    compiled = engine.compiled
    number = list(compiled.streams).index(record.stream)
    columns = {record.stream: _column_values(compiled.streams[record.stream], record)}
    times = np.array([record.event_time]), np.array([record.arrival])
    rows = engine.process(Batch(np.array([number], np.int8), *times, columns))
    return _row(rows.values[0]) if len(rows.index) else None


def _read(engine: Engine, record: Record) -> list[float | None]:
    columns = _column_values(engine.compiled.streams[engine.compiled.spine], record)
    return _row(engine.read(columns, np.array([record.event_time]))[0])


def _column_values(kinds: Mapping[str, ColumnType], record: Record) -> dict[str, list[object]]:
    given = record.columns
    return {name: [_NULLS[kind.kind] if given[name] is None else given[name]] for name, kind in kinds.items()}


def _row(values: np.ndarray) -> list[float | None]:
    return [None if isnan(value) else value for value in values.tolist()]


def _applied(compiled: CompiledSet, record: Record) -> Applied:
    stream = compiled.spine if record.stream == _READ else record.stream
    return Applied(stream, record.event_time, record.arrival, record.columns, record.written)


def _number(value: float | None) -> str:
    return "null" if value is None else repr(value).removesuffix(".0")


def _counts(what: str, counts: Mapping[str, int]) -> None:
    found = [f"{name} {count}" for name, count in counts.items() if count]
    if found:
        print(f"{what}: {', '.join(found)}")
