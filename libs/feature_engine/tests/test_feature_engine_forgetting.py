"""Keys of which nothing can be asked any more are forgotten, and nobody sees it but the memory."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem.feature_engine import Batch, CompiledSet, Engine, category, feature_set, fixed, stream
from mainstem.feature_engine.reference import Applied, Reference

MINUTE, DAY = 60_000_000, 86_400_000_000
KEYS = ["ann", "bob", "cem", "dan"]
GOODS = [None, "book", "coal", "dung"]

AMOUNT = fixed("eur", lo=0, hi=99)
order = stream("order", key="shop", columns={"shop": category(), "what": category(), "amount": AMOUNT})
#: What is a category in the orders is a number here.
visit = stream("visit", key="shop", columns={"shop": category(), "what": fixed("eur", lo=-9, hi=9)})


@feature_set("shops", spine=order, lateness="1h")
class Shops:
    """Values of every kind, none of which looks back further than a day."""

    orders = order.by("shop").count("2h")
    goods = order.by("shop").distinct("what", "1d")
    largest = order.by("shop").max("amount", "1d")
    spread = order.by("shop").std("amount", "3h")
    coal_last = order.by("shop").last(order.what == "coal", ttl="20h")
    lowest = visit.by("shop").min("what", "5h")
    visited = visit.by("shop").age("what", ttl="1d")


COMPILED = Shops.compile()

#: Days between two events, in which all is forgotten now and then; key, good, amount, and how late it is known.
EVENT = st.tuples(
    st.sampled_from([0, 0, MINUTE, 50 * MINUTE, 300 * MINUTE, 700 * MINUTE, DAY, 3 * DAY, 40 * DAY]),
    st.integers(0, 1),
    st.sampled_from(KEYS),
    st.sampled_from(GOODS),
    st.integers(-9, 9),
    st.sampled_from([0, 0, MINUTE, 90 * MINUTE]),
)


def batch(events) -> Batch:
    """Return events as a batch; each becomes known as long after the one before as it says."""
    arrivals = DAY * 365 + np.cumsum([event[0] for event in events], dtype=np.int64)
    late = np.array([event[5] for event in events], np.int64)
    which = np.array([event[1] for event in events], np.int8)
    ordered = [event for event in events if event[1] == 0]
    visited = [event for event in events if event[1] == 1]
    columns = {
        "order": {
            "shop": [event[2] for event in ordered],
            "what": [event[3] for event in ordered],
            "amount": np.array([abs(event[4]) for event in ordered], np.float64),
        },
        "visit": {
            "shop": [event[2] for event in visited],
            "what": np.array([event[4] for event in visited], np.float64),
        },
    }
    return Batch(which, arrivals - late, arrivals, columns)


def evaluated(events) -> list[list[float]]:
    """Return the rows by a second reading of the definitions, which forgets nothing."""
    reference, rows, whole = Reference(COMPILED.spec), [], batch(events)
    for number, event in enumerate(events):
        columns = {"shop": event[2], "what": event[3], "amount": float(abs(event[4]))}
        if event[1] == 1:
            columns = {"shop": event[2], "what": float(event[4])}
        times = int(whole.event_time[number]), int(whole.arrival[number])
        applied = Applied(("order", "visit")[event[1]], *times, columns)
        if event[1] == 0:
            rows.append([math.nan if value is None else float(value) for value in reference.row(applied)])
        reference.apply(applied)
    return rows


def pieces(events, cuts):
    edges = [0, *sorted(cut % (len(events) + 1) for cut in cuts), len(events)]
    return [events[a:b] for a, b in pairwise(edges)]


@given(st.lists(EVENT, min_size=1, max_size=60), st.lists(st.integers(0, 60), max_size=4))
def test_values_and_state_are_those_of_an_engine_that_forgets_nothing_however_batches_are_cut(events, cuts):
    whole, cut = Engine(COMPILED), Engine(COMPILED)
    values = whole.process(batch(events)).values
    assert values.tobytes() == np.array(evaluated(events), np.float64).reshape(-1, 7).tobytes()
    started = 0
    parts, all_at_once = [], batch(events)
    for piece in pieces(events, cuts):
        if piece:
            own, span = batch(piece), slice(started, started + len(piece))
            parts.append(
                cut.process(Batch(own.stream, all_at_once.event_time[span], all_at_once.arrival[span], own.columns))
            )
            cut.restore(cut.snapshot())
            started += len(piece)
    assert np.concatenate([part.values for part in parts]).tobytes() == values.tobytes()
    assert cut.snapshot() == whole.snapshot()


def seen_once(compiled: CompiledSet, rounds: int, keys: int) -> Engine:
    """Return an engine after rounds of keys that never come again, with two months between them."""
    engine = Engine(compiled)
    for number in range(rounds):
        times = DAY * 60 * (number + 1) + np.arange(keys)
        names = [f"{number}-{key}" for key in range(keys)]
        columns = {"order": {"shop": names, "what": names, "amount": np.ones(keys)}}
        engine.process(Batch(np.zeros(keys, np.int8), times, times, columns))
    return engine


def test_the_state_does_not_grow_with_keys_that_were_seen_long_ago():
    few, many = (seen_once(COMPILED, rounds, keys=500) for rounds in (1, 12))
    assert many.state_bytes() <= few.state_bytes()
    assert len(many.snapshot()) <= 1.1 * len(few.snapshot())


@pytest.mark.parametrize("age", range(1, 25))
def test_a_key_is_kept_as_long_as_a_window_reaches_it(age):
    hour, edge = 60 * MINUTE, 300 * DAY  # where a period of 30 days begins
    engine = Engine(COMPILED)
    columns = {"order": {"shop": ["ann"] * 2, "what": ["coal"] * 2, "amount": np.array([7.0, 1.0])}}
    times = np.array([edge + hour // 2 - age * hour, edge + hour // 2])
    rows = engine.process(Batch(np.zeros(2, np.int8), times, times, columns)).values
    assert rows[1, 2] == 7


@feature_set("ever", spine=order, lateness="1h")
class Ever:
    """One value looks back without end, the other an hour."""

    last = order.by("shop").last("amount", ttl=None)
    goods = order.by("what").count("1h")


def test_a_value_that_looks_back_without_end_keeps_its_keys():
    engine = seen_once(Ever.compile(), rounds=12, keys=50)
    asked = {"shop": ["0-7"], "what": ["0-7"], "amount": np.ones(1)}
    assert engine.read(asked, np.array([DAY * 800])).tolist() == [[1.0, 0.0]]


def test_a_snapshot_on_the_way_changes_no_byte_of_the_next_one():
    goods = ["a"] * 32 + ["c", "b"] * 16 + ["d", "e"] * 16
    times = DAY + np.arange(len(goods)) * MINUTE

    def told(first: int, last: int) -> Batch:
        columns = {"shop": ["s"] * (last - first), "what": goods[first:last], "amount": np.ones(last - first)}
        return Batch(np.zeros(last - first, np.int8), times[first:last], times[first:last], {"order": columns})

    compiled = feature_set("goods", spine=order, lateness="1h")(
        type("Goods", (), {"n": order.by("shop").distinct("what", "1d"), "m": order.by("shop").min("amount", "1d")})
    ).compile()
    once, twice = Engine(compiled), Engine(compiled)
    once.process(told(0, len(goods)))
    twice.process(told(0, 64))
    twice.snapshot()
    twice.process(told(64, len(goods)))
    assert twice.snapshot() == once.snapshot()


def test_a_batch_of_the_wrong_form_that_spans_periods_is_not_applied_at_all():
    engine = Engine(COMPILED)
    good = batch([(0, 0, "ann", None, 1, 0), (90 * DAY, 0, "ann", None, 1, 0)])
    wrong = Batch(good.stream, good.event_time, good.arrival[::-1].copy(), good.columns)
    engine.process(batch([(0, 0, "ann", None, 1, 0)]))
    before = engine.snapshot()
    with pytest.raises(ValueError, match="arrivals must not fall"):
        engine.process(wrong)
    assert engine.snapshot() == before
