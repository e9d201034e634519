"""The clocks of some zones as one table for the kernel, made year by year as years occur."""

from collections.abc import Sequence

import numpy as np

from mainstem.feature_engine.kernel.encoding import mark_years
from mainstem.feature_engine.kernel.fields import Ints
from mainstem.feature_engine.localtime import offsets_in_force

_YEARS = 10_000


class Clocks:
    """Knows the offsets of zones in all years that were noted, and in those around them.

    `table` has lines (second, offset in force from it on), zone after zone; `places[2 z]` and `places[2 z + 1]` are
    where the lines of zone z begin and end.
    """

    def __init__(self, zones: Sequence[str]) -> None:
        self.table: Ints = np.zeros((0, 2), np.int64)
        self.places: Ints = np.zeros(2 * len(zones), np.int64)
        self._zones = zones
        self._seen = np.zeros(_YEARS, np.int64)

    def note(self, table: Ints, columns: Sequence[int]) -> None:
        """Learn the years of the instants in some columns of a table."""
        for column in columns:
            mark_years(table, column, self._seen)
        if self._seen[0]:
            self._learn()

    def _learn(self) -> None:
        self._seen[0] = 0
        noted = np.flatnonzero(self._seen)
        years = np.unique(np.clip(np.concatenate([noted - 1, noted, noted + 1]), 1, _YEARS - 1)).tolist()
        parts = [np.concatenate([offsets_in_force(zone, year) for year in years]) for zone in self._zones]
        ends = np.cumsum([0, *map(len, parts)])
        self.places[0::2], self.places[1::2] = ends[:-1], ends[1:]
        self.table = np.concatenate(parts)
