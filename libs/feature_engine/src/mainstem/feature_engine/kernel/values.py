"""Reading a value: exact integers in, one float64 division (and a square root for the deviation) out."""

import numpy as np

from mainstem.feature_engine.jit import jit
from mainstem.feature_engine.kernel.exact import LIMB, MASK, nearest, product, spread
from mainstem.feature_engine.kernel.fields import (
    AGE,
    AT,
    DECAY,
    DIFFERENT,
    EXTREMUM,
    HEADS,
    HIGH,
    LAST,
    LOW,
    MEAN,
    NULL,
    OP,
    OUT,
    PARAM,
    ROWS,
    SCALE,
    SPAN,
    STD,
    SUM,
    TABLE,
    TAIL,
    TERM,
    TIME,
    TOTAL,
    VALUE,
    WHERE,
    WIDE_MEAN,
    WIDE_SUM,
    WINDOW,
    Floats,
    Ints,
    N,
    Plan,
)
from mainstem.feature_engine.kernel.rings import largest, last_known, slot


@jit
def answer(plan: Plan, pool: Ints, row: Ints, out: Floats, line: int) -> None:
    """Write the values of a spine event to which the windows have been slid."""
    features = plan[4]
    for f in range(len(features)):
        op = features[f, OP]
        if op == ROWS:
            value = float(row[TAIL] - row[HEADS + features[f, WINDOW]])
        elif op <= WIDE_MEAN:
            value = summed(features, row, f)
        elif op == EXTREMUM:
            value = extremum(plan, pool, row, f)
        elif op <= AGE:
            value = latest(features, pool, row, f)
        elif op == DECAY:
            value = decayed(plan, pool, row, f)
        else:
            value = float(row[features[f, WHERE]])
        out[line, features[f, OUT]] = value


@jit
def nothing(plan: Plan, known: bool, out: Floats, line: int) -> None:
    """Write the values over no events; if what there is cannot be known, all are null."""
    features = plan[4]
    for f in range(len(features)):
        counts = features[f, OP] in (ROWS, SUM, WIDE_SUM, DIFFERENT)
        out[line, features[f, OUT]] = 0.0 if counts and known else np.nan


@jit
def summed(features: Ints, row: Ints, f: int) -> float:
    """Σx / scale, Σx / (n scale) or √((n Σx² - (Σx)²) / (n (n - 1) scale²)): exact up to the division."""
    op, place, scale = features[f, OP], features[f, WHERE], features[f, SCALE]
    n, total = row[place + N], row[place + TOTAL]
    value = np.nan
    if op == SUM:
        value = total / scale
    elif op == WIDE_SUM:
        value = nearest(0, total, row[place + HIGH]) / scale
    elif op == MEAN and n > 0:
        value = total / (n * scale)
    elif op == WIDE_MEAN and n > 0:
        value = nearest(0, total, row[place + HIGH]) / (n * scale)
    elif op == STD and n > 1:
        above = spread(n, abs(total), row[place + HIGH], row[place + LOW])
        value = np.sqrt(above / product(n * (n - 1), scale * scale))
    return float(value)


@jit
def extremum(plan: Plan, pool: Ints, row: Ints, f: int) -> float:
    """Return the largest value of the window, or the smallest."""
    features = plan[4]
    sign = features[f, PARAM]
    best = largest(plan, pool, row, features[f, TERM], sign, row[HEADS + features[f, WINDOW]])
    return float(best * sign / features[f, SCALE]) if best != NULL else np.nan


@jit
def latest(features: Ints, pool: Ints, row: Ints, f: int) -> float:
    """Return the newest non-null value before the query, or its age in seconds, if it is not older than the ttl."""
    column, floor = features[f, TERM], features[f, WHERE]
    time, value = row[floor + TIME], row[floor + VALUE]
    sequence = last_known(pool, row, column)
    if sequence >= 0:
        time, value = pool[slot(row, sequence), 0], pool[slot(row, sequence), column]
    if value == NULL or row[AT] - time > features[f, PARAM]:
        return np.nan
    return float(value / features[f, SCALE] if features[f, OP] == LAST else (row[AT] - time) / 1_000_000)


@jit
def decayed(plan: Plan, pool: Ints, row: Ints, f: int) -> float:
    """Σ w x / (scale Σ w) over the horizon, w an integer by age in whole ticks: event by event, or tick by tick."""
    _, windows, _, _, features, _ = plan
    events = row[TAIL] - row[HEADS + features[f, WINDOW]]
    if events * features[f, PARAM] <= 2 * windows[features[f, WINDOW], SPAN]:
        return decayed_by_event(plan, pool, row, f)
    return decayed_by_tick(plan, pool, row, f)


@jit
def decayed_by_event(plan: Plan, pool: Ints, row: Ints, f: int) -> float:
    """Weigh each event; an age in ticks is guessed by a product, which is cheaper than a division, and put right."""
    _, _, _, _, features, tables = plan
    term, tick, table, now = features[f, TERM], features[f, PARAM], features[f, TABLE], row[AT]
    high, low, weight, guess = 0, 0, 0, 1.0 / tick
    for sequence in range(row[HEADS + features[f, WINDOW]], row[TAIL]):
        at = slot(row, sequence)
        time = now - pool[at, 0]
        age = int(time * guess)
        age += (1 if (age + 1) * tick <= time else 0) - (1 if age * tick > time else 0)
        known = pool[at, term] != NULL
        w = tables[table + age] if known else 0
        weighted = w * (pool[at, term] if known else 0)
        high += weighted >> LIMB
        low += weighted & MASK
        weight += w
    return nearest(0, high, low) / product(weight, features[f, SCALE]) if weight > 0 else np.nan


@jit
def decayed_by_tick(plan: Plan, pool: Ints, row: Ints, f: int) -> float:
    """Weigh what the running sums say of each tick."""
    _, _, _, sums, features, tables = plan
    tick, table, line = features[f, PARAM], features[f, TABLE], features[f, WHERE]
    head, sequence = row[HEADS + features[f, WINDOW]], row[TAIL]
    high, low, weight = 0, 0, 0
    while sequence > head:
        age = (row[AT] - pool[slot(row, sequence - 1), 0]) // tick
        start = tick_start(pool, row, row[AT] - (age + 1) * tick, head, sequence - 1)
        first, last = slot(row, start), slot(row, sequence - 1)
        n = pool[last, sums[line, 1]] - pool[first, sums[line, 1]]
        x = pool[last, sums[line, 2]] - pool[first, sums[line, 2]]
        if pool[first, sums[line, 0]] != NULL:
            n += 1
            x += pool[first, sums[line, 0]]
        weighted = (x & MASK) * tables[table + age]
        high += (x >> LIMB) * tables[table + age] + (weighted >> LIMB)
        low += weighted & MASK
        weight += n * tables[table + age]
        sequence = start
    return nearest(0, high, low) / product(weight, features[f, SCALE]) if weight > 0 else np.nan


@jit
def tick_start(pool: Ints, row: Ints, time: int, head: int, last: int) -> int:
    """Return the first event after `time` from `head` on, up to `last`, which is one: doubling steps, then halving."""
    step, high = 1, last
    while high - step >= head and pool[slot(row, high - step), 0] > time:
        high -= step
        step *= 2
    low = max(head, high - step)
    while low < high:
        middle = (low + high) >> 1
        if pool[slot(row, middle), 0] > time:
            high = middle
        else:
            low = middle + 1
    return int(high)
