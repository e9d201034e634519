"""Does an event cost more in a longer log, among more keys, in a longer window? One aggregate at a time.

A log that is 12 times as long may cost an event a quarter more, a window that is 720 times as long four times as much.
More keys than a processor's cache holds cost more wherever they are: no more than looking the same keys up in a dict.
"""

from collections.abc import Iterator

import numpy as np
from projects.flights.sources import flight_departed
from tests.bench.clock import RUNS, ratio
from tests.bench.flights_log import cut, pieces, spine_only
from tests.bench.goals import Outcome, Work, interleaved, the_cost

from mainstem.feature_engine import Batch, CompiledSet, Engine, Stream, category, feature_set, fixed, stream
from mainstem.feature_engine.batch import Values

_LONGER_LOG, _LONGER_WINDOW = 1.25, 4
#: Events of a round.
_SIZE = 50_000
#: Reads of a round, and entities of each.
_READS, _TURN = 300, 32
_AGGREGATES = ("mean", "max", "distinct", "decay_mean", "last")

_SECOND_US = 1_000_000
_HOUR_S, _MONTH_S = 3_600, 30 * 86_400
_SALE = stream("sale", key="shop", columns={"item": category(), "amount": fixed("eur", scale=100, lo=0, hi=500)})


def flatness(log: Batch) -> list[Outcome]:
    """Compare the cost of an event, in the year of flights and in logs that are made up."""
    return [
        *_by_length(spine_only(log)),
        *_by_keys(few=4_000, many=400_000),
        *_by_window(),
        *_reads(few=100, many=10_000),
    ]


def _by_length(departures: Batch) -> Iterator[Outcome]:
    """Fold the year at once, or its first month."""
    month = cut(departures, 0, int(np.searchsorted(departures.arrival, departures.arrival[0] + _MONTH_S * _SECOND_US)))
    for op in _AGGREGATES:
        one = _one(op, 3 * _HOUR_S, flight_departed.stream(), "origin", "dep_delay", "dest")
        works = _whole(one, departures), _whole(one, month)
        yield the_cost(f"{op}: 12 months of log", "1 month", *_each(*works), _LONGER_LOG)


def _by_keys(few: int, many: int) -> Iterator[Outcome]:
    """Fold the same number of events of keys that have all been seen before."""
    logs = [(_sales(keys, keys + (RUNS + 1) * _SIZE, every_s=1), keys) for keys in (many, few)]
    bare = round(ratio(*_each(*(_looking_up(log, keys) for log, keys in logs))), 1)
    for op in _AGGREGATES:
        one = _one(op, _HOUR_S, _SALE, "shop", "amount", "item")
        works = [_going_on(one, log, keys) for log, keys in logs]
        yield the_cost(f"{op}: {many:,} keys", f"{few:,} keys (a dict: {bare})", *_each(*works), bare)


def _by_window() -> Iterator[Outcome]:
    """Fold what comes after a month: a window of 30 d holds 99,692 events, one of 1 h holds 138, in 60 ticks either."""
    every_s = 26
    month = _MONTH_S // every_s
    log = _sales(1, month + (RUNS + 1) * _SIZE, every_s)
    for op in _AGGREGATES:
        sets = [_one(op, span, _SALE, "shop", "amount", "item") for span in (_MONTH_S, _HOUR_S)]
        works = [_going_on(one, log, month) for one in sets]
        yield the_cost(f"{op}: a window of 30 d", "1 h", *_each(*works), _LONGER_WINDOW)


def _reads(few: int, many: int) -> Iterator[Outcome]:
    """Read what serving reads in a turn, 32 entities, of so many that were seen."""
    logs = [(_sales(keys, _SIZE, every_s=1), keys) for keys in (many, few)]
    bare = round(ratio(*_each(*(_asking(keys) for _, keys in logs))), 1)
    for op in _AGGREGATES:
        one = _one(op, _HOUR_S, _SALE, "shop", "amount", "item")
        works = [_reading(one, log, keys) for log, keys in logs]
        limit = max(bare, _LONGER_LOG)
        yield the_cost(f"{op}: a read among {many:,} entities", f"{few:,} (a dict: {bare})", *_each(*works), limit)


def _one(op: str, span_s: int, spine: Stream, key: str, number: str, kind: str) -> CompiledSet:
    """Return a feature set with one aggregate over the spine's own events."""
    group, span = spine.by(key), f"{span_s}s"
    aggregate = {
        "mean": lambda: group.mean(number, span),
        "max": lambda: group.max(number, span),
        "distinct": lambda: group.distinct(kind, span),
        "decay_mean": lambda: group.decay_mean(
            number, half_life=f"{span_s // 8}s", horizon=span, tick=f"{span_s // 60}s"
        ),
        "last": lambda: group.last(number, ttl=span),
    }[op]()
    return feature_set("one", spine=spine, lateness="1h")(type("One", (), {op: aggregate})).compile()


def _whole(one: CompiledSet, log: Batch) -> Work:
    """Return the work that lets another engine, made before, take all of a log each time."""
    engines = iter([Engine(one) for _ in range(RUNS + 1)])
    return lambda: next(engines).process(log), len(log.stream)


def _going_on(one: CompiledSet, log: Batch, seen: int) -> Work:
    """Let an engine see the beginning of a log; return the work that takes the next events each time."""
    engine = Engine(one)
    engine.process(cut(log, 0, seen))
    rest = iter([*pieces(cut(log, seen, len(log.stream)), _SIZE)])
    return lambda: engine.process(next(rest)), _SIZE


def _reading(one: CompiledSet, log: Batch, keys: int) -> Work:
    """Let an engine see a log; return the work that reads entities of it, others each time."""
    engine = Engine(one)
    engine.process(log)
    asked = _asked(keys)
    other: dict[str, Values] = {"item": ["i0"] * _TURN, "amount": np.zeros(_TURN)}
    said: list[dict[str, Values]] = [{**other, "shop": shops} for shops in asked]
    read = [{name: each[name] for name in one.streams["sale"]} for each in said]
    at = np.full(_TURN, log.arrival[-1] + _SECOND_US)
    return lambda: [engine.read(columns, at) for columns in read], _READS


def _asking(keys: int) -> Work:
    """Return the work that looks as many up in a dict."""
    numbers, asked = {f"s{shop}": shop for shop in range(keys)}, _asked(keys)
    return lambda: [list(map(numbers.__getitem__, shops)) for shops in asked], _READS


def _asked(keys: int) -> list[list[str]]:
    rng = np.random.default_rng(1)
    return [[f"s{shop}" for shop in rng.integers(0, keys, _TURN).tolist()] for _ in range(_READS)]


def _looking_up(log: Batch, seen: int) -> Work:
    """Return the work that looks the keys of the next events up each time, in a dict of those seen."""
    shops = list(log.columns["sale"]["shop"])
    numbers = {shop: number for number, shop in enumerate(shops[:seen])}
    rest = iter([shops[first : first + _SIZE] for first in range(seen, len(shops), _SIZE)])
    return lambda: list(map(numbers.__getitem__, next(rest))), _SIZE


def _each(larger: Work, smaller: Work) -> tuple[list[float], list[float]]:
    """Return what a unit of either took, round by round."""
    taken = interleaved({"larger": larger, "smaller": smaller})
    return taken["larger"], taken["smaller"]


def _sales(keys: int, events: int, every_s: int) -> Batch:
    """Make sales up: each shop once, then any of them; known at once.

    Amounts fall all the time, so the event that leaves a window is always the one that held its maximum.
    """
    rng = np.random.default_rng(keys)
    shops = np.concatenate([np.arange(keys), rng.integers(0, keys, events - keys)])
    at = np.arange(events, dtype=np.int64) * every_s * _SECOND_US
    columns: dict[str, Values] = {
        "shop": [f"s{number}" for number in shops.tolist()],
        "item": [f"i{number}" for number in rng.integers(0, 50, events).tolist()],
        "amount": np.linspace(500, 0, events),
    }
    return Batch(np.zeros(events, np.int8), at, at, {"sale": columns})
