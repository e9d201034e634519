"""The fold: exact sliding windows over integers, in applied order. What Python calls; the other files are compiled in.

An index belongs to one (stream, key column). It keeps, for each key, a ring of events sorted by (event time, applied
position) that all its windows share, and for each window the exact integer sums of what is inside. A query slides the
windows of its key, forwards or backwards, and reads them. All that is kept is integers, so adding and removing leave no
trace; one float64 division (and a square root for the deviation) makes the value.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mainstem.feature_engine.jit import entry, jit
from mainstem.feature_engine.kernel.counts import crowded
from mainstem.feature_engine.kernel.fields import (
    AT,
    AT_SPINE,
    BY,
    CAPACITY,
    DISTINCT,
    EVENT,
    FROM,
    HEADS,
    KIND,
    LATENESS,
    NULL,
    PLACE,
    STREAM,
    TAIL,
    UPTO,
    Floats,
    Ints,
    Plan,
    State,
)
from mainstem.feature_engine.kernel.machine import Program, exact, floating
from mainstem.feature_engine.kernel.rings import full, place, slot, widen
from mainstem.feature_engine.kernel.values import answer, nothing
from mainstem.feature_engine.kernel.windows import admit, enter, retire, slide

Order: TypeAlias = tuple[NDArray[np.int8], Ints, Ints, Ints, NDArray[np.bool_]]
"""Of each event of a batch: number of its stream, event time, arrival, its line in the stream's table, too late."""

DONE, POOL_FULL, COUNTS_FULL = range(3)
OK, NO_STREAM, NO_TIME, FALLING = range(4)


@entry
def deal(order: Order, lateness: int, bounds: Ints, counts: Ints) -> int:
    """Write the line of each event and whether it is too late; count both by stream; tell what is wrong with the order.

    `bounds` are the first and last instant there may be and the arrival reached; `counts` has a line (events, too late)
    for each stream.
    """
    stream, time, arrival, line, late = order
    reached = bounds[2]
    for i in range(len(stream)):
        if stream[i] < 0 or stream[i] >= len(counts):
            return NO_STREAM
        if min(time[i], arrival[i]) < bounds[0] or max(time[i], arrival[i]) > bounds[1]:
            return NO_TIME
        if arrival[i] < reached:
            return FALLING
        reached = arrival[i]
        late[i] = time[i] < arrival[i] - lateness
        line[i] = counts[stream[i], 0]
        counts[stream[i], 0] += 1
        counts[stream[i], 1] += late[i]
    return OK


@entry
def between(times: Ints, first: int, last: int) -> bool:
    """Return whether no time lies before `first` or after `last`."""
    inside = True
    for i in range(len(times)):
        inside = inside and first <= times[i] <= last
    return inside


@entry
def fold(
    plan: Plan,
    program: Program,
    state: tuple[Ints, Ints, Ints, Ints],
    work: tuple[Order, Ints, Ints, Floats],
    scratch: tuple[Ints, Ints],
) -> int:
    """Answer each spine event and apply each event of the index's stream, in order, a query before the update.

    `state` is keys, pool, counts, cursor; keys have a row for each number that occurs. `work` is the order, the tables
    of the spine and of the stream, and the output with a row for each spine event.
    Starts at the event in the cursor and leaves it where it stopped. Returns DONE, or what has no room any more: call
    again with a larger one.
    """
    keys, pool, counts, cursor = state
    (stream, time, arrival, line, late), spine, events, out = work
    counted, lack = number_of(plan, DISTINCT), DONE
    i = cursor[EVENT]
    while i < len(stream):
        told = stream[i] == plan[0][STREAM] and not late[i]
        key = events[line[i], plan[0][BY]] if told else NULL
        if key != NULL:
            lack = room(plan, (pool, counts, cursor), keys[key], arrival[i] - plan[0][LATENESS], counted)
        if stream[i] == 0 and lack == DONE:
            lack = ask(plan, state, spine[line[i], plan[0][AT_SPINE]], time[i], counted, late[i], out, line[i])
        if lack != DONE:
            break
        if key != NULL:
            scratch[0][0, 0] = time[i]
            exact(program, events, line[i], scratch[1])
            for term in range(len(program[1])):
                scratch[0][0, 1 + term] = scratch[1][program[1][term]]
            tell(plan, (pool, counts, cursor), keys[key], scratch[0])
        i += 1
    cursor[EVENT] = i
    return lack


@jit
def ask(  # noqa: PLR0913, PLR0917 (compiled in: what it is given costs nothing)
    plan: Plan,
    state: tuple[Ints, Ints, Ints, Ints],
    key: int,
    time: int,
    counted: int,
    late: bool,
    out: Floats,
    line: int,
) -> int:
    """Answer a spine event and return DONE, or what has no room."""
    keys, pool, counts, cursor = state
    if late or key == NULL or keys[key, CAPACITY] == 0:
        nothing(plan, not late, out, line)
        return DONE
    row = keys[key]
    if counted > 0 and crowded(row, counted, counts, cursor):
        return COUNTS_FULL
    slide(plan, (pool, counts, cursor), row, time)
    answer(plan, pool, row, out, line)
    return DONE


@jit
def room(plan: Plan, state: State, row: Ints, horizon: int, counted: int) -> int:
    """Make room for one event of a key and return DONE, or what has none."""
    if counted > 0 and crowded(row, counted, state[1], state[2]):
        return COUNTS_FULL
    if full(row):
        retire(plan, state, row, horizon)
    return DONE if not full(row) or widen(plan, state, row) else POOL_FULL


@jit
def tell(plan: Plan, state: State, row: Ints, told: Ints) -> None:
    """Apply an event; if the windows have slid past it, it goes in at once."""
    sequence = place(plan, state[0], row, told)
    if told[0, 0] < row[AT]:
        admit(plan, state, row, sequence)


@jit
def number_of(plan: Plan, kind: int) -> int:
    """Return how many parts are of a kind."""
    found = 0
    for part in range(len(plan[2])):
        if plan[2][part, KIND] == kind:
            found += 1
    return found


@entry
def recount(plan: Plan, state: tuple[Ints, Ints, Ints, Ints]) -> None:
    """Fill an empty table of counts from the rings, as far as the windows have slid; it must be large enough."""
    (keys, pool, counts, cursor), windows, parts = state, plan[1], plan[2]
    for key in range(len(keys)):
        row = keys[key]
        for window in range(len(windows)):
            for part in range(windows[window, FROM], windows[window, UPTO]):
                if parts[part, KIND] == DISTINCT:
                    row[parts[part, PLACE]] = 0
                    for sequence in range(row[HEADS + window], row[TAIL]):
                        enter(plan, (pool, counts, cursor), row, slot(row, sequence), part, part + 1)


@entry
def finish(
    program: Program,
    literals: Floats,
    spine: Ints,
    aggregates: Floats,
    values: Floats,
    scratch: tuple[Ints, Floats],
) -> None:
    """Write the features of each spine event from its columns and its aggregates."""
    registers, floats = scratch
    for q in range(len(spine)):
        exact(program, spine, q, registers)
        floating(program, literals, registers, aggregates, q, floats)
        for feature in range(len(program[1])):
            values[q, feature] = floats[program[1][feature]]
