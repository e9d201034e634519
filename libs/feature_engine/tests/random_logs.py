"""Random logs for any specification: equal seeds give equal ones.

They have what makes windows hard: ties, nulls, late and too-late records, records from the future and repeated ones,
bursts and silences, values at and beyond the ends of their ranges, clocks that change, and the end of a year.
"""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from libs.feature_engine.tests.definitions import FINAL, FIRST, HOUR, LAST, SECOND, TEXTS

from mainstem.feature_engine.reference import Applied

NULL_TIME = -(2**63)

STARTS = (
    1_383_454_800 * SECOND,  # 2013-11-03 05:00 UTC: an hour before the clocks of New York go back
    1_362_895_200 * SECOND,  # 2013-03-10 06:00 UTC: an hour before they go forward
    1_380_983_400 * SECOND,  # 2013-10-05 14:30 UTC: an hour before those of Lord Howe go forward, by half an hour
    1_388_532_600 * SECOND,  # 2013-12-31 23:30 UTC
    -2 * HOUR,  # 1970 begins
)


def random_log(spec: Mapping[str, object], seed: int, length: int) -> list[Applied]:
    """Return records in applied order: arrivals rise or stay; the place of a record is its position."""
    return [replace(record, place=place) for place, record in enumerate(_records(spec, random.Random(seed), length))]


def _records(spec, rng: random.Random, length: int) -> Iterator[Applied]:
    streams = {stream["name"]: stream["columns"] for stream in spec["streams"]}
    weights = [2, *[1] * (len(streams) - 1)]
    unit, lateness = rng.choice(_durations(spec["features"])), spec["lateness_us"]
    now, past = rng.choice(STARTS), list[Applied]()
    for _ in range(length):
        now += _pause(rng, unit)
        if past and rng.random() < 0.05:
            past.append(replace(rng.choice(past), arrival_us=now))
        else:
            (stream,) = rng.choices(list(streams), weights)
            columns = {name: _value(rng, kind, now, unit) for name, kind in streams[stream].items()}
            past.append(Applied(stream, _event_time(rng, now, unit, lateness, past), now, columns))
        yield past[-1]


def _durations(part: object) -> list[int]:
    """Return the durations in an expression, or that of a second if it has none."""
    found = []
    if isinstance(part, list):
        found = [us for each in part for us in _durations(each)]
    elif isinstance(part, dict):
        found = [us for name, us in part.items() if name in {"window_us", "horizon_us", "ttl_us"} and us]
        found += [us for each in part.values() if isinstance(each, dict | list) for us in _durations(each)]
    return found or [SECOND]


def _pause(rng: random.Random, unit: int) -> int:
    """Return the time to the next arrival: most often a part of the unit, now and then a burst or a silence."""
    if rng.random() < 0.01:
        return min(unit * rng.choice([20, 1000]), 10_000 * 24 * HOUR)
    unit = min(unit, 24 * HOUR)
    return rng.choice([0, 0, 0, 1, unit // 10, unit // 3, unit // 3, unit])


def _event_time(rng: random.Random, now: int, unit: int, lateness: int, past: Sequence[Applied]) -> int:
    if past and rng.random() < 0.25:
        return past[rng.randrange(-min(len(past), 8), 0)].event_time_us + rng.choice([0, 0, 0, unit, -unit, 1])
    late = [1, unit, lateness // 2, lateness // 2, lateness, lateness, lateness - 1, lateness + 1, 3 * lateness]
    return now - rng.choice([*[0] * 10, *late, -1, -unit])


def _value(rng: random.Random, kind: Mapping[str, object], now: int, unit: int) -> object:
    """Return a value of a column, in its natural unit."""
    if rng.random() < 0.12:
        return None
    match kind["type"]:
        case "category":
            return rng.choice(TEXTS) if rng.random() < 0.3 else rng.choice("ab")
        case "boolean":
            return rng.choice([True, False, 1, 0, True, False, -1, 7])
        case "time":
            near = now + rng.choice([0, HOUR, -HOUR, 90 * 60 * SECOND, rng.randrange(-30 * 24 * HOUR, 30 * 24 * HOUR)])
            far = [FIRST, LAST, FIRST - 1, LAST + 1, -1, 2**62, now - unit]
            return near if rng.random() < 0.8 else rng.choice(far)
        case _:
            return _number(rng, kind)


def _number(rng: random.Random, kind: Mapping[str, object]) -> float:
    lo, hi = (-FINAL if kind["lo"] is None else kind["lo"]), (FINAL if kind["hi"] is None else kind["hi"])
    inside = rng.randint(lo, hi)
    stored = rng.choice([inside] * 9 + [lo, hi, lo, hi, lo - 1, hi + 1, lo + 0.5, hi - 0.5, 0, 1, 2.5, -3])
    odd = [1e300, math.inf, -math.inf, math.nan, -0.0, int(inside / kind["scale"]), 2**70]
    return rng.choice(odd) if rng.random() < 0.06 else stored / kind["scale"]


def in_columns(spec: Mapping[str, object], log: Sequence[Applied]) -> dict[str, object]:
    """Return a log by column: the arguments of the engine's `Batch`."""
    streams = {stream["name"]: stream["columns"] for stream in spec["streams"]}
    numbers = {name: number for number, name in enumerate(streams)}
    columns = {
        name: {c: _column(kind["type"], [r.columns[c] for r in log if r.stream == name]) for c, kind in kinds.items()}
        for name, kinds in streams.items()
    }
    return {
        "stream": np.array([numbers[record.stream] for record in log], np.int8),
        "event_time": np.array([record.event_time_us for record in log], np.int64),
        "arrival": np.array([record.arrival_us for record in log], np.int64),
        "columns": columns,
    }


def _column(kind: str, values: list[object]) -> object:
    match kind:
        case "category":
            return values
        case "fixed":
            return np.array([math.nan if value is None else float(value) for value in values], np.float64)
        case "time":
            return np.array([NULL_TIME if value is None else value for value in values], np.int64)
        case _:
            return np.array([-1 if value is None else int(value) for value in values], np.int8)
