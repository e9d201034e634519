"""The state of one (stream, key column): a row for each key, the pool of rings, and the counts of different values."""

from collections.abc import Mapping, Sequence

import numpy as np

from mainstem.feature_engine import retention
from mainstem.feature_engine.column_types import NULL, ColumnType, Kind
from mainstem.feature_engine.definition import Aggregate, Column, Expression
from mainstem.feature_engine.kernel import fields
from mainstem.feature_engine.kernel import fold as kernel
from mainstem.feature_engine.kernel.counts import EMPTY
from mainstem.feature_engine.kernel.fields import COUNTS, CURSORS, KEYS, NEVER, OWNED, POOL, Ints
from mainstem.feature_engine.kernel.tables import Tables
from mainstem.feature_engine.layout import Key, Layout

_FIRST_SLOTS = 1024
_FIRST_COUNTS = 64


class Index:
    """Keeps the events of one stream, grouped by one key, for the aggregates that read them; the kernel folds them.

    `name` is that of the index and of its key column; `aggregates` come with their column in the output.
    Keys are numbers from 0.
    """

    def __init__(
        self,
        name: tuple[str, str],
        key: Key,
        aggregates: Sequence[tuple[int, Aggregate]],
        columns: Mapping[str, ColumnType],
    ) -> None:
        self.name, self.by = name
        self.outputs = [out for out, _ in aggregates]
        self.key = key
        layout = Layout(key, aggregates, columns)
        self.terms: list[Expression] = layout.terms
        self._plan, self._template, self._counting = layout.plan, layout.template, layout.counted
        self._width = layout.width
        #: How far a value looks back, in µs; None when one looks back without end.
        self.reach = layout.reach
        #: Which terms hold categories, and of which column.
        self.categories = {
            number: term.name
            for number, term in enumerate(self.terms)
            if isinstance(term, Column) and columns[term.name].kind is Kind.CATEGORY
        }
        self._floors = int(layout.plan[0][fields.FLOORS])
        self._sets = int(layout.plan[0][fields.POSITIVE] + layout.plan[0][fields.NEGATIVE])
        #: What the kernel works on; those of the program are for others to lay.
        self.tables = Tables([np.empty((0, 0), np.int64)] * fields.TABLES)
        for number, table in enumerate(layout.plan, fields.INDEX):
            self.tables[number] = table
        self.tables[KEYS] = np.empty((0, len(layout.template)), np.int64)
        self.tables[POOL] = self._slots(0)
        self.tables[fields.TOLD] = np.empty(1 + len(self.terms), np.int64)
        self.tables[CURSORS] = np.zeros(fields.CURSOR, np.int64)
        self.own(np.empty(0, np.int64))
        self._count_anew(_FIRST_COUNTS)

    @property
    def owned(self) -> Ints:
        """For each key, and last for none, 1 if its events are applied and asked for, 0 if not; empty if all are."""
        owned: Ints = self.tables[OWNED][0]
        return owned

    def own(self, keys: Ints) -> None:
        """Pass over the keys whose number here is 0."""
        self.tables[OWNED] = keys

    def widen(self, lack: int, keys: int) -> None:
        """Make room for what the kernel lacks; there are that many keys."""
        match lack:
            case kernel.KEYS_FULL:
                known = len(self._keys)
                self.tables[KEYS] = self._rows(max(keys, 2 * known), np.arange(known))
            case kernel.POOL_FULL:
                self.tables[POOL] = np.concatenate([self._pool, self._slots(max(_FIRST_SLOTS, len(self._pool)))])
            case _:
                self._count_anew(2 * len(self.tables[COUNTS]))

    def renumber(self, keys: Ints, count: int, categories: Mapping[str, Ints]) -> None:
        """Give keys and categories other numbers: each array holds the new number of every old one, by column.

        There are `count` keys then; of one whose new number is NULL nothing may be kept.
        """
        known = keys[: len(self._keys)]
        self.tables[KEYS] = self._keys[: len(known)][known != NULL]
        self.tables[KEYS] = self._rows(count, known[known != NULL])
        numbers = [(term, categories[column]) for term, column in self.categories.items()]
        retention.renumber(self._keys, self._pool, self._floors, self._sets, numbers)
        self._count_anew(len(self.tables[COUNTS]))

    def forget(self, instant: int) -> None:
        """Forget the keys of which nothing can be asked any more when no query lies before an instant."""
        horizon = NEVER if self.reach is None else instant - self.reach
        self._keys[~retention.living(self._keys, self._pool, self._floors, horizon)] = self._template
        self._keys[:, fields.KEY] = np.arange(len(self._keys))
        self.tables[POOL] = retention.together(self._keys, self._pool, self._sets)
        self.tables[COUNTS] = self.tables[COUNTS][: self._places()]
        self._cursor[fields.USED], self._cursor[fields.FREE :] = len(self._pool), 0

    def known(self) -> tuple[Ints, dict[str, Ints]]:
        """Return the keys of which something is kept, and the categories that are, by column."""
        kept = {
            column: retention.categories(self._keys, self._pool, self._floors, term)
            for term, column in self.categories.items()
        }
        return np.flatnonzero(self._keys[:, fields.CAPACITY]), kept

    def arrays(self) -> list[Ints]:
        """Return the state: the rows of the keys, the pool, and which rings in it are free."""
        return [self._keys, self._pool[: self._cursor[fields.USED]], self._cursor[fields.FREE :]]

    def restore(self, keys: Ints, pool: Ints, free: Ints) -> None:
        """Take over a state that `arrays` returned."""
        self.tables[KEYS], self.tables[POOL] = keys, pool
        self._cursor[fields.USED], self._cursor[fields.FREE :] = len(pool), free
        self._count_anew(self._places())

    def state_bytes(self) -> int:
        """Return the size of the state."""
        return sum(array.nbytes for array in self.arrays()) + (self.tables[COUNTS].nbytes if self._counting else 0)

    def _places(self) -> int:
        """Return how many places a table needs for the different values there may be."""
        inside = int((self._keys[:, fields.TAIL] - self._keys[:, fields.FIRST]).sum())
        return max(_FIRST_COUNTS, 1 << (2 * self._counting * inside).bit_length())

    def _count_anew(self, places: int) -> None:
        """Count the different values into a table of that many places."""
        self.tables[COUNTS] = np.column_stack([np.full(places, EMPTY), np.zeros(places, np.int64)])
        self._cursor[fields.COUNT] = 0
        if self._counting:
            kernel.recount(self._plan, (self._keys, self._pool, self.tables[COUNTS], self._cursor))

    @property
    def _keys(self) -> Ints:
        return self.tables[KEYS]

    @property
    def _pool(self) -> Ints:
        return self.tables[POOL]

    @property
    def _cursor(self) -> Ints:
        cursor: Ints = self.tables[CURSORS][0]
        return cursor

    def _slots(self, count: int) -> Ints:
        return np.full((count, self._width), NULL)

    def _rows(self, count: int, places: Ints) -> Ints:
        """Return that many rows, the first of the known ones at `places`."""
        rows = np.tile(self._template, (count, 1))
        rows[places] = self._keys[: len(places)]
        rows[:, fields.KEY] = np.arange(count)
        return rows
