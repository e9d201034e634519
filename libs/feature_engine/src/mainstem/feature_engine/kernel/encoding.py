"""Numbers as they come, into the events (column, place): one int64 each, NULL for what is missing or out of range."""

import numpy as np

from mainstem.feature_engine.jit import entry
from mainstem.feature_engine.kernel.fields import NULL, Floats, Ints

EXACT = 2.0**53
MEAN_YEAR = 31_556_952_000_000


@entry
def write_fixed(values: Floats, events: Ints, places: Ints, rule: Ints) -> int:
    """Write round(value * scale), ties to even, and return how many values were outside [lo, hi]; NaN is null.

    A rule is (column, scale, lo, hi).
    """
    column, scale, lo, hi = rule[0], rule[1], rule[2], rule[3]
    outside = 0
    for i in range(len(values)):
        events[column, places[i]] = NULL
        if np.isnan(values[i]):
            continue
        scaled = np.rint(values[i] * scale) if abs(values[i]) <= EXACT else np.inf
        if lo <= scaled <= hi:
            events[column, places[i]] = np.int64(scaled)
        else:
            outside += 1
    return outside


@entry
def write_truths(values: Ints, events: Ints, places: Ints, rule: Ints) -> int:
    """Write 1, 0 and -1 for null, and return how many were none of these; a rule is (column,)."""
    outside = 0
    for i in range(len(values)):
        value = values[i]
        events[rule[0], places[i]] = value if 0 <= value <= 1 else NULL
        outside += value < -1 or value > 1
    return outside


@entry
def write_times(values: Ints, events: Ints, places: Ints, rule: Ints, years: Ints) -> int:
    """Write instants and return how many were outside [lo, hi]; a rule is (column, lo, hi).

    About which years they lie in, one off at most, is marked; years[0] counts the new marks.
    """
    column, lo, hi = rule[0], rule[1], rule[2]
    outside = 0
    for i in range(len(values)):
        value = values[i]
        if lo <= value <= hi:
            year = min(max(1970 + value // MEAN_YEAR, 1), len(years) - 1)
            years[0] += 1 - years[year]
            years[year] = 1
            events[column, places[i]] = value
        else:
            outside += value != NULL
            events[column, places[i]] = NULL
    return outside


@entry
def write_texts(numbers: Ints, events: Ints, places: Ints, columns: Ints) -> None:
    """Write the numbers of texts, column after column."""
    for column in range(len(columns)):
        for i in range(len(places)):
            events[columns[column], places[i]] = numbers[column * len(places) + i]
