"""A small world of three streams with everything that makes windows hard: ties, nulls, late events, missing keys."""

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest

from mainstem.feature_engine import (
    Batch,
    CompiledSet,
    Engine,
    boolean,
    category,
    feature_set,
    fixed,
    stream,
    time,
)

SECOND = 1_000_000
START = 1_383_454_800 * SECOND  # 2013-11-03 05:00 UTC: an hour before the clocks of New York go back

#: Stream, event time, arrival, columns.
Event = tuple[str, int, int, dict[str, object]]

order = stream(
    "order",
    key="order_id",
    columns={
        "shop": category(),
        "item": category(),
        "amount": fixed("eur", scale=100, lo=-50, hi=500),
        "rush": boolean(),
        "due": time(),
    },
)
visit = stream(
    "visit", key="visit_id", columns={"shop": category(), "item": category(), "stars": fixed("star", lo=0, hi=5)}
)
stock = stream("stock", key="shop", columns={"level": fixed("t", scale=10, lo=-1000, hi=1000)})


@feature_set("orders", spine=order, lateness="1m")
class Orders:
    """Every aggregate, on the spine's own stream and on others."""

    amount = order.amount
    rush = order.rush
    big = order.amount >= 100
    due_hour = order.due.local("America/New_York").hour
    due_week = order.due.local("Europe/Berlin").hour_of_week
    due_day = order.due.local("Australia/Lord_Howe").day_of_week
    due_minute = order.due.local("Asia/Kathmandu").minute_of_day
    n_30s = order.by("shop").count("30s")
    sum_2m = order.by("shop").sum("amount", "2m")
    mean_30s = order.by("shop").mean("amount", "30s")
    std_2m = order.by("shop").std("amount", "2m")
    min_2m = order.by("shop").min("amount", "2m")
    max_30s = order.by("shop").max("amount", "30s")
    items_2m = order.by("shop").distinct("item", "2m")
    decayed = order.by("shop").decay_mean("amount", half_life="20s", horizon="90s", tick="7s")
    rushed = order.by("item").mean("rush", "10m")
    previous = order.by("item").last("amount", ttl="4m")
    happy = visit.by("shop").mean(visit.stars > 3, "2m")
    spread = visit.by("shop").std("stars", "10m")
    worst = visit.by("shop").min("stars", "10m")
    stars = visit.by("item").last("stars", ttl="3m")
    stars_age = visit.by("item").age("stars", ttl="3m")
    shops = visit.by("item").distinct("shop", "10m")
    level = stock.by("shop").last("level", ttl="5m")
    level_age = stock.by("shop").age("level", ttl="2h")
    level_now = stock.by("shop").last("level", ttl="20s")


def _maybe(rng: random.Random, value: object, chance: float = 0.15) -> object:
    return None if rng.random() < chance else value


def _columns(rng: random.Random, name: str, now: int) -> dict[str, object]:
    shop, item = _maybe(rng, rng.choice("AABC")), _maybe(rng, f"i{rng.randrange(5)}")
    if name == "order":
        due = _maybe(rng, now + rng.randrange(0, 3 * 86400 * SECOND))
        amount = _maybe(rng, rng.choice([10.0, 99.99, 100.0, 4.56, -50.0, 500.01, rng.uniform(-60, 520)]))
        return {"shop": shop, "item": item, "amount": amount, "rush": _maybe(rng, rng.random() < 0.5), "due": due}
    if name == "visit":
        return {"shop": shop, "item": item, "stars": _maybe(rng, float(rng.randrange(7)))}
    return {"shop": shop, "level": _maybe(rng, float(rng.randrange(-1100, 1100)), 0.7)}


@pytest.fixture(scope="session")
def compiled() -> CompiledSet:
    return Orders.compile()


@pytest.fixture(scope="session")
def random_log() -> Callable[[int, int], list[Event]]:
    """Return a function of (seed, length) that makes a log in applied order; a third of the events are out of order."""

    def make(seed: int, length: int) -> list[Event]:
        rng = random.Random(seed)
        now, events = START, list[Event]()
        for _ in range(length):
            now += rng.choice([0, 0, 1, 5, 12]) * SECOND
            behind = rng.choice([0, 0, 0, 0, 1, 20, 59, 60, 61, 200]) * SECOND
            name = rng.choice(["order", "order", "visit", "stock"])
            events.append((name, now - behind, now, _columns(rng, name, now)))
        return events

    return make


@pytest.fixture(scope="session")
def batch_of(compiled: CompiledSet) -> Callable[[Sequence[Event]], Batch]:
    """Return a function that writes events down by column."""

    def column(kind: str, values: list[object]) -> object:
        if kind == "category":
            return values
        if kind == "fixed":
            return np.array(values, dtype=np.float64)
        null = -(2**63) if kind == "time" else -1
        return np.array([null if value is None else value for value in values], dtype=np.int64)

    def make(events: Sequence[Event]) -> Batch:
        numbers = {name: number for number, name in enumerate(compiled.streams)}
        columns = {
            name: {c: column(kind.kind, [e[3].get(c) for e in events if e[0] == name]) for c, kind in kinds.items()}
            for name, kinds in compiled.streams.items()
        }
        at = np.array([numbers[e[0]] for e in events], dtype=np.int8)
        times = (np.array([e[field] for e in events], dtype=np.int64) for field in (1, 2))
        return Batch(at, *times, columns)

    return make


@pytest.fixture(scope="session")
def fold(
    compiled: CompiledSet, batch_of: Callable[[Sequence[Event]], Batch]
) -> Callable[[Sequence[Event], Sequence[int]], bytes]:
    """Return a function that folds a log cut at the given places and returns the bytes of all rows."""

    def run(events: Sequence[Event], cuts: Sequence[int] = ()) -> bytes:
        engine = Engine(compiled)
        return b"".join(engine.process(batch_of(part)).values.tobytes() for part in pieces(events, cuts))

    return run


def pieces(events: Sequence[Event], cuts: Sequence[int]) -> Iterator[Sequence[Event]]:
    """Cut a log."""
    edges = [0, *sorted(cuts), len(events)]
    for start, end in pairwise(edges):
        yield events[start:end]
