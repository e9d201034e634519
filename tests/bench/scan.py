"""All features of the flights by looking through what is kept: what one would write first."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from zoneinfo import ZoneInfo

from tests.bench.happened import Arrived, Departed, Happened, Observed

_HOUR = 3_600_000_000
_DAY = 24 * _HOUR
_MINUTE = _HOUR // 60
_NEW_YORK = ZoneInfo("America/New_York")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WEIGHTS = [round(2 ** (24 - age / 30)) for age in range(241)]

Row = tuple[float, ...]
AnyHappened = TypeVar("AnyHappened", Departed, Arrived, Observed)


def scan(events: Iterable[Happened]) -> list[Row]:
    """Return the fifteen features, as they are declared, for each departure; it is asked about before it is kept."""
    origins, stations = defaultdict[str, list[Departed]](list), defaultdict[str, list[Observed]](list)
    carriers, dests, tails = (defaultdict[str, list[Arrived]](list) for _ in range(3))
    rows = []
    for event in events:
        if isinstance(event, Departed):
            at, landed = event.at, carriers[event.carrier]
            rates = _rate(landed, at, _DAY), _rate(landed, at, 7 * _DAY), _rate(dests[event.dest], at, _DAY)
            seen = *_tail(tails[event.tail], at), *_weather(stations[event.origin], at)
            rows.append((*_itself(event), *_origin(origins[event.origin], at), *rates, *seen))
            origins[event.origin].append(event)
        elif isinstance(event, Arrived):
            for kept in (carriers[event.carrier], dests[event.dest], tails[event.tail]):
                kept.append(event)
        else:
            stations[event.origin].append(event)
    return rows


def _itself(event: Departed) -> Row:
    local = (_EPOCH + timedelta(microseconds=event.sched_dep)).astimezone(_NEW_YORK)
    return event.dep_delay, local.weekday() * 24 + local.hour, event.distance


def _origin(departures: Sequence[Departed], at: int) -> Row:
    hour = list(_inside(departures, at, _HOUR))
    delays = [each.dep_delay for each in _inside(departures, at, 3 * _HOUR)]
    weighed = [(_WEIGHTS[(at - each.at) // _MINUTE], each.dep_delay) for each in _inside(departures, at, 4 * _HOUR)]
    weight = sum(weight for weight, _ in weighed)
    return (
        sum(each.dep_delay for each in hour) / len(hour) if hour else math.nan,
        _deviation(delays),
        sum(weight * delay for weight, delay in weighed) / weight if weighed else math.nan,
        len(hour),
        len({each.dest for each in hour}),
    )


def _deviation(values: Sequence[float]) -> float:
    n, total = len(values), sum(values)
    squares = sum(value * value for value in values)
    return math.sqrt((n * squares - total * total) / (n * (n - 1))) if n > 1 else math.nan


def _rate(arrivals: Sequence[Arrived], at: int, span: int) -> float:
    late = [each.arr_delay > 15 for each in _inside(arrivals, at, span) if each.arr_delay is not None]
    return sum(late) / len(late) if late else math.nan


def _tail(arrivals: Sequence[Arrived], at: int) -> Row:
    for each in _inside(arrivals, at, 30 * _DAY):
        if each.arr_delay is not None:
            return each.arr_delay, (at - each.at) / 1e6
    return math.nan, math.nan


def _weather(observed: Sequence[Observed], at: int) -> Row:
    inside = list(_inside(observed, at, 6 * _HOUR))
    wind = next((round(each.wind, 3) for each in inside if each.wind is not None), math.nan)
    return wind, inside[0].visib if inside else math.nan


def _inside(events: Sequence[AnyHappened], at: int, span: int) -> Iterator[AnyHappened]:
    """Yield what happened in so many µs before a moment, the newest first; events are in the order of time."""
    for event in reversed(events):
        if event.at < at - span:
            return
        if event.at < at:
            yield event
