"""Windows of tens of thousands of events of one key: summaries of blocks and running sums say what a scan says."""

import math

import numpy as np
import pytest

from mainstem.feature_engine import Batch, Engine, category, feature_set, fixed, stream

SECOND = 1_000_000
EVENTS, KINDS = 60_000, 50
HORIZON, TICK, HALF_LIFE = 20_000, 100, 2_500

ask = stream("ask", key="who", columns={})
log = stream(
    "log",
    key="who",
    columns={
        "x": fixed("m", scale=10, lo=-(2**40), hi=2**40),
        "y": fixed("m", lo=-1000, hi=1000),
        "rare": fixed("m", lo=0, hi=10**6),
        "kind": category(),
    },
)


@feature_set("long", spine=ask, lateness="40m")
class Long:
    """Everything over hours."""

    largest = log.by("who").max("x", "12h")
    smallest = log.by("who").min("x", "12h")
    total = log.by("who").sum("x", "12h")
    spread = log.by("who").std("y", "9h")
    kinds = log.by("who").distinct("kind", "12h")
    rare = log.by("who").last("rare", ttl="12h")
    since = log.by("who").age("rare", ttl="12h")
    faded = log.by("who").decay_mean("y", half_life="2500s", horizon="20000s", tick="100s")


class World:
    """Events a second apart, a few of them late, and moments at which they are asked for, some of them past."""

    def __init__(self, shape: str) -> None:
        rng = np.random.default_rng(5)
        self.arrival = np.arange(EVENTS) * SECOND
        self.time = self.arrival - np.where(rng.random(EVENTS) < 0.02, rng.integers(0, 2400, EVENTS), 0) * SECOND
        steps = {
            "falling": -np.arange(EVENTS),
            "rising": np.arange(EVENTS),
            "random": rng.integers(-9000, 9000, EVENTS),
        }
        self.x = steps[shape] * 1000.1
        self.y = rng.integers(-1000, 1000, EVENTS).astype(np.float64)
        self.rare = np.where(rng.random(EVENTS) < 0.0002, rng.integers(0, 1000, EVENTS), np.nan)
        self.kind = rng.integers(0, KINDS, EVENTS)
        self.asked_at = np.sort(rng.choice(np.arange(2000, EVENTS), 60, replace=False))
        self.moment = (
            self.arrival[self.asked_at] - np.where(rng.random(60) < 0.3, rng.integers(0, 2300, 60), 0) * SECOND
        )

    def batch(self) -> Batch:
        """Return all of it, a question before the event of its place."""
        at = np.concatenate([self.asked_at, np.arange(EVENTS)])
        order = np.lexsort((np.repeat([0, 1], [60, EVENTS]), at))
        stream = np.repeat(np.array([0, 1], np.int8), [60, EVENTS])[order]
        time = np.concatenate([self.moment, self.time])[order]
        arrival = np.concatenate([self.arrival[self.asked_at], self.arrival])[order]
        values = {"x": self.x, "y": self.y, "rare": self.rare, "kind": [f"k{kind}" for kind in self.kind]}
        columns = {"ask": {"who": ["a"] * 60}, "log": {"who": ["a"] * EVENTS, **values}}
        return Batch(stream, time, arrival, columns)

    def expected(self, question: int) -> list[float]:
        """Return the row of a question, by scanning the events before it."""
        now, before = self.moment[question], slice(0, self.asked_at[question])
        age = now - self.time[before]
        half_day, nine = (age > 0) & (age <= 12 * 3600 * SECOND), (age > 0) & (age <= 9 * 3600 * SECOND)
        x = np.rint(self.x[before][half_day] * 10).astype(object)
        y = self.y[before][nine].astype(int).astype(object)
        n = len(y)
        spread = math.sqrt(float(n * (y * y).sum() - y.sum() ** 2) / float(n * (n - 1)))
        known = np.flatnonzero(half_day & ~np.isnan(self.rare[before]))
        last = max(known, key=lambda place: (self.time[place], place)) if len(known) else None
        latest = [math.nan, math.nan] if last is None else [self.rare[last], age[last] / SECOND]
        kinds = len(set(self.kind[before][half_day].tolist()))
        faded = (age > 0) & (age <= HORIZON * SECOND)
        weights = [round(2**24 * 2.0 ** (-(a // (TICK * SECOND)) * TICK / HALF_LIFE)) for a in age[faded].tolist()]
        above = sum(w * int(value) for w, value in zip(weights, self.y[before][faded].tolist(), strict=True))
        extremes = [float(x.max()) / 10, float(x.min()) / 10, float(x.sum()) / 10]
        return [*extremes, spread, float(kinds), *latest, above / sum(weights)]


@pytest.mark.parametrize("shape", ["falling", "rising", "random"])
def test_long_windows_have_the_bits_of_a_scan_in_any_order_of_questions(shape: str) -> None:
    world = World(shape)
    values = Engine(Long.compile()).process(world.batch()).values
    for question, row in enumerate(values):
        np.testing.assert_array_equal(row, world.expected(question), err_msg=f"question {question}")


def test_a_snapshot_in_the_middle_of_long_windows_changes_nothing() -> None:
    batch = World("falling").batch()
    whole, first = Engine(Long.compile()), Engine(Long.compile())
    half = 40_000
    lines = int((batch.stream[:half] == 1).sum())

    def part(a: int, b: int, skip: dict[str, int]) -> Batch:
        counts = {"ask": int((batch.stream[a:b] == 0).sum()), "log": int((batch.stream[a:b] == 1).sum())}
        columns = {
            name: {c: v[skip[name] : skip[name] + counts[name]] for c, v in of.items()}
            for name, of in batch.columns.items()
        }
        return Batch(batch.stream[a:b], batch.event_time[a:b], batch.arrival[a:b], columns)

    rows = first.process(part(0, half, {"ask": 0, "log": 0})).values
    second = Engine(Long.compile())
    second.restore(first.snapshot())
    rest = second.process(part(half, len(batch.stream), {"ask": half - lines, "log": lines})).values
    assert np.concatenate([rows, rest]).tobytes() == whole.process(batch).values.tobytes()
