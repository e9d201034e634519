"""What was dropped from the rings is remembered as far as `last` needs it."""

import math

import numpy as np

from mainstem.feature_engine import Batch, Engine, feature_set, fixed, stream

HOUR = 3_600_000_000
ask = stream("ask", key="shop", columns={})
stock = stream("stock", key="shop", columns={"level": fixed("t")})


@feature_set("levels", spine=ask, lateness="1h")
class Levels:
    """No window at all, so nothing stays in a ring for longer than the lateness."""

    level = stock.by("shop").last("level", ttl="10d")


def level_after(*events):
    """Return the last level that an ask sees: events are (hour, level), or (hour,) for an ask."""
    levels = [event[1] for event in events if len(event) == 2]
    asks = ["a"] * (len(events) - len(levels))
    columns = {"ask": {"shop": asks}, "stock": {"shop": ["a"] * len(levels), "level": levels}}
    which = np.array([len(event) - 1 for event in events], np.int8)
    times = np.array([round(event[0] * HOUR) for event in events])
    arrivals = np.maximum.accumulate(times)
    return Engine(Levels.compile()).process(Batch(which, times, arrivals, columns)).values[-1, 0]


def dropped(*events, ask=100):
    """Follow the events with nulls that fill the ring, an ask that lets all go, and an event that makes them go."""
    return [*events, *[(2, math.nan)] * (16 - len(events)), (ask,), (ask, math.nan)]


def test_the_last_value_outlives_its_event():
    assert level_after(*dropped((1, 5.0)), (100,)) == 5


def test_of_two_dropped_values_of_one_time_the_later_applied_is_the_last():
    assert level_after(*dropped((1, 5.0), (1, 6.0)), (100,)) == 6


def test_a_value_older_than_the_ttl_is_gone():
    assert level_after(*dropped((1, 5.0), ask=241), (241,)) == 5
    assert math.isnan(level_after(*dropped((1, 5.0), ask=241), (241.1,)))
