"""The engine against the rules, evaluated one cell at a time over the log prefix, with no code in common."""

import math
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from mainstem.feature_engine import Engine

SECOND = 1_000_000
LATENESS = 60 * SECOND


def stored(value, scale, lo, hi):
    number = None if value is None else round(value * scale)
    return number if number is not None and lo * scale <= number <= hi * scale else None


AMOUNT = (100, lambda c: stored(c["amount"], 100, -50, 500))
RUSH = (1, lambda c: None if c["rush"] is None else int(c["rush"]))
STARS = (1, lambda c: stored(c["stars"], 1, 0, 5))
HAPPY = (1, lambda c: None if STARS[1](c) is None else int(c["stars"] > 3))
LEVEL = (10, lambda c: stored(c["level"], 10, -1000, 1000))
ITEM = (1, lambda c: c["item"])
SHOP = (1, lambda c: c["shop"])
NOTHING = (1, lambda c: 0)

AGGREGATES = {  # feature: aggregate, stream, key, value, seconds
    "n_30s": ("count", "order", "shop", NOTHING, 30),
    "sum_2m": ("sum", "order", "shop", AMOUNT, 120),
    "mean_30s": ("mean", "order", "shop", AMOUNT, 30),
    "std_2m": ("std", "order", "shop", AMOUNT, 120),
    "min_2m": ("min", "order", "shop", AMOUNT, 120),
    "max_30s": ("max", "order", "shop", AMOUNT, 30),
    "items_2m": ("distinct", "order", "shop", ITEM, 120),
    "decayed": ("decay", "order", "shop", AMOUNT, 90),
    "rushed": ("mean", "order", "item", RUSH, 600),
    "previous": ("last", "order", "item", AMOUNT, 240),
    "happy": ("mean", "visit", "shop", HAPPY, 120),
    "spread": ("std", "visit", "shop", STARS, 600),
    "worst": ("min", "visit", "shop", STARS, 600),
    "stars": ("last", "visit", "item", STARS, 180),
    "stars_age": ("age", "visit", "item", STARS, 180),
    "shops": ("distinct", "visit", "item", SHOP, 600),
    "level": ("last", "stock", "shop", LEVEL, 300),
    "level_age": ("age", "stock", "shop", LEVEL, 7200),
    "level_now": ("last", "stock", "shop", LEVEL, 20),
}
LOCAL = {
    "due_hour": ("America/New_York", lambda at: at.hour),
    "due_week": ("Europe/Berlin", lambda at: at.weekday() * 24 + at.hour),
    "due_day": ("Australia/Lord_Howe", lambda at: at.weekday()),
    "due_minute": ("Asia/Kathmandu", lambda at: at.hour * 60 + at.minute),
}


def late(log):
    """Which events became known more than the lateness after they happened."""
    return [at < arrival - LATENESS for _, at, arrival, _ in log]


def plain(name, columns):
    if name in LOCAL:
        if columns["due"] is None:
            return math.nan
        zone, part = LOCAL[name]
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=columns["due"])
        return part(moment.astimezone(ZoneInfo(zone)))
    value = (RUSH if name == "rush" else AMOUNT)[1](columns)
    if value is None:
        return math.nan
    return float(value >= 10000) if name == "big" else value / 100 if name == "amount" else value


def total(rows, scale):
    return sum(value for _, _, value in rows) / scale


def mean(rows, scale):
    return sum(value for _, _, value in rows) / (len(rows) * scale) if rows else math.nan


def std(rows, scale):
    n, first, second = len(rows), sum(v for _, _, v in rows), sum(v * v for _, _, v in rows)
    return math.sqrt((n * second - first**2) / (n * (n - 1) * scale**2)) if n > 1 else math.nan


def last(rows, scale):
    return min(rows, key=lambda row: (row[0], -row[1]))[2] / scale if rows else math.nan


def decayed(rows, scale):
    weights = [round(2**24 * 2.0 ** (-(age // (7 * SECOND)) * 7 / 20)) for age, _, _ in rows]
    above = sum(weight * value for weight, (_, _, value) in zip(weights, rows, strict=True))
    return above / (sum(weights) * scale) if rows else math.nan


COMBINE = {  # of rows of (age, position, value), all in the window and not null
    "count": lambda rows, scale: len(rows),
    "distinct": lambda rows, scale: len({value for _, _, value in rows}),
    "sum": total,
    "mean": mean,
    "std": std,
    "min": lambda rows, scale: min((value / scale for _, _, value in rows), default=math.nan),
    "max": lambda rows, scale: max((value / scale for _, _, value in rows), default=math.nan),
    "last": last,
    "age": lambda rows, scale: min((age / SECOND for age, _, _ in rows), default=math.nan),
    "decay": decayed,
}


def brute(log, position, is_late, names):
    """One row, straight from the rules."""
    _, now, _, columns = log[position]
    row = []
    for name in names:
        if name not in AGGREGATES:
            row.append(plain(name, columns))
            continue
        op, source, key, (scale, value_of), seconds = AGGREGATES[name]
        rows = [
            (now - at, i, value_of(c))
            for i, (name, at, _, c) in enumerate(log[:position])
            if name == source and 0 < now - at <= seconds * SECOND and not is_late[i]
            if c[key] is not None and c[key] == columns[key]
        ]
        row.append(COMBINE[op]([r for r in rows if r[2] is not None], scale))
    return [math.nan if is_late[position] and n in AGGREGATES else v for n, v in zip(names, row, strict=True)]


def expected(log, names):
    is_late = late(log)
    rows = [brute(log, i, is_late, names) for i, event in enumerate(log) if event[0] == "order"]
    return np.array(rows, dtype=np.float64).reshape(-1, len(names))


def test_every_cell_of_many_random_logs_has_the_bits_of_the_rules(compiled, random_log, batch_of):
    cells = 0
    for seed in range(56):
        log = random_log(seed, 150)
        values = Engine(compiled).process(batch_of(log)).values
        np.testing.assert_array_equal(values, expected(log, compiled.names), err_msg=f"seed {seed}")
        cells += values.size
    assert cells >= 100_000


def test_a_long_log_drops_what_no_window_needs_and_stays_exact(compiled, random_log, batch_of):
    log = random_log(1000, 1000)
    engine = Engine(compiled)
    np.testing.assert_array_equal(engine.process(batch_of(log)).values, expected(log, compiled.names))
    assert engine.state_bytes() < 200_000


def test_every_null_has_the_same_bits(compiled, random_log, batch_of):
    values = Engine(compiled).process(batch_of(random_log(3, 400))).values
    assert {bits.tobytes() for bits in values[np.isnan(values)]} == {np.float64(np.nan).tobytes()}


def test_the_late_and_only_the_late_are_counted_and_named(compiled, random_log, batch_of):
    log = random_log(7, 500)
    engine = Engine(compiled)
    rows = engine.process(batch_of(log))
    assert rows.too_late.tolist() == np.flatnonzero(late(log)).tolist()
    assert sum(engine.too_late.values()) == len(rows.too_late)
    assert sum(engine.applied.values()) == len(log) - len(rows.too_late)
    assert rows.index.tolist() == [i for i, event in enumerate(log) if event[0] == "order"]
