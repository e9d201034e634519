"""Which keys of an index are kept, and where their rings lie once those of the others are gone. Pure.

Rows and pool are laid out as `kernel.fields` says.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from mainstem.feature_engine.kernel.fields import (
    BASE,
    CAPACITY,
    END,
    FIRST,
    FLOOR,
    NEVER,
    NULL,
    TIME,
    VALUE,
    Ints,
)
from mainstem.feature_engine.kernel.rings import BLOCK


def living(keys: Ints, pool: Ints, floors: int, horizon: int) -> NDArray[np.bool_]:
    """Tell of each key whether it has an event, kept or dropped, that is not before `horizon`."""
    newest = np.full(len(keys), NEVER)
    some = keys[:, END] > keys[:, FIRST]
    last = keys[some, BASE] + ((keys[some, END] - 1) & (keys[some, CAPACITY] - 1))
    newest[some] = pool[last, 0]
    dropped = keys[:, floors + TIME :: FLOOR].max(axis=1, initial=NEVER)
    return np.asarray((keys[:, CAPACITY] > 0) & (np.maximum(newest, dropped) >= horizon))


def together(keys: Ints, pool: Ints, sets: int) -> Ints:
    """Return a pool with the rings of these keys alone, one after another, and tell the keys where theirs begins.

    Each ring has `sets` sets of summaries. Slots that hold no event are empty.
    """
    size = keys[:, CAPACITY] + sets * _summaries(keys[:, CAPACITY])
    base = np.cumsum(size) - size
    moved = np.full((int(size.sum()), pool.shape[1]), NULL)
    for lines, rows in (_events(keys), _nodes(keys, sets)):
        moved[base[rows] + lines - keys[rows, BASE]] = pool[lines]
    keys[:, BASE] = base
    return moved


def renumber(keys: Ints, pool: Ints, floors: int, sets: int, categories: Iterable[tuple[int, Ints]]) -> None:
    """Give the categories of some terms other numbers: each array holds the new number of every old one.

    Of a summary it is kept that there is a value, and of a slot that holds no event nothing.
    """
    lines, nodes = _events(keys)[0], _nodes(keys, sets)[0]
    for term, numbers in categories:
        values, there = pool[lines, 1 + term], pool[nodes, 1 + term] != NULL
        pool[:, 1 + term] = NULL
        pool[lines, 1 + term] = _mapped(values, numbers)
        pool[nodes, 1 + term] = np.where(there, 0, NULL)
        floor = floors + FLOOR * term + VALUE
        keys[:, floor] = _mapped(keys[:, floor], numbers)


def categories(keys: Ints, pool: Ints, floors: int, term: int) -> Ints:
    """Return the numbers of the categories that are kept of a term; some may come more than once."""
    found = np.concatenate([pool[_events(keys)[0], 1 + term], keys[:, floors + FLOOR * term + VALUE]])
    return np.asarray(found[found != NULL])


def _mapped(values: Ints, numbers: Ints) -> Ints:
    found, there = values.copy(), values != NULL
    found[there] = numbers[values[there]]
    return found


def _events(keys: Ints) -> tuple[Ints, Ints]:
    """Return the lines of the pool that hold events, and the key of each."""
    rows, within = _spread(keys[:, END] - keys[:, FIRST])
    return keys[rows, BASE] + ((keys[rows, FIRST] + within) & (keys[rows, CAPACITY] - 1)), rows


def _nodes(keys: Ints, sets: int) -> tuple[Ints, Ints]:
    """Return the lines of the pool that hold summaries, and the key of each."""
    rows, within = _spread(sets * _summaries(keys[:, CAPACITY]))
    return keys[rows, BASE] + keys[rows, CAPACITY] + within, rows


def _spread(counts: Ints) -> tuple[Ints, Ints]:
    """Return each number as often as its count says, and with it 0, 1, 2 and so on."""
    rows = np.repeat(np.arange(len(counts)), counts)
    return rows, np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)


def _summaries(capacity: Ints) -> Ints:
    """Return how many summaries one set of each ring has."""
    total, blocks = np.zeros_like(capacity), capacity >> BLOCK
    while blocks.any():
        total += blocks
        blocks = blocks >> BLOCK
    return total
