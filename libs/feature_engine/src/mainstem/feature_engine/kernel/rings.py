"""The ring of a key: its events by (event time, applied position), and summaries of its blocks of 32, 1,024, … slots.

A summary holds, for each column, the largest value (or, in a second set, the largest negated value) of the slots
written since its block began. A block that lies wholly in a window is read from its summary, so a window costs its
logarithm.
"""

from mainstem.feature_engine.jit import jit
from mainstem.feature_engine.kernel.fields import (
    BASE,
    CAPACITY,
    END,
    FIRST,
    FREE,
    NEGATIVE,
    NULL,
    POSITIVE,
    TAIL,
    TERMS,
    USED,
    Ints,
    Plan,
    State,
)

BLOCK = 5
"""Bits of a block: 32 slots, then 32 blocks."""

SMALLEST = 8
"""Slots of a new ring."""


@jit
def slot(row: Ints, sequence: int) -> int:
    """Return where in the pool an event of a key lies."""
    return int(row[BASE] + (sequence & (row[CAPACITY] - 1)))


@jit
def full(row: Ints) -> bool:
    """Return whether the ring of a key has no free slot."""
    return bool(row[END] - row[FIRST] == row[CAPACITY])


@jit
def summaries(capacity: int) -> int:
    """Return how many summaries one set of a ring has."""
    total, blocks = 0, capacity >> BLOCK
    while blocks > 0:
        total += blocks
        blocks >>= BLOCK
    return total


@jit
def widen(plan: Plan, state: State, row: Ints) -> bool:
    """Double the ring of a key; return False, with nothing changed, if the pool has no room."""
    index, (pool, _, cursor) = plan[0], state
    signs = index[POSITIVE] + index[NEGATIVE]
    old, capacity = row[CAPACITY], max(SMALLEST, 2 * row[CAPACITY])
    if old > 0 and row[BASE] + old + summaries(old) * signs == cursor[USED]:
        grown = grow_in_place(state, row, capacity + summaries(capacity) * signs)
    else:
        grown = move(state, row, capacity, capacity + summaries(capacity) * signs)
    if grown:
        row[CAPACITY] = capacity
        pool[row[BASE] + capacity : row[BASE] + capacity + summaries(capacity) * signs, 1 : index[TERMS]] = NULL
        for sequence in range(row[FIRST], row[END]):
            sum_up(plan, pool, row, sequence)
    return grown


@jit
def grow_in_place(state: State, row: Ints, size: int) -> bool:
    """Let the last ring of the pool grow where it is: every other of its stretches moves up by its old capacity."""
    pool, _, cursor = state
    base, old = row[BASE], row[CAPACITY]
    if base + size > len(pool):
        return False
    for sequence in range(row[FIRST], row[END]):
        if sequence & old:
            for column in range(pool.shape[1]):
                pool[base + (sequence & (2 * old - 1)), column] = pool[base + (sequence & (old - 1)), column]
    cursor[USED] = base + size
    return True


@jit
def move(state: State, row: Ints, capacity: int, size: int) -> bool:
    """Move the ring to a larger place, a free one or the end of the pool; where it was is free from then on."""
    pool, _, cursor = state
    base = take_free(pool, cursor, capacity)
    if base < 0:
        base = cursor[USED]
        if base + size > len(pool):
            return False
        cursor[USED] += size
    before, old = row[BASE], row[CAPACITY]
    for sequence in range(row[FIRST], row[END]):
        for column in range(pool.shape[1]):
            pool[base + (sequence & (capacity - 1)), column] = pool[before + (sequence & (old - 1)), column]
    if old > 0:
        free = FREE + logarithm(old)
        pool[before, 0], cursor[free] = cursor[free], before + 1
    row[BASE] = base
    return True


@jit
def take_free(pool: Ints, cursor: Ints, capacity: int) -> int:
    """Return where a ring of that capacity that is free again begins, -1 if there is none."""
    free = FREE + logarithm(capacity)
    base = cursor[free] - 1
    if base >= 0:
        cursor[free] = pool[base, 0]
    return int(base)


@jit
def logarithm(capacity: int) -> int:
    """Return the binary logarithm of a power of two."""
    bits = 0
    while capacity >> bits > 1:
        bits += 1
    return bits


@jit
def place(plan: Plan, pool: Ints, row: Ints, told: Ints) -> int:
    """Put an event behind all that are not later and return its sequence number; there must be a free slot."""
    sequence = row[END]
    while sequence > row[FIRST] and pool[slot(row, sequence - 1), 0] > told[0, 0]:
        source, target = slot(row, sequence - 1), slot(row, sequence)
        for column in range(pool.shape[1]):
            pool[target, column] = pool[source, column]
        sequence -= 1
    target = slot(row, sequence)
    for column in range(told.shape[1]):
        pool[target, column] = told[0, column]
    row[END] += 1
    for later in range(sequence, row[END]):
        run_on(plan, pool, row, later)
    if sequence == row[END] - 1:
        sum_up(plan, pool, row, sequence)
    else:
        sum_up_again(plan, pool, row, sequence)
    return int(sequence)


@jit
def run_on(plan: Plan, pool: Ints, row: Ints, sequence: int) -> None:
    """Continue the running sums of decayed terms from the event before."""
    sums = plan[3]
    at, before = slot(row, sequence), slot(row, sequence - 1)
    for line in range(len(sums)):
        column, count, total = sums[line, 0], sums[line, 1], sums[line, 2]
        known = pool[at, column] != NULL
        start = sequence > row[FIRST]
        pool[at, count] = (pool[before, count] if start else 0) + (1 if known else 0)
        pool[at, total] = (pool[before, total] if start else 0) + (pool[at, column] if known else 0)


@jit
def sum_up(plan: Plan, pool: Ints, row: Ints, sequence: int) -> None:
    """Take the last event of a ring into the summaries of its blocks; the first of a block begins them anew."""
    index, capacity = plan[0], row[CAPACITY]
    at, start = slot(row, sequence), row[BASE] + capacity
    for sign in (1, -1):
        if index[POSITIVE if sign == 1 else NEGATIVE] == 0:
            continue
        blocks, bits = capacity >> BLOCK, BLOCK
        while blocks > 0:
            node = start + ((sequence & (capacity - 1)) >> bits)
            fresh = sequence & ((1 << bits) - 1) == 0
            if fresh:
                pool[node, 1 : index[TERMS]] = NULL
            take(pool, node, at, index[TERMS], sign)
            start += blocks
            blocks >>= BLOCK
            bits += BLOCK


@jit
def sum_up_again(plan: Plan, pool: Ints, row: Ints, sequence: int) -> None:
    """Sum up anew every block from that of an event on: the event was put before others, which moved."""
    index, capacity, end = plan[0], row[CAPACITY], row[END]
    start = row[BASE] + capacity
    for sign in (1, -1):
        if index[POSITIVE if sign == 1 else NEGATIVE] == 0:
            continue
        below, blocks, bits = row[BASE], capacity >> BLOCK, BLOCK
        while blocks > 0:
            for block in range(sequence >> bits, ((end - 1) >> bits) + 1):
                node = start + (block & (blocks - 1))
                pool[node, 1 : index[TERMS]] = NULL
                first = max(block << BLOCK, row[FIRST] >> (bits - BLOCK))
                last = min(((block + 1) << BLOCK) - 1, (end - 1) >> (bits - BLOCK))
                for child in range(first, last + 1):
                    take(
                        pool,
                        node,
                        below + (child & ((blocks << BLOCK) - 1)),
                        index[TERMS],
                        sign if bits == BLOCK else 1,
                    )
            below = start
            start += blocks
            blocks >>= BLOCK
            bits += BLOCK


@jit
def take(pool: Ints, node: int, line: int, terms: int, sign: int) -> None:
    """Take the values of a line of the pool into a summary."""
    for column in range(1, terms):
        value = pool[line, column]
        if value != NULL:
            pool[node, column] = max(pool[node, column], sign * value)


@jit
def largest(plan: Plan, pool: Ints, row: Ints, column: int, sign: int, start: int) -> int:
    """Return the largest sign * value of a column from an event up to the tail, NULL if there is none."""
    capacity, end, best, sequence = row[CAPACITY], row[TAIL], NULL, start
    skip = summaries(capacity) if sign < 0 and plan[0][POSITIVE] == 1 else 0
    while sequence < end:
        bits, blocks, step = 0, capacity, 1
        node = row[BASE] + (sequence & (capacity - 1))
        after = row[BASE] + capacity + skip
        while blocks >> BLOCK > 0 and sequence & ((step << BLOCK) - 1) == 0 and sequence + (step << BLOCK) <= end:
            bits += BLOCK
            blocks >>= BLOCK
            step <<= BLOCK
            node = after + ((sequence & (capacity - 1)) >> bits)
            after += blocks
        value = pool[node, column]
        if value != NULL:
            best = max(best, value if bits > 0 else sign * value)
        sequence += step
    return int(best)


@jit
def last_known(pool: Ints, row: Ints, column: int) -> int:
    """Return the sequence number of the last event before the tail with a value of the column, -1 for none."""
    capacity, first, sequence = row[CAPACITY], row[FIRST], row[TAIL]
    while sequence > first:
        bits, blocks, step = 0, capacity, 1
        after = row[BASE] + capacity
        while blocks >> BLOCK > 0 and sequence & ((step << BLOCK) - 1) == 0 and sequence - (step << BLOCK) >= first:
            bits += BLOCK
            blocks >>= BLOCK
            if pool[after + (((sequence - 1) & (capacity - 1)) >> bits), column] != NULL:
                break
            after += blocks
            step <<= BLOCK
        if step == 1 and pool[slot(row, sequence - 1), column] != NULL:
            return int(sequence - 1)
        sequence -= step
    return -1
