"""The engine against the reference evaluator, over random definitions and random logs, bit for bit."""

import random

import numpy as np
import pytest
from libs.feature_engine.tests.definitions import (
    CATEGORY,
    column,
    decay_mean,
    fixed,
    random_specification,
    specification,
    windowed,
)
from libs.feature_engine.tests.random_logs import in_columns, random_log

from mainstem.feature_engine import Batch, Engine, load
from mainstem.feature_engine.reference import Applied, Reference

SEEDS = 900
LENGTHS = (0, 1, 30, 150, 400, 2000)


def by_reference(spec, log):
    """Return the rows of a log by the reference evaluator."""
    evaluator, spine, rows = Reference(spec), spec["streams"][0]["name"], []
    for record in log:
        if record.stream == spine:
            rows.append(evaluator.row(record))
        evaluator.apply(record)
    return np.array(rows, np.float64).reshape(-1, len(spec["features"]))


def first_difference(spec, found, expected):
    """Return where two tables of values first differ, in words, or None."""
    bits, right = found.view(np.uint64), expected.view(np.uint64)  # null has one NaN, and zero has two signs
    if np.array_equal(bits, right):
        return None
    row, column = (int(place) for place in np.argwhere(bits != right)[0])
    feature = spec["features"][column]
    values = f"{found[row, column]} ({bits[row, column]:x}) and not {expected[row, column]} ({right[row, column]:x})"
    return f"row {row}, {feature['name']}: {values}; {feature['value']}"


@pytest.mark.parametrize("hundred", range(SEEDS // 100))
def test_every_cell_of_random_definitions_has_the_bits_of_the_rules(hundred):
    cells = known = 0
    for seed in range(100 * hundred, 100 * hundred + 100):
        spec = random_specification(seed)
        log = random_log(spec, seed, LENGTHS[seed % len(LENGTHS)])
        expected = by_reference(spec, log)
        found = Engine(load(spec)).process(Batch(**in_columns(spec, log))).values
        assert first_difference(spec, found, expected) is None, f"seed {seed}"
        cells += expected.size
        known += int(np.count_nonzero(~np.isnan(expected)))
    assert cells > 200_000
    assert known > cells // 3


@pytest.mark.parametrize("size", [1, 7])
def test_batches_of_random_logs_change_no_bit(size):
    for seed in range(900, 910):
        spec = random_specification(seed)
        log = random_log(spec, seed, 100)
        engine = Engine(load(spec))
        parts = [log[start : start + size] for start in range(0, len(log), size)]
        found = np.concatenate([engine.process(Batch(**in_columns(spec, part))).values for part in parts])
        assert first_difference(spec, found, by_reference(spec, log)) is None, f"seed {seed}"


def widest_specification(scale, lateness):
    """Return aggregates of the widest numbers that they take."""
    streams = {"s": {"k": CATEGORY, "v": fixed(1, -(2**53), 2**53), "w": fixed(scale, -(2**31), 2**31)}}
    features = {}
    for window in (10, 500, 100_000):
        wide = {name: windowed(name, "s", "k", column("v"), window=window) for name in ("sum", "mean", "min", "max")}
        wide["std"] = windowed("std", "s", "k", column("w"), window=window, hop=window // 3)
        ticks = {"horizon": window, "half_life": window // 7, "tick": max(1, window // 50)}
        wide["decay_mean"] = decay_mean("s", "k", column("w"), **ticks)
        features |= {f"{name}_{window}": value for name, value in wide.items()}
    return specification(streams, features, lateness)


def widest_log(rng, length, scale, below):
    """Yield records of numbers that lie less than twice `below` under the greatest there are."""
    now = 0
    for _ in range(length):
        now += rng.choice([0, 1, 1, 2])
        v = 2**53 - rng.choice([0, rng.randrange(2 * below)])
        w = 2**31 - rng.choice([0, rng.randrange(min(2 * below, 2**32))])
        columns = {"k": rng.choice("aaab"), "v": v, "w": w / scale}
        yield Applied("s", now - rng.choice([0, 0, 1, 40, 50, 51]), now, columns)


@pytest.mark.parametrize(("below", "scale"), [(2, 1), (2, 7), (2**53, 2**30), (2**53, 1000)])
def test_the_widest_numbers_keep_every_bit(below, scale):
    spec = widest_specification(scale, lateness=50)
    log = list(widest_log(random.Random(scale), 1800, scale, below))  # 1800 times 2**53 is beyond 64 bits
    found = Engine(load(spec)).process(Batch(**in_columns(spec, log))).values
    assert first_difference(spec, found, by_reference(spec, log)) is None


def test_what_was_too_late_is_what_the_reference_did_not_apply():
    for seed in range(20):
        spec = random_specification(seed)
        log = random_log(spec, seed, 150)
        late = [n for n, r in enumerate(log) if r.event_time_us < r.arrival_us - spec["lateness_us"]]
        assert Engine(load(spec)).process(Batch(**in_columns(spec, log))).too_late.tolist() == late
