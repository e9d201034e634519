"""How plan and state lie in memory: arrays of int64, kept as the tables of an index and handed on as tuples.

Plan: index, windows, parts, sums, features and weights, the constant side of an index
    index     the fields STREAM to NEGATIVE
    windows   of each window: SPAN, HOP, FROM, UPTO
    parts     what is kept of a window: KIND, COLUMN, PLACE
    sums      of a decayed term: its column in the pool, that of the running count and that of the running sum
    features  what is asked for: OP to OUT
    weights   those of decays by age in ticks, in units of 2**-24
State: pool, counts and cursor
    pool      (slot, column): the rings of all keys and, behind each ring, the summaries of its blocks;
              column 0 is the event time, then come the terms, then the running sums of the decayed terms
    counts    (place, 2): an open-addressed table of (key, part, category) -> how often it is in the window
    cursor    USED, COUNT, FREE
A row belongs to a key: KEY to AT, the heads of its windows, what its parts keep, and the floors of its terms.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Plan: TypeAlias = tuple[Ints, Ints, Ints, Ints, Ints, Ints]
State: TypeAlias = tuple[Ints, Ints, Ints]

INSTRUCTIONS, RESULTS, CONSTANTS, REGISTERS, CODE = range(5)
"""Numbers of the tables of a program."""

INDEX, WINDOWS, PARTS, SUMS, FEATURES, WEIGHTS = range(CODE, CODE + 6)
KEYS, POOL, COUNTS, CURSORS, TOLD, OWNED, TABLES = range(WEIGHTS + 1, WEIGHTS + 8)
"""Numbers of the tables of an index, behind those of its program: its plan; keys and state; the event that is told; for
each key of a shard whether it is its own."""

AT_INDEX, AT_EVENT, AT_LINE, PROGRESS = range(4)
"""How far a fold is: the index, the event, and the line of the output."""

NULL = -(2**63)
NEVER = -(2**62)

KEY, BASE, CAPACITY, FIRST, END, TAIL, AT, HEADS = range(8)
"""Of a row: number of the key; where its ring starts in the pool and how many slots it has; sequence numbers of the
first event kept, past the last, and of the first at or after the last query; time of the last query; then the first
events of the windows."""

SPAN, HOP, FROM, UPTO = range(4)
"""Of a window: its length and hop in µs, and its range of parts."""

KIND, COLUMN, PLACE = range(3)
"""Of a part: what it keeps, of which column of the pool, and where in the row of the key."""

COUNTED, SQUARED, WIDE, DISTINCT = range(4)
"""Kinds of parts: n, Σx; the same and Σx² in two limbs; n and Σx in two limbs; the number of different categories."""

N, TOTAL, HIGH, LOW = range(4)
"""Places within a part; a wide part has its limbs at TOTAL (high) and HIGH (low)."""

SIZES = (2, 4, 3, 1)
"""How many places a part of each kind takes."""

TIME, VALUE, FLOOR = range(3)
"""Floor of a term: the last event with a value among those dropped."""

OP, TERM, WINDOW, WHERE, PARAM, SCALE, TABLE, OUT = range(8)
"""Of a feature: what it does; the column of the pool and the window it reads; the place of its part or floor in the
row, or its line in `sums`; the ttl, tick or sign; the scale of the term; where its table starts; its column in the
output."""

ROWS, SUM, MEAN, STD, WIDE_SUM, WIDE_MEAN, EXTREMUM, LAST, AGE, DECAY, DIFFERENT = range(11)

STREAM, BY, AT_SPINE, LATENESS, REACH, FLOORS, TERMS, POSITIVE, NEGATIVE = range(9)
"""Of an index: number of its stream; key column in it and in the spine; lateness and longest reach of a window in µs;
place of the floors; number of columns of the pool up to the last term; whether blocks are summed up by their largest
and by their largest negated values."""

USED, COUNT, FREE = range(3)
"""What is in use: slots of the pool, entries of `counts`; then, by the binary logarithm of their capacity, one more
than the first ring that is free again, 0 for none. Each begins with the next."""

CURSOR = FREE + 64
