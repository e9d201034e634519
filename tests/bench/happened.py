"""The events of the flights as objects, for peers that take one after another."""

import datetime as dt
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from mainstem.feature_engine import Batch


class Departed(NamedTuple):
    """A departure; `at` and `sched_dep` in µs, `moment` in UTC without saying so."""

    at: int
    moment: dt.datetime
    origin: str
    carrier: str
    dest: str
    tail: str
    sched_dep: int
    distance: float
    dep_delay: float


class Arrived(NamedTuple):
    """An arrival; a diverted flight has no delay."""

    at: int
    moment: dt.datetime
    carrier: str
    dest: str
    tail: str
    arr_delay: float | None


class Observed(NamedTuple):
    """The weather at an airport."""

    at: int
    moment: dt.datetime
    origin: str
    wind: float | None
    visib: float


Happened = Departed | Arrived | Observed


def happened(log: Batch) -> list[Happened]:
    """Return the events of a log of the flights in applied order."""
    streams = [_objects(log, number, kind) for number, kind in enumerate((Departed, Arrived, Observed))]
    return [next(streams[number]) for number in log.stream.tolist()]


def _objects(log: Batch, number: int, kind: type[Departed | Arrived | Observed]) -> Iterator[Happened]:
    at, columns = log.event_time[log.stream == number], list(log.columns.values())[number]
    values = [map(_known, columns[name]) for name in kind._fields[2:]]
    return map(kind, at.tolist(), at.astype("datetime64[us]").tolist(), *values)


def _known(value: object) -> object:
    """Return a value as Python has it, with None for NaN."""
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and math.isnan(plain) else plain
