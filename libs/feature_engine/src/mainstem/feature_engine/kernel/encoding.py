"""Numbers as they come, into the table of a stream: one int64 each, NULL for what is missing or out of range."""

import numpy as np

from mainstem.feature_engine.jit import entry
from mainstem.feature_engine.kernel.fields import NULL, Floats, Ints

EXACT = 2.0**53
MEAN_YEAR = 31_556_952_000_000


@entry
def write_fixed(values: Floats, scale: int, lo: int, hi: int, table: Ints, column: int) -> int:
    """Write round(value * scale), ties to even, and return how many values were outside [lo, hi]; NaN is null."""
    outside = 0
    for line in range(len(values)):
        table[line, column] = NULL
        if np.isnan(values[line]):
            continue
        scaled = np.rint(values[line] * scale) if abs(values[line]) <= EXACT else np.inf
        if lo <= scaled <= hi:
            table[line, column] = np.int64(scaled)
        else:
            outside += 1
    return outside


@entry
def write_whole(values: Ints, null: int, lo: int, hi: int, table: Ints, column: int) -> int:
    """Write whole numbers and return how many were outside [lo, hi]."""
    outside = 0
    for line in range(len(values)):
        value = values[line]
        inside = lo <= value <= hi
        table[line, column] = value if inside and value != null else NULL
        outside += not inside and value != null
    return outside


@entry
def mark_years(table: Ints, column: int, seen: Ints) -> None:
    """Mark about which years the instants of a column lie in: one off at most; seen[0] counts the new marks."""
    for line in range(len(table)):
        if table[line, column] != NULL:
            year = min(max(1970 + table[line, column] // MEAN_YEAR, 1), len(seen) - 1)
            seen[0] += 1 - seen[year]
            seen[year] = 1
