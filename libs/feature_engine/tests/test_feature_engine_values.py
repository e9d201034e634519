"""The parts below the fold: stored values, exact numbers, local clocks, durations."""

import doctest
import math
import os
import subprocess
import sys
from datetime import UTC, datetime
from fractions import Fraction
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem.feature_engine import (
    NULL,
    Batch,
    Engine,
    boolean,
    category,
    column_types,
    constants,
    feature_set,
    fixed,
    inference,
    layout,
    localtime,
    stream,
    time,
    zones,
)
from mainstem.feature_engine.clocks import Clocks
from mainstem.feature_engine.columns import Dictionary, Encoder
from mainstem.feature_engine.durations import microseconds
from mainstem.feature_engine.kernel.exact import nearest, product, spread
from mainstem.feature_engine.kernel.machine import local
from mainstem.feature_engine.layout import decay_weights
from mainstem.feature_engine.localtime import PARTS
from mainstem.feature_engine.zones import zone_info

LIMB = 2**31


def encode_number(kind, values):
    """Return the stored values of one column and how many of them were out of range."""
    table = np.empty((1, len(values)), np.int64)
    outside = Encoder("s", {"x": kind}, {}, Clocks([])).write({"x": values}, table, np.arange(len(values)))
    return table[0], outside.get("x", 0)


def local_part(instants, zone, part):
    clocks = Clocks([zone])
    table, lines = np.empty((1, len(instants)), np.int64), np.arange(len(instants))
    Encoder("s", {"x": time()}, {}, clocks).write({"x": instants}, table, lines)
    return [int(local(clocks.table, 0, at, PARTS.index(part))) for at in instants]


def test_numbers_are_stored_to_the_scale_and_out_of_range_is_null_and_counted():
    stored, outside = encode_number(
        fixed("mph", scale=1000, lo=0, hi=200), [1.0, 0.0005, 0.0015, 200.001, -1, math.nan]
    )
    assert stored.tolist() == [1000, 0, 2, NULL, NULL, NULL]
    assert outside == 2


@pytest.mark.parametrize("huge", [1e300, -math.inf, math.inf, 2.0**53 + 2])
def test_numbers_that_are_not_exact_any_more_are_null(huge):
    stored, outside = encode_number(fixed("m"), [huge, 2.0**53])
    assert (stored.tolist(), outside) == ([NULL, 2**53], 1)


def test_truths_are_stored_as_one_and_zero():
    stored, outside = encode_number(boolean(), np.array([1, 0, -1, 7], np.int8))
    assert (stored.tolist(), outside) == ([1, 0, NULL, NULL], 1)


def test_times_outside_the_years_one_to_9999_are_null():
    stored, outside = encode_number(time(), np.array([0, NULL, 2**62]))
    assert (stored.tolist(), outside) == ([0, NULL, NULL], 1)


def test_texts_get_numbers_in_order_of_appearance():
    dictionary = Dictionary(["b"])
    assert list(map(dictionary.learn, ["a", None, "b", "a"])) == [1, NULL, 0, 1]
    assert [dictionary.find(text, -1) for text in ("a", "c", None)] == [1, -1, NULL]
    assert dictionary.texts == ["b", "a"]


@given(st.integers(2, 2**31 - 1), st.integers(0, 2**62), st.integers(0, 2**62), st.integers(0, 2**62))
def test_spread_is_the_exact_integer_to_the_nearest_double(n, total, high, low):
    assert spread(n, total, high, low) == float(n * (high * LIMB + low) - total * total)


@given(st.integers(0, 2**62 - 1), st.integers(0, 2**62 - 1))
def test_product_is_the_exact_integer_to_the_nearest_double(a, b):
    assert product(a, b) == float(a * b)


@given(st.integers(-(2**61), 2**61), st.integers(-(2**62), 2**62), st.integers(-(2**62), 2**62))
def test_nearest_rounds_ties_to_even(d2, d1, d0):
    assert nearest(d2, d1, d0) == float(d2 * LIMB**2 + d1 * LIMB + d0)


def test_weights_are_those_of_the_formula():
    assert decay_weights(1800, 14400, 60) == tuple(round(Fraction(2**24 * 2.0 ** (-i / 30))) for i in range(241))


@given(
    st.integers(-2_000_000_000, 10_000_000_000),
    st.sampled_from(
        ["America/New_York", "Europe/Dublin", "Africa/Casablanca", "Asia/Kathmandu", "Pacific/Apia", "UTC"]
    ),
)
def test_local_parts_are_those_of_the_calendar(second, zone):
    at = datetime.fromtimestamp(second, UTC).astimezone(zone_info(zone))
    expected = [at.hour, at.hour * 60 + at.minute, at.weekday(), at.weekday() * 24 + at.hour]
    parts = ["hour", "minute_of_day", "day_of_week", "hour_of_week"]
    assert [local_part([second * 10**6], zone, part)[0] for part in parts] == expected
    assert sorted(parts) == sorted(PARTS)


def test_the_machine_s_own_time_zones_have_no_say(tmp_path):
    (tmp_path / "Europe").mkdir()
    utc = files("tzdata.zoneinfo").joinpath("UTC").read_bytes()
    (tmp_path / "Europe" / "Berlin").write_bytes(utc)
    program = (
        "from mainstem.feature_engine.localtime import offsets_in_force as f; print(f('Europe/Berlin', 2013)[0, 1])"
    )
    environment = os.environ | {"PYTHONTZPATH": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout == "3600\n"


def test_the_hour_that_a_clock_repeats_is_the_same_hour_twice():
    instants = np.array([5, 6, 7]) * 3_600_000_000 + 1_383_436_800_000_000  # 2013-11-03
    assert local_part(instants, "America/New_York", "hour") == [1, 1, 2]


@pytest.mark.parametrize(("text", "value"), [("5ms", 5_000), ("90s", 90_000_000), ("2w", 1_209_600_000_000)])
def test_durations_are_microseconds(text, value):
    assert microseconds(text) == value


@pytest.mark.parametrize("text", ["", "h", "1", "1.5h", "-1h", "1H", " 1h"])
def test_other_durations_are_refused(text):
    with pytest.raises(ValueError, match="is not a duration"):
        microseconds(text)


pay = stream("pay", key="who", columns={"sum": fixed("eur", scale=100, lo=-(2**31) / 100, hi=2**31 / 100)})


@feature_set("payments", spine=pay, lateness="0s")
class Payments:
    """Values at the edge of what the state may hold."""

    std = pay.by("who").std("sum", "1h")
    total = pay.by("who").sum("sum", "1h")


def test_the_deviation_of_huge_numbers_is_exact():
    amounts = np.array([2**31, 2**31 - 1, 2**31 - 3, 0.0, 0.0]) / 100
    batch = Batch(
        np.zeros(5, np.int8), np.arange(5) + 10, np.arange(5) + 10, {"pay": {"who": ["a"] * 5, "sum": amounts}}
    )
    values = Engine(Payments.compile()).process(batch).values
    assert values[3, 1] == (3 * 2**31 - 4) / 100
    exact = [2**31, 2**31 - 1, 2**31 - 3]
    variance = Fraction(3 * sum(x * x for x in exact) - sum(exact) ** 2, 3 * 2 * 100**2)
    assert values[3, 0] == math.sqrt(variance)


PAID: dict = {"pay": {"who": ["a"], "sum": [1.0]}}
PAID_TWICE: dict = {"pay": {"who": ["a", "b"], "sum": [1.0, 2.0]}}


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (Batch(np.array([1], np.int8), np.array([0]), np.array([0]), PAID), "must be below 1: they count pay"),
        (Batch(np.array([0], np.int8), np.array([2**62]), np.array([0]), PAID), "are they in microseconds"),
        (Batch(np.array([0], np.int8), np.array([0]), np.array([-(2**62)]), PAID), "are they in microseconds"),
        (Batch(np.zeros(2, np.int8), np.array([0, 0]), np.array([1, 0]), PAID_TWICE), "arrivals must not fall"),
        (Batch(np.array([0], np.int8), np.array([0, 1]), np.array([0]), {}), "1 streams, 2 event times and 1 arrivals"),
        (Batch(np.array([0], np.int8), np.array([0]), np.array([0]), {"pay": {"who": ["a"]}}), "pay.sum has 0 values"),
    ],
)
def test_a_batch_of_the_wrong_form_is_refused_before_anything_is_applied(batch, message):
    engine = Engine(Payments.compile())
    with pytest.raises(ValueError, match=message):
        engine.process(batch)
    assert engine.snapshot() == Engine(Payments.compile()).snapshot()


def test_values_out_of_range_are_counted_by_column():
    engine = Engine(Payments.compile())
    engine.process(
        Batch(np.zeros(2, np.int8), np.array([1, 2]), np.array([1, 2]), {"pay": {"who": ["a", "a"], "sum": [1e9, 1.0]}})
    )
    assert engine.out_of_range == {"pay.sum": 1, "pay.who": 0}


def test_keys_meet_across_streams_by_the_name_of_the_column():
    sent = stream("sent", key="who", columns={"to": category()})

    @feature_set("friends", spine=pay, lateness="1h")
    class Friends:
        friends = sent.by("who").distinct("to", "1h")

    columns = {"sent": {"who": ["b", "a", "a", "a"], "to": ["x", "y", "z", "y"]}, "pay": {"who": ["a", "c", None]}}
    batch = Batch(np.array([1, 1, 1, 1, 0, 0, 0], np.int8), np.arange(7), np.arange(7), columns)
    assert Engine(Friends.compile()).process(batch).values[:, 0].tolist() == [2, 0, 0]


@pytest.mark.parametrize("module", [column_types, constants, inference, layout, localtime, zones])
def test_the_examples_in_the_docstrings_are_true(module):
    result = doctest.testmod(module)
    assert (result.failed, result.attempted > 0) == (0, True)
