"""The state of one (stream, key column): a row for each key, and the pool of rings."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mainstem.feature_engine import kernel
from mainstem.feature_engine.column_types import NULL, ColumnType
from mainstem.feature_engine.definition import Aggregate
from mainstem.feature_engine.kernel import Ints, Work
from mainstem.feature_engine.layout import lay_out

_FIRST_SLOTS = 1024


class Index:
    """Folds the events of one stream, grouped by one key, for the aggregates that read them.

    `aggregates` come with their column in the output. Keys are numbers from 0.
    """

    def __init__(self, aggregates: Sequence[tuple[int, Aggregate]], columns: Mapping[str, ColumnType]) -> None:
        self.outputs = np.array([out for out, _ in aggregates])
        self.counted = {a.term.column for _, a in aggregates if a.op == "distinct" and a.term is not None}
        layout = lay_out([aggregate for _, aggregate in aggregates], columns)
        self.terms, self.weights = layout.terms, layout.weights
        self._plan, self._template = layout.plan, layout.template
        self._keys: Ints = np.empty((0, len(layout.template)), np.int64)
        self._pool: Ints = np.empty((0, 1 + len(layout.terms)), np.int64)
        self._used = 0

    def fold(self, work: Work, keys: int) -> NDArray[np.float64]:
        """Answer the queries and apply the updates of `work`, all of keys below `keys`; return a row for each query."""
        if keys > len(self._keys):
            self._keys = self._rows(max(keys, 2 * len(self._keys)), np.arange(len(self._keys)))
        out = np.empty((len(work[0]), len(self.outputs)))
        cursor = np.array([0, 0, self._used], np.int64)
        while not kernel.fold(self._plan, self._keys, self._pool, work, cursor, out):
            fresh = np.full((max(_FIRST_SLOTS, len(self._pool)), self._pool.shape[1]), NULL)
            self._pool = np.concatenate([self._pool, fresh])
        self._used = int(cursor[2])
        return out

    def renumber(self, keys: Ints, categories: Mapping[str, Ints]) -> None:
        """Give keys and categories other numbers: each array holds the new number of every old one."""
        known = min(len(keys), len(self._keys))
        self._keys = self._rows(len(keys), keys[:known])
        floors = self._keys[:, self._keys.shape[1] - kernel.FLOOR * len(self.terms) + kernel.VALUE :: kernel.FLOOR]
        for column, term in enumerate(self.terms):
            if term.column in categories:
                for values in (floors[:, column], self._pool[:, column + 1]):
                    there = values != NULL
                    values[there] = categories[term.column][values[there]]

    def arrays(self) -> list[Ints]:
        """Return the state: the rows of the keys and the pool."""
        return [self._keys, self._pool[: self._used]]

    def restore(self, keys: Ints, pool: Ints) -> None:
        """Take over a state that `arrays` returned."""
        self._keys, self._pool, self._used = keys, pool, len(pool)

    def _rows(self, count: int, places: Ints) -> Ints:
        """Return that many rows, the first of the known ones at `places`."""
        rows = np.tile(self._template, (count, 1))
        rows[places] = self._keys[: len(places)]
        return rows
