"""Sliding: every window of a key covers [t - span, t), forwards or backwards; what enters and leaves is exact."""

from mainstem.feature_engine.jit import jit
from mainstem.feature_engine.kernel.counts import bump, pack
from mainstem.feature_engine.kernel.exact import LIMB, MASK
from mainstem.feature_engine.kernel.fields import (
    AT,
    COLUMN,
    COUNTED,
    DISTINCT,
    END,
    FIRST,
    FLOOR,
    FLOORS,
    FROM,
    HEADS,
    HIGH,
    HOP,
    KEY,
    KIND,
    LOW,
    NULL,
    PLACE,
    REACH,
    SPAN,
    SQUARED,
    TAIL,
    TERMS,
    TIME,
    TOTAL,
    UPTO,
    VALUE,
    Ints,
    N,
    Plan,
    State,
)
from mainstem.feature_engine.kernel.rings import slot


@jit
def slide(plan: Plan, state: State, row: Ints, time: int) -> None:
    """Make every window of the key end before `time`; what is in a window stays between its head and the tail."""
    if time >= row[AT]:
        move_tail(plan, state, row, time)
    for window in range(len(plan[1])):
        move_head(plan, state, row, window, start_of(plan, window, time))
    if time < row[AT]:
        move_tail(plan, state, row, time)
    row[AT] = time


@jit
def start_of(plan: Plan, window: int, time: int) -> int:
    """Return the first instant of a window that ends at `time`."""
    windows = plan[1]
    start, hop = time - windows[window, SPAN], windows[window, HOP]
    return int(start // hop * hop if hop > 0 else start)


@jit
def move_tail(plan: Plan, state: State, row: Ints, time: int) -> None:
    """Let the events before `time` into all windows, or put those at or after it out of all."""
    pool, parts = state[0], len(plan[2])
    while row[TAIL] < row[END] and pool[slot(row, row[TAIL]), 0] < time:
        enter(plan, state, row, slot(row, row[TAIL]), 0, parts)
        row[TAIL] += 1
    while row[TAIL] > row[FIRST] and pool[slot(row, row[TAIL] - 1), 0] >= time:
        row[TAIL] -= 1
        leave(plan, state, row, slot(row, row[TAIL]), 0, parts)


@jit
def move_head(plan: Plan, state: State, row: Ints, window: int, start: int) -> None:
    """Put the events before `start` out of a window, or let those at or after it in again."""
    pool, head, low, high = state[0], HEADS + window, plan[1][window, FROM], plan[1][window, UPTO]
    while row[head] < row[TAIL] and pool[slot(row, row[head]), 0] < start:
        leave(plan, state, row, slot(row, row[head]), low, high)
        row[head] += 1
    while row[head] > row[FIRST] and pool[slot(row, row[head] - 1), 0] >= start:
        row[head] -= 1
        enter(plan, state, row, slot(row, row[head]), low, high)


@jit
def admit(plan: Plan, state: State, row: Ints, sequence: int) -> None:
    """Count an event that lies before the last query into the windows that reach back to it."""
    at = slot(row, sequence)
    row[TAIL] += 1
    for window in range(len(plan[1])):
        if state[0][at, 0] < start_of(plan, window, row[AT]):
            row[HEADS + window] += 1
        else:
            enter(plan, state, row, at, plan[1][window, FROM], plan[1][window, UPTO])


@jit
def retire(plan: Plan, state: State, row: Ints, horizon: int) -> None:
    """Drop the events that no query can reach any more; the floors keep the last value of each term."""
    pool = state[0]
    if row[AT] < horizon:
        slide(plan, state, row, horizon)
    while row[FIRST] < row[END] and pool[slot(row, row[FIRST]), 0] < horizon - plan[0][REACH]:
        remember(plan, row, pool, slot(row, row[FIRST]))
        row[FIRST] += 1


@jit
def remember(plan: Plan, row: Ints, pool: Ints, at: int) -> None:
    """Keep the values of an event that are not null; it is the newest of those dropped."""
    for column in range(1, plan[0][TERMS]):
        floor = plan[0][FLOORS] + FLOOR * (column - 1)
        if pool[at, column] != NULL:
            row[floor + TIME] = pool[at, 0]
            row[floor + VALUE] = pool[at, column]


@jit
def enter(plan: Plan, state: State, row: Ints, at: int, low: int, high: int) -> None:
    """Count an event into the windows of some parts."""
    (pool, counts, cursor), parts = state, plan[2]
    for part in range(low, high):
        value, place, kind = pool[at, parts[part, COLUMN]], parts[part, PLACE], parts[part, KIND]
        if value == NULL:
            continue
        if kind != DISTINCT:
            tally(row, place, kind, value, 1)
        elif bump(counts, cursor, pack(row[KEY], part, len(parts), value), 1) == 1:
            row[place] += 1


@jit
def leave(plan: Plan, state: State, row: Ints, at: int, low: int, high: int) -> None:
    """Count an event out of the windows of some parts."""
    (pool, counts, cursor), parts = state, plan[2]
    for part in range(low, high):
        value, place, kind = pool[at, parts[part, COLUMN]], parts[part, PLACE], parts[part, KIND]
        if value == NULL:
            continue
        if kind != DISTINCT:
            tally(row, place, kind, value, -1)
        elif bump(counts, cursor, pack(row[KEY], part, len(parts), value), -1) == 0:
            row[place] -= 1


@jit
def tally(row: Ints, place: int, kind: int, value: int, sign: int) -> None:
    """Add (sign 1) or take away (sign -1) a value; |value| <= 2**31, or 2**53 if wide: no limb overflows."""
    row[place + N] += sign
    if kind == COUNTED:
        row[place + TOTAL] += sign * value
    elif kind == SQUARED:
        square = value * value
        row[place + TOTAL] += sign * value
        row[place + HIGH] += sign * (square >> LIMB)
        row[place + LOW] += sign * (square & MASK)
    else:
        row[place + TOTAL] += sign * (value >> LIMB)
        row[place + HIGH] += sign * (value & MASK)
