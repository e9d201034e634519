"""The fold: exact sliding windows over integers, in applied order.

An index belongs to one (stream, key column). It keeps, for each key, a ring of events sorted by (event time, applied
position) that all its windows share, and for each window the exact integer sums of what is inside. A query slides the
windows of its key to [t - W, t), forwards or backwards, and reads the sums. All that is kept is integers, so adding and
removing leave no trace; one float64 division (and a square root for the deviation) makes the value.

All compiled functions live in this file, and none takes a class of ours: numba's cache does not notice a change in a
callee's file, and breaks if a class is gone. They take arrays, for taking one out of a tuple costs atomic operations:

row       of a key: the fields below, heads of the windows, what the parts keep, floors of the columns
pool      (slot, column): the rings of all keys; column 0 is the event time, the others are values
events    (event, column): the events of a batch, in the form of the pool, and after that the horizon: no query that
          comes later is about an earlier time
windows   length of each window in µs, rising
parts     what is kept of a window: (window, column, place in the row, sign); sign 0: sums, ±1: the largest sign * value
features  what is asked for: the fields below
tables    weights of decays by age in ticks, in units of 2**-24; then, for each category, a place to tick it off
"""

import numpy as np
from numpy.typing import NDArray

from mainstem.feature_engine.jit import jit

Ints = NDArray[np.int64]

NULL = -(2**63)
NEVER = -(2**62)
LIMB = 31
MASK = (1 << LIMB) - 1

BASE, CAPACITY, FIRST, END, TAIL, AT, HEADS = range(7)
"""Where the ring starts in the pool and how many slots it has; sequence numbers of the first event kept, past the last,
and of the first at or after the last query; time of the last query; then, for each window, of its first event."""

N, TOTAL, HIGH, LOW, SUMS = range(5)
"""Sums of a part: n, Σx, and Σx² as two limbs."""

BEST, HOLDER, EXTREME = range(3)
"""Extreme of a part: the value, and the sequence number of the event that has it."""

TIME, VALUE, FLOOR = range(3)
"""Floor of a column: the last event with a value among those dropped. The floors end the row."""

OP, COLUMN, WINDOW, PLACE, PARAM, SCALE, TABLE = range(7)
"""A feature: what it does; the column and window it reads; the place of its part or floor in the row; the ttl, tick or
sign; the scale of the column; where its table starts."""

ROWS, SUM, MEAN, STD, EXTREMUM, LAST, AGE, DECAY, DISTINCT = range(9)

ALL = -1


Plan = tuple[Ints, Ints, Ints]
"""windows, parts, features."""

Work = tuple[Ints, Ints, Ints, Ints, Ints, Ints, Ints]
"""Of a batch as one index sees it: rising positions, keys and times of the queries; rising positions and keys of the
events, and the events; tables."""


@jit
def fold(plan: Plan, keys: Ints, pool: Ints, work: Work, cursor: Ints, out: NDArray[np.float64]) -> bool:
    """Answer queries and apply updates in order of position, a query before the update at the same position.

    Starts at `cursor` (next query, next update, slots of the pool in use) and leaves it where it stopped. Returns False
    if the pool is full: call again with a larger one. Keys must be below len(keys); `out` has a row for each query.
    """
    windows, parts, features = plan
    query_at, query_key, query_time, update_at, update_key, events, tables = work
    q, u = cursor[0], cursor[1]
    while q < len(query_at) or u < len(update_at):
        if u == len(update_at) or (q < len(query_at) and query_at[q] <= update_at[u]):
            row = keys[query_key[q]]
            slide(row, pool, windows, parts, query_time[q])
            answer(row, pool, features, tables, q, out)
            q += 1
        else:
            row = keys[update_key[u]]
            if full(row):
                retire(row, pool, windows, parts, events[u, -1])
            if full(row) and not widen(row, pool, cursor):
                break
            insert(row, pool, windows, parts, events, u)
            u += 1
    cursor[0], cursor[1] = q, u
    return bool(q == len(query_at) and u == len(update_at))


# Queries


@jit
def answer(row: Ints, pool: Ints, features: Ints, tables: Ints, q: int, out: NDArray[np.float64]) -> None:
    """Write the features of a spine event to which the windows have been slid."""
    for f in range(len(features)):
        op = features[f, OP]
        if op == ROWS:
            out[q, f] = row[TAIL] - row[HEADS + features[f, WINDOW]]
        elif op <= STD:
            out[q, f] = summed(row, features, f)
        elif op == EXTREMUM:
            out[q, f] = extremum(row, pool, features, f)
        elif op <= AGE:
            out[q, f] = latest(row, pool, features, f)
        elif op == DECAY:
            out[q, f] = decayed_mean(row, pool, features, f, tables)
        else:
            out[q, f] = distinct(row, pool, features, f, tables, q + 1)


@jit
def summed(row: Ints, features: Ints, f: int) -> float:
    """Σx / scale, Σx / (n scale) or √((n Σx² - (Σx)²) / (n (n - 1) scale²)): exact up to the division."""
    op, place, scale = features[f, OP], features[f, PLACE], features[f, SCALE]
    n, total = row[place + N], row[place + TOTAL]
    if op == SUM:
        return float(total / scale)
    if n < 1 or (n < 2 and op == STD):
        return np.nan
    if op == MEAN:
        return float(total / (n * scale))
    above = spread(n, abs(total), row[place + HIGH], row[place + LOW])
    return float(np.sqrt(above / product(n * (n - 1), scale * scale)))


@jit
def extremum(row: Ints, pool: Ints, features: Ints, f: int) -> float:
    """Return the kept extreme, or look for it again if the event that held it has left the window."""
    place, sign, head = features[f, PLACE], features[f, PARAM], row[HEADS + features[f, WINDOW]]
    if row[place + BEST] != NULL and not head <= row[place + HOLDER] < row[TAIL]:
        row[place + BEST] = NULL
        for sequence in range(head, row[TAIL]):
            contend(row, place, pool[slot(row, sequence), features[f, COLUMN]], sign, sequence)
    return float(row[place + BEST] * sign / features[f, SCALE]) if row[place + BEST] != NULL else np.nan


@jit
def latest(row: Ints, pool: Ints, features: Ints, f: int) -> float:
    """Return the newest non-null value before the query, or its age in seconds, if it is not older than the ttl."""
    column, floor = features[f, COLUMN], features[f, PLACE]
    time, value = row[floor + TIME], row[floor + VALUE]
    for sequence in range(row[TAIL] - 1, row[FIRST] - 1, -1):
        at = slot(row, sequence)
        if pool[at, column] != NULL:
            time, value = pool[at, 0], pool[at, column]
            break
    age = row[AT] - time
    if value == NULL or age > features[f, PARAM]:
        return np.nan
    return float(value / features[f, SCALE]) if features[f, OP] == LAST else float(age / 1_000_000)


@jit
def decayed_mean(row: Ints, pool: Ints, features: Ints, f: int, tables: Ints) -> float:
    """Σ w x / (scale Σ w) over the horizon, w an integer looked up by age in whole ticks."""
    column, tick, table = features[f, COLUMN], features[f, PARAM], features[f, TABLE]
    high, low, total = 0, 0, 0
    for sequence in range(row[HEADS + features[f, WINDOW]], row[TAIL]):
        at = slot(row, sequence)
        value = pool[at, column]
        if value != NULL:
            weight = tables[table + (row[AT] - pool[at, 0]) // tick]
            high += (value * weight) >> LIMB
            low += (value * weight) & MASK
            total += weight
    return nearest(0, high, low) / product(total, features[f, SCALE]) if total > 0 else np.nan


@jit
def distinct(row: Ints, pool: Ints, features: Ints, f: int, tables: Ints, mark: int) -> float:
    """Count the categories in the window by ticking them off; no earlier query of the batch has left this mark."""
    count = 0
    column, table = features[f, COLUMN], features[f, TABLE]
    for sequence in range(row[HEADS + features[f, WINDOW]], row[TAIL]):
        category = pool[slot(row, sequence), column]
        if category != NULL and tables[table + category] != mark:
            tables[table + category] = mark
            count += 1
    return float(count)


# Updates


@jit
def full(row: Ints) -> bool:
    """Return whether the ring of a key has no free slot."""
    return bool(row[END] - row[FIRST] == row[CAPACITY])


@jit
def insert(row: Ints, pool: Ints, windows: Ints, parts: Ints, events: Ints, e: int) -> None:
    """Put an event behind all that are not later; if the windows have slid past it, let it in at once."""
    if events[e, 0] < events[e, -1] - span(windows):
        retire(row, pool, windows, parts, events[e, -1])
        remember(row, events, e, pool.shape[1])
        return
    sequence = row[END]
    while sequence > row[FIRST] and pool[slot(row, sequence - 1), 0] > events[e, 0]:
        copy(pool, slot(row, sequence - 1), pool, slot(row, sequence))
        sequence -= 1
    copy(events, e, pool, slot(row, sequence))
    row[END] += 1
    for p in range(len(parts)):
        if parts[p, 3] != 0 and row[parts[p, 2] + HOLDER] >= sequence:
            row[parts[p, 2] + HOLDER] += 1
    if events[e, 0] < row[AT]:
        admit(row, pool, windows, parts, sequence)


@jit
def admit(row: Ints, pool: Ints, windows: Ints, parts: Ints, sequence: int) -> None:
    """Count an event that lies before the last query into the windows that reach back to it."""
    at = slot(row, sequence)
    row[TAIL] += 1
    for window in range(len(windows)):
        if pool[at, 0] < row[AT] - windows[window]:
            row[HEADS + window] += 1
        else:
            enter(row, pool, at, parts, window, sequence)


@jit
def widen(row: Ints, pool: Ints, cursor: Ints) -> bool:
    """Double the ring of a key; return False, with nothing changed, if the pool has no room."""
    base, capacity = cursor[2], max(8, 2 * row[CAPACITY])
    if base + capacity > len(pool):
        return False
    for sequence in range(row[FIRST], row[END]):
        copy(pool, slot(row, sequence), pool, base + (sequence & (capacity - 1)))
    cursor[2] += capacity
    row[BASE], row[CAPACITY] = base, capacity
    return True


@jit
def retire(row: Ints, pool: Ints, windows: Ints, parts: Ints, horizon: int) -> None:
    """Drop the events that no query can reach any more; the floors keep the last value of each column."""
    if row[AT] < horizon:
        slide(row, pool, windows, parts, horizon)
    while row[FIRST] < row[END] and pool[slot(row, row[FIRST]), 0] < horizon - span(windows):
        remember(row, pool, slot(row, row[FIRST]), pool.shape[1])
        row[FIRST] += 1


@jit
def remember(row: Ints, table: Ints, line: int, columns: int) -> None:
    """Keep the values of an event that are not null and not older than the floor."""
    for column in range(1, columns):
        floor = len(row) - FLOOR * (columns - column)
        if table[line, column] != NULL and table[line, 0] >= row[floor + TIME]:
            row[floor + TIME] = table[line, 0]
            row[floor + VALUE] = table[line, column]


@jit
def span(windows: Ints) -> int:
    """Return the longest window."""
    return int(windows[-1]) if len(windows) > 0 else 0


# Windows


@jit
def slide(row: Ints, pool: Ints, windows: Ints, parts: Ints, time: int) -> None:
    """Make every window of the key [time - W, time); what is in a window stays between its head and the tail."""
    if time >= row[AT]:
        move_tail(row, pool, parts, time)
    for window in range(len(windows)):
        move_head(row, pool, parts, window, time - windows[window])
    if time < row[AT]:
        move_tail(row, pool, parts, time)
    row[AT] = time


@jit
def move_tail(row: Ints, pool: Ints, parts: Ints, time: int) -> None:
    """Let the events before `time` into all windows, or put those at or after it out of all."""
    while row[TAIL] < row[END] and pool[slot(row, row[TAIL]), 0] < time:
        enter(row, pool, slot(row, row[TAIL]), parts, ALL, row[TAIL])
        row[TAIL] += 1
    while row[TAIL] > row[FIRST] and pool[slot(row, row[TAIL] - 1), 0] >= time:
        row[TAIL] -= 1
        leave(row, pool, slot(row, row[TAIL]), parts, ALL)


@jit
def move_head(row: Ints, pool: Ints, parts: Ints, window: int, start: int) -> None:
    """Put the events before `start` out of a window, or let those at or after it in again."""
    head = HEADS + window
    while row[head] < row[TAIL] and pool[slot(row, row[head]), 0] < start:
        leave(row, pool, slot(row, row[head]), parts, window)
        row[head] += 1
    while row[head] > row[FIRST] and pool[slot(row, row[head] - 1), 0] >= start:
        row[head] -= 1
        enter(row, pool, slot(row, row[head]), parts, window, row[head])


@jit
def enter(row: Ints, pool: Ints, at: int, parts: Ints, window: int, sequence: int) -> None:
    """Count an event into a window, or into all."""
    for p in range(len(parts)):
        if window in (ALL, parts[p, 0]):
            value, place, sign = pool[at, parts[p, 1]], parts[p, 2], parts[p, 3]
            if sign == 0:
                tally(row, place, value, 1)
            else:
                contend(row, place, value, sign, sequence)


@jit
def leave(row: Ints, pool: Ints, at: int, parts: Ints, window: int) -> None:
    """Count an event out of a window, or out of all; an extreme that it held is looked for when it is asked for."""
    for p in range(len(parts)):
        if window in (ALL, parts[p, 0]) and parts[p, 3] == 0:
            tally(row, parts[p, 2], pool[at, parts[p, 1]], -1)


@jit
def tally(row: Ints, place: int, value: int, sign: int) -> None:
    """Add (sign 1) or take away (sign -1) a value; |value| <= 2**31, so nothing overflows below 2**31 events."""
    if value != NULL:
        square = value * value
        row[place + N] += sign
        row[place + TOTAL] += sign * value
        row[place + HIGH] += sign * (square >> LIMB)
        row[place + LOW] += sign * (square & MASK)


@jit
def contend(row: Ints, place: int, value: int, sign: int, sequence: int) -> None:
    """Keep the value if it is at least as extreme as the one kept, which is never less than any in the window."""
    if value != NULL and (row[place + BEST] == NULL or sign * value >= row[place + BEST]):
        row[place + BEST] = sign * value
        row[place + HOLDER] = sequence


@jit
def slot(row: Ints, sequence: int) -> int:
    """Return where in the pool an event of the key lies."""
    return int(row[BASE] + (sequence & (row[CAPACITY] - 1)))


@jit
def copy(source: Ints, line: int, target: Ints, to: int) -> None:
    """Copy an event into the pool."""
    for column in range(target.shape[1]):
        target[to, column] = source[line, column]


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
