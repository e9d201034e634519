"""How often a category is in a window of a key: an open-addressed table, emptied as windows slide."""

from mainstem.feature_engine.jit import jit
from mainstem.feature_engine.kernel.exact import LIMB, MASK
from mainstem.feature_engine.kernel.fields import COUNT, END, FIRST, Ints

EMPTY = -1
_SPREAD = 2_654_435_769
#: Keys and categories are numbered as they come, often in step: each has a factor of its own, below 2**31.
_KEYS, _CATEGORIES = 1_640_531_527, 2_246_822_519 >> 1 | 1
_LOW = 2**32 - 1


@jit
def pack(key: int, part: int, parts: int, category: int) -> int:
    """Return one number for a category in a part of a key."""
    return int(((key * parts + part) << 32) | category)


@jit
def home(counts: Ints, packed: int) -> int:
    """Return where in the table a number belongs."""
    mixed = (packed >> 32) * _KEYS + (packed & _LOW) * _CATEGORIES
    folded = (mixed ^ (mixed >> LIMB)) & MASK
    return int(((folded * _SPREAD) >> 12) & (len(counts) - 1))


@jit
def bump(counts: Ints, cursor: Ints, packed: int, step: int) -> int:
    """Change how often a number is there and return it; at 0 it is removed. There must be a free place."""
    place = home(counts, packed)
    while counts[place, 0] not in (packed, EMPTY):
        place = (place + 1) & (len(counts) - 1)
    if counts[place, 0] == EMPTY:
        counts[place, 0] = packed
        counts[place, 1] = 0
        cursor[COUNT] += 1
    counts[place, 1] += step
    left = int(counts[place, 1])
    if left == 0:
        cursor[COUNT] -= 1
        close(counts, place)
    return left


@jit
def close(counts: Ints, hole: int) -> None:
    """Empty a place, moving up those behind it that were driven away from it."""
    mask = len(counts) - 1
    place = (hole + 1) & mask
    while counts[place, 0] != EMPTY:
        if (place - home(counts, counts[place, 0])) & mask >= (place - hole) & mask:
            counts[hole, 0], counts[hole, 1] = counts[place, 0], counts[place, 1]
            hole = place
        place = (place + 1) & mask
    counts[hole, 0] = EMPTY
    counts[hole, 1] = 0


@jit
def crowded(row: Ints, parts: int, counts: Ints, cursor: Ints) -> bool:
    """Return whether sliding the windows of a key, or one event more, might fill the table by more than half."""
    return bool(2 * (cursor[COUNT] + (row[END] - row[FIRST] + 1) * parts) > len(counts))
