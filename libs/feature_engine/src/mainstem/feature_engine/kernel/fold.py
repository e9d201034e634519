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
    AT_EVENT,
    AT_INDEX,
    AT_LINE,
    AT_SPINE,
    BY,
    CAPACITY,
    CONSTANTS,
    COUNTS,
    CURSORS,
    DISTINCT,
    FEATURES,
    FROM,
    HEADS,
    INDEX,
    INSTRUCTIONS,
    KEYS,
    KIND,
    LATENESS,
    NULL,
    OWNED,
    PARTS,
    PLACE,
    POOL,
    REGISTERS,
    RESULTS,
    STREAM,
    SUMS,
    TAIL,
    TOLD,
    UPTO,
    WEIGHTS,
    WINDOWS,
    Floats,
    Ints,
    Plan,
    State,
)
from mainstem.feature_engine.kernel.machine import exact, floating
from mainstem.feature_engine.kernel.rings import full, place, slot, widen
from mainstem.feature_engine.kernel.tables import Given, table
from mainstem.feature_engine.kernel.values import answer, nothing
from mainstem.feature_engine.kernel.windows import admit, enter, retire, slide

Order: TypeAlias = tuple[NDArray[np.int8], Ints, Ints]
"""Of each event of a batch: number of its stream, event time, arrival."""

DONE, KEYS_FULL, POOL_FULL, COUNTS_FULL = range(4)
OK, WRONG_STREAM, WRONG_TIME, FALLING = range(4)
NO_STREAM = -1


@entry
def deal(
    order: Order, lateness: int, bounds: tuple[int, int, int], places: Ints, late: NDArray[np.bool_], counts: Ints
) -> int:
    """Write the places of the events, stream after stream, and which are late; tell what is wrong with the order.

    `bounds` are the first and last instant there may be and the arrival reached; `counts`, zeros at first, has a line
    for each stream: events, too late, where its places end.
    """
    (stream, time, arrival), (first, last, reached) = order, bounds
    for i in range(len(stream)):
        if stream[i] < 0 or stream[i] >= len(counts):
            return WRONG_STREAM
        if min(time[i], arrival[i]) < first or max(time[i], arrival[i]) > last:
            return WRONG_TIME
        if arrival[i] < reached:
            return FALLING
        reached = arrival[i]
        late[i] = time[i] < arrival[i] - lateness
        counts[stream[i], 0] += 1
        counts[stream[i], 1] += late[i]
    for number in range(1, len(counts)):
        counts[number, 2] = counts[number - 1, 2] + counts[number - 1, 0]
    for i in range(len(stream)):
        places[counts[stream[i], 2]] = i
        counts[stream[i], 2] += 1
    return OK


@entry
def between(times: Ints, first: int, last: int) -> bool:
    """Return whether no time lies before `first` or after `last`."""
    inside = True
    for i in range(len(times)):
        inside = inside and first <= times[i] <= last
    return inside


@entry
def fold(  # noqa: PLR0913, PLR0917 (as tuples they cost more)
    indices: Given,
    clocks: Ints,
    stream: NDArray[np.int8],
    time: Ints,
    arrival: Ints,
    events: Ints,
    out: Floats,
    progress: Ints,
) -> int:
    """Answer each spine event and apply each event, index by index, in order, a query before the update.

    Events without `stream` are only answered, as if they were the spine's. `events` are the stored values (column,
    event), whatever the stream; the output has a row for each spine event. Starts at `progress`, which is back at 0
    when all is done. Returns DONE, or what has no room any more in the index where it stopped: call again with a larger
    one.
    """
    while progress[AT_INDEX] < len(indices):
        lack = fold_one(table(indices, progress[AT_INDEX]), clocks, (stream, time, arrival), events, out, progress)
        if lack != DONE:
            return lack
        progress[AT_INDEX] += 1
        progress[AT_EVENT] = 0
        progress[AT_LINE] = 0
    progress[AT_INDEX] = 0
    return DONE


@jit
def fold_one(given: Given, clocks: Ints, order: Order, events: Ints, out: Floats, progress: Ints) -> int:
    """Do for one index what `fold` says."""
    plan = (
        table(given, INDEX)[0],
        table(given, WINDOWS),
        table(given, PARTS),
        table(given, SUMS),
        table(given, FEATURES),
        table(given, WEIGHTS)[0],
    )
    program = table(given, INSTRUCTIONS), table(given, RESULTS)[0], table(given, CONSTANTS)[0], clocks
    state = table(given, KEYS), table(given, POOL), table(given, COUNTS), table(given, CURSORS)[0]
    registers, told, owned = table(given, REGISTERS)[0], table(given, TOLD), table(given, OWNED)[0]
    (keys, pool, counts, cursor), (stream, time, arrival) = state, order
    counted, lack = number_of(plan, DISTINCT), DONE
    i, line = progress[AT_EVENT], progress[AT_LINE]
    while i < len(time):
        of = stream[i] if len(stream) > 0 else NO_STREAM
        if of > 0 and of != plan[0][STREAM]:
            i += 1
            continue
        late = time[i] < arrival[i] - plan[0][LATENESS]
        key = NULL
        if of == plan[0][STREAM] and not late:
            key = held(owned, events[plan[0][BY], i])
        if key != NULL:
            lack = room(plan, state, key, arrival[i] - plan[0][LATENESS], counted)
        if of <= 0 and lack == DONE:
            lack = ask(plan, state, held(owned, events[plan[0][AT_SPINE], i]), time[i], counted, late, out, line)
            line += 1 if lack == DONE else 0
        if lack != DONE:
            break
        if key != NULL:
            told[0, 0] = time[i]
            exact(program, events, i, registers)
            for term in range(len(program[1])):
                told[0, 1 + term] = registers[program[1][term]]
            tell(plan, (pool, counts, cursor), keys[key], told)
        i += 1
    progress[AT_EVENT] = i
    progress[AT_LINE] = line
    return lack


@jit
def held(owned: Ints, key: int) -> int:
    """Return a key, or NULL if it is another shard's."""
    return key if key != NULL and (len(owned) == 0 or owned[key] != 0) else NULL


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
    if late or key == NULL or key >= len(keys) or keys[key, CAPACITY] == 0:
        nothing(plan, not late, out, line)
        return DONE
    row = keys[key]
    if counted > 0 and crowded(row, counted, counts, cursor):
        return COUNTS_FULL
    slide(plan, (pool, counts, cursor), row, time)
    answer(plan, pool, row, out, line)
    return DONE


@jit
def room(plan: Plan, state: tuple[Ints, Ints, Ints, Ints], key: int, horizon: int, counted: int) -> int:
    """Make room for one event of a key and return DONE, or what has none."""
    keys, pool, counts, cursor = state
    if key >= len(keys):
        return KEYS_FULL
    row = keys[key]
    if counted > 0 and crowded(row, counted, counts, cursor):
        return COUNTS_FULL
    if full(row):
        retire(plan, (pool, counts, cursor), row, horizon)
    return DONE if not full(row) or widen(plan, (pool, counts, cursor), row) else POOL_FULL


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
def finish(  # noqa: PLR0913, PLR0917 (as tuples they cost more)
    given: Given, clocks: Ints, events: Ints, places: Ints, aggregates: Floats, values: Floats, floats: Floats
) -> None:
    """Write the features of the spine events, at these places, from their columns and their aggregates."""
    program = table(given, INSTRUCTIONS), table(given, RESULTS)[0], table(given, CONSTANTS)[0], clocks
    registers = table(given, REGISTERS)[0]
    for q in range(len(places)):
        exact(program, events, places[q], registers)
        floating(program, registers, aggregates, q, floats)
        for feature in range(len(program[1])):
            values[q, feature] = floats[program[1][feature]]
