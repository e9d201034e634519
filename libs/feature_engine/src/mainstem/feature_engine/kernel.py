"""The fold: exact sliding windows over integers, in applied order.

An index belongs to one (stream, key column). It keeps, for each key, a ring of events sorted by (event time, applied
position) that all its windows share, and for each window the exact integer sums of what is inside.
A query slides the windows of its key to [t - W, t), forwards or backwards, and reads the sums.
Everything kept is an integer, so the order of adding and removing leaves no trace; one float64 division (and for the
deviation one square root) makes the value.

All compiled functions live in this file: numba's cache notices a change of the file of a function, not of its callees.
Functions that a query or an event passes through take a key's row, which begins with the fields below and goes on with
the heads of the windows, the cells, the extremes and the floors (see `Plan`).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mainstem.feature_engine.jit import jit

Ints = NDArray[np.int64]

NULL = -(2**63)
NEVER = -(2**62)
LIMB = 31
MASK = (1 << LIMB) - 1

BASE, CAPACITY, FIRST, END, TAIL, AT, HEADS = range(7)
"""A key's row: where its ring starts in the pool and how many slots it has; the sequence numbers of the first event
kept, past the last one, and of the first one at or after the last query; the time of the last query; window heads."""

CELL, EXTREME, FLOOR = 4, 2, 2
"""Fields of a cell: n, Σx, and Σx² as two limbs; of an extreme: value, sequence number; of a floor: time, value."""

ROWS, SUM, MEAN, STD, MIN, MAX, LAST, AGE, DECAY, DISTINCT = range(10)

OP, COLUMN, PLACE, PARAM, SCALE, OUT, TABLE = range(7)
"""A feature: what it does; of which ring column; the window, cell or extreme it reads (by position in the plan or, for
the two latter, in the row); ttl or tick in µs; the column's scale; its output column; where its weights start."""


class Plan(NamedTuple):
    """What an index computes; constant."""

    windows: Ints  #: length in µs
    cells: Ints  #: (window, ring column, place in the row) of each pair that has sums
    extremes: Ints  #: (window, ring column, place in the row, sign): the largest sign * value
    features: Ints  #: one row a feature
    weights: Ints  #: decay weights by age in ticks, in units of 2**-24
    floors: int  #: where in the row the floors start
    span: int  #: how far the longest window reaches back, in µs


class Ring(NamedTuple):
    """The pool that holds the rings of all keys of an index."""

    times: Ints
    values: Ints  #: (slot, ring column)
    used: Ints  #: one number: slots given away


class Work(NamedTuple):
    """A batch as one index sees it; `*_at` are rising positions in the batch, keys and times go with them."""

    query_at: Ints
    query_key: Ints
    query_time: Ints
    query_row: Ints  #: row of the output
    update_at: Ints
    update_key: Ints
    update_time: Ints
    update_values: Ints
    horizon: Ints  #: by position in the batch: no query from here on is earlier
    seen: Ints  #: by category: scratch, all 0


@jit
def fold(plan: Plan, keys: Ints, ring: Ring, work: Work, cursor: Ints, out: NDArray[np.float64]) -> bool:
    """Answer queries and apply updates in order of position, a query before the update at the same position.

    Starts at `cursor` (next query, next update) and leaves it where it stopped. Returns False if the pool is full:
    call again with a larger one. Keys must be below len(keys).
    """
    q, u = cursor[0], cursor[1]
    while q < len(work.query_at) or u < len(work.update_at):
        if u == len(work.update_at) or (q < len(work.query_at) and work.query_at[q] <= work.update_at[u]):
            answer(plan, keys[work.query_key[q]], ring, work, q, out)
            q += 1
        elif update(plan, keys[work.update_key[u]], ring, work, u):
            u += 1
        else:
            break
    cursor[0], cursor[1] = q, u
    return bool(q == len(work.query_at) and u == len(work.update_at))


# Queries


@jit
def answer(plan: Plan, row: Ints, ring: Ring, work: Work, q: int, out: NDArray[np.float64]) -> None:
    """Write the features of one spine event."""
    slide(plan, row, ring, work.query_time[q])
    for f in range(len(plan.features)):
        feature = plan.features[f]
        if feature[OP] == DISTINCT:
            value = distinct(plan, row, ring, feature, work.seen, q * len(plan.features) + f + 1)
        else:
            value = evaluate(plan, row, ring, feature)
        out[work.query_row[q], feature[OUT]] = value


@jit
def evaluate(plan: Plan, row: Ints, ring: Ring, feature: Ints) -> float:
    """Return the value of a feature for the windows as they stand."""
    op = feature[OP]
    if op == ROWS:
        return float(row[TAIL] - row[HEADS + feature[PLACE]])
    if op <= STD:
        return summed(row, feature)
    if op <= MAX:
        return extreme(plan, row, ring, feature)
    if op <= AGE:
        return latest(plan, row, ring, feature)
    return decayed_mean(plan, row, ring, feature)


@jit
def summed(row: Ints, feature: Ints) -> float:
    """Σx / scale, Σx / (n scale) or √((n Σx² - (Σx)²) / (n (n - 1) scale²)): exact up to the division."""
    op, cell = feature[OP], feature[PLACE]
    n = row[cell]
    if op == SUM:
        return float(row[cell + 1] / feature[SCALE])
    if n < 1 or (n < 2 and op == STD):
        return np.nan
    if op == MEAN:
        return float(row[cell + 1] / (n * feature[SCALE]))
    above = spread(n, abs(row[cell + 1]), row[cell + 2], row[cell + 3])
    return float(np.sqrt(above / product(n * (n - 1), feature[SCALE] ** 2)))


@jit
def extreme(plan: Plan, row: Ints, ring: Ring, feature: Ints) -> float:
    """Return the kept extreme, or look for it again if the event that held it has left the window."""
    chosen = plan.extremes[feature[PLACE]]
    column, place, sign = chosen[1], chosen[2], chosen[3]
    head = row[HEADS + chosen[0]]
    if row[place] != NULL and not head <= row[place + 1] < row[TAIL]:
        row[place] = NULL
        for sequence in range(head, row[TAIL]):
            contend(row, place, ring.values[slot(row, sequence), column], sign, sequence)
    return float(row[place] * sign / feature[SCALE]) if row[place] != NULL else np.nan


@jit
def latest(plan: Plan, row: Ints, ring: Ring, feature: Ints) -> float:
    """Return the newest non-null value before the query, or its age in seconds, if it is not older than the ttl."""
    floor = plan.floors + FLOOR * feature[COLUMN]
    time, value = row[floor], row[floor + 1]
    for sequence in range(row[TAIL] - 1, row[FIRST] - 1, -1):
        at = slot(row, sequence)
        if ring.values[at, feature[COLUMN]] != NULL:
            time, value = ring.times[at], ring.values[at, feature[COLUMN]]
            break
    age = row[AT] - time
    if value == NULL or age > feature[PARAM]:
        return np.nan
    return float(value / feature[SCALE]) if feature[OP] == LAST else float(age / 1_000_000)


@jit
def decayed_mean(plan: Plan, row: Ints, ring: Ring, feature: Ints) -> float:
    """Σ w x / (scale Σ w) over the horizon, w an integer looked up by age in whole ticks."""
    high, low, weights = 0, 0, 0
    for sequence in range(row[HEADS + feature[PLACE]], row[TAIL]):
        at = slot(row, sequence)
        value = ring.values[at, feature[COLUMN]]
        if value != NULL:
            weight = plan.weights[feature[TABLE] + (row[AT] - ring.times[at]) // feature[PARAM]]
            high += (value * weight) >> LIMB
            low += (value * weight) & MASK
            weights += weight
    return nearest(0, high, low) / product(weights, feature[SCALE]) if weights > 0 else np.nan


@jit
def distinct(plan: Plan, row: Ints, ring: Ring, feature: Ints, seen: Ints, stamp: int) -> float:
    """Count the categories in the window; `stamp` is unlike all that were left in `seen` before."""
    count = 0
    for sequence in range(row[HEADS + feature[PLACE]], row[TAIL]):
        category = ring.values[slot(row, sequence), feature[COLUMN]]
        if category != NULL and seen[category] != stamp:
            seen[category] = stamp
            count += 1
    return float(count)


# Updates


@jit
def update(plan: Plan, row: Ints, ring: Ring, work: Work, u: int) -> bool:
    """Insert one event; return False, with nothing inserted, if the pool is full."""
    time, values, horizon = work.update_time[u], work.update_values[u], work.horizon[work.update_at[u]]
    if time < horizon - plan.span:
        retire(plan, row, ring, horizon)
        remember(plan, row, time, values)
        return True
    if row[END] - row[FIRST] == row[CAPACITY]:
        retire(plan, row, ring, horizon)
    if row[END] - row[FIRST] == row[CAPACITY] and not widen(row, ring):
        return False
    insert(plan, row, ring, time, values)
    return True


@jit
def insert(plan: Plan, row: Ints, ring: Ring, time: int, values: Ints) -> None:
    """Put an event behind all that are not later; if the windows have slid past it, let it in at once."""
    sequence = row[END]
    while sequence > row[FIRST] and ring.times[slot(row, sequence - 1)] > time:
        copy(ring, slot(row, sequence - 1), slot(row, sequence))
        sequence -= 1
    at = slot(row, sequence)
    ring.times[at] = time
    ring.values[at] = values
    row[END] += 1
    for x in range(len(plan.extremes)):
        place = plan.extremes[x, 2]
        if row[place + 1] >= sequence:
            row[place + 1] += 1
    if time < row[AT]:
        admit(plan, row, time, values, sequence)


@jit
def admit(plan: Plan, row: Ints, time: int, values: Ints, sequence: int) -> None:
    """Count an event that lies before the last query into the windows that reach back to it."""
    row[TAIL] += 1
    for window in range(len(plan.windows)):
        if time < row[AT] - plan.windows[window]:
            row[HEADS + window] += 1
        else:
            enter(plan, row, values, sequence, window)


@jit
def widen(row: Ints, ring: Ring) -> bool:
    """Double a key's ring; return False, with nothing changed, if the pool has no room."""
    capacity = max(8, 2 * row[CAPACITY])
    base = ring.used[0]
    if base + capacity > len(ring.times):
        return False
    for sequence in range(row[FIRST], row[END]):
        copy(ring, slot(row, sequence), base + (sequence & (capacity - 1)))
    ring.used[0] += capacity
    row[BASE], row[CAPACITY] = base, capacity
    return True


@jit
def retire(plan: Plan, row: Ints, ring: Ring, horizon: int) -> None:
    """Drop the events that no query can reach any more; the floors keep the last value of each column."""
    if row[AT] < horizon:
        slide(plan, row, ring, horizon)
    while row[FIRST] < row[END]:
        at = slot(row, row[FIRST])
        if ring.times[at] >= horizon - plan.span:
            return
        remember(plan, row, ring.times[at], ring.values[at])
        row[FIRST] += 1


@jit
def remember(plan: Plan, row: Ints, time: int, values: Ints) -> None:
    """Keep the values that are not null and not older than the floor."""
    for column in range(len(values)):
        floor = plan.floors + FLOOR * column
        if values[column] != NULL and time >= row[floor]:
            row[floor] = time
            row[floor + 1] = values[column]


# Windows


@jit
def slide(plan: Plan, row: Ints, ring: Ring, time: int) -> None:
    """Make every window of the key [time - W, time)."""
    if time >= row[AT]:
        advance_tail(plan, row, ring, time)
        for window in range(len(plan.windows)):
            advance_head(plan, row, ring, window, time - plan.windows[window])
    else:
        for window in range(len(plan.windows)):
            retreat_head(plan, row, ring, window, time - plan.windows[window])
        retreat_tail(plan, row, ring, time)
    row[AT] = time


@jit
def advance_tail(plan: Plan, row: Ints, ring: Ring, time: int) -> None:
    """Let the events before `time` in."""
    while row[TAIL] < row[END] and ring.times[slot(row, row[TAIL])] < time:
        values = ring.values[slot(row, row[TAIL])]
        for window in range(len(plan.windows)):
            enter(plan, row, values, row[TAIL], window)
        row[TAIL] += 1


@jit
def retreat_tail(plan: Plan, row: Ints, ring: Ring, time: int) -> None:
    """Put the events at or after `time` out again; the heads have gone back already."""
    while row[TAIL] > row[FIRST] and ring.times[slot(row, row[TAIL] - 1)] >= time:
        row[TAIL] -= 1
        values = ring.values[slot(row, row[TAIL])]
        for window in range(len(plan.windows)):
            leave(plan, row, values, window)


@jit
def advance_head(plan: Plan, row: Ints, ring: Ring, window: int, start: int) -> None:
    """Put the events before `start` out."""
    while row[HEADS + window] < row[TAIL] and ring.times[slot(row, row[HEADS + window])] < start:
        leave(plan, row, ring.values[slot(row, row[HEADS + window])], window)
        row[HEADS + window] += 1


@jit
def retreat_head(plan: Plan, row: Ints, ring: Ring, window: int, start: int) -> None:
    """Let the events at or after `start` in again."""
    while row[HEADS + window] > row[FIRST] and ring.times[slot(row, row[HEADS + window] - 1)] >= start:
        row[HEADS + window] -= 1
        sequence = row[HEADS + window]
        enter(plan, row, ring.values[slot(row, sequence)], sequence, window)


@jit
def enter(plan: Plan, row: Ints, values: Ints, sequence: int, window: int) -> None:
    """Count an event into a window."""
    for c in range(len(plan.cells)):
        if plan.cells[c, 0] == window:
            tally(row, plan.cells[c, 2], values[plan.cells[c, 1]], 1)
    for x in range(len(plan.extremes)):
        if plan.extremes[x, 0] == window:
            contend(row, plan.extremes[x, 2], values[plan.extremes[x, 1]], plan.extremes[x, 3], sequence)


@jit
def leave(plan: Plan, row: Ints, values: Ints, window: int) -> None:
    """Count an event out of a window; an extreme that it held is looked for when it is asked for."""
    for c in range(len(plan.cells)):
        if plan.cells[c, 0] == window:
            tally(row, plan.cells[c, 2], values[plan.cells[c, 1]], -1)


@jit
def tally(row: Ints, cell: int, value: int, sign: int) -> None:
    """Add (sign 1) or take away (sign -1) a value; |value| <= 2**31, so no field overflows below 2**31 events."""
    if value != NULL:
        square = value * value
        row[cell] += sign
        row[cell + 1] += sign * value
        row[cell + 2] += sign * (square >> LIMB)
        row[cell + 3] += sign * (square & MASK)


@jit
def contend(row: Ints, place: int, value: int, sign: int, sequence: int) -> None:
    """Keep the value if it is at least as extreme as the one kept, which is never less than any in the window."""
    if value != NULL and (row[place] == NULL or sign * value >= row[place]):
        row[place] = sign * value
        row[place + 1] = sequence


@jit
def slot(row: Ints, sequence: int) -> int:
    """Where in the pool an event of the key lies."""
    return int(row[BASE] + (sequence & (row[CAPACITY] - 1)))


@jit
def copy(ring: Ring, source: int, target: int) -> None:
    """Copy one slot of the pool."""
    ring.times[target] = ring.times[source]
    ring.values[target] = ring.values[source]


# Exact integers of up to 124 bits, as limbs of 31 bits, and their nearest float64


@jit
def spread(n: int, total: int, high: int, low: int) -> float:
    """Return n (high 2**31 + low) - total² as the nearest float64; needs n < 2**31, the rest in [0, 2**62]."""
    high += low >> LIMB
    t1, t0 = total >> LIMB, total & MASK
    d0 = n * (low & MASK) - t0 * t0
    d1 = n * (high & MASK) - 2 * t1 * t0
    return nearest(n * (high >> LIMB) - t1 * t1, d1, d0)


@jit
def product(a: int, b: int) -> float:
    """Return a b as the nearest float64; needs both in [0, 2**62)."""
    a1, a0, b1, b0 = a >> LIMB, a & MASK, b >> LIMB, b & MASK
    return nearest(a1 * b1, a1 * b0 + a0 * b1, a0 * b0)


@jit
def nearest(d2: int, d1: int, d0: int) -> float:
    """Return d2 2**62 + d1 2**31 + d0 as the nearest float64, ties to even."""
    d1 += d0 >> LIMB
    d2 += d1 >> LIMB
    low = ((d1 & MASK) << LIMB) | (d0 & MASK)
    if d2 < 0:
        return -magnitude(-d2 - 1, (1 << 62) - low) if low > 0 else -magnitude(-d2, 0)
    return magnitude(d2, low)


@jit
def magnitude(high: int, low: int) -> float:
    """Return high 2**62 + low as the nearest float64; the bits that do not fit leave a sticky one behind."""
    if high == 0:
        return float(low)
    bits = 0
    while high >> bits > 0:
        bits += 1
    kept = (high << (62 - bits)) | (low >> bits)
    if low & ((1 << bits) - 1):
        kept |= 1
    return float(kept) * float(1 << bits)
