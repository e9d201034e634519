"""The clocks of some zones as one table for the kernel, made year by year as years occur."""

from collections.abc import Sequence

import numpy as np

from mainstem.feature_engine.kernel.fields import Ints
from mainstem.feature_engine.localtime import offsets_in_force

_YEARS = 10_000


class Clocks:
    """Knows the offsets of zones in all years that are marked in `years`, and in those around them.

    `table` has lines (second, offset in force from it on), zone after zone; before them it has a line for each zone:
    where its lines begin and end.
    """

    def __init__(self, zones: Sequence[str]) -> None:
        self.table: Ints = np.zeros((len(zones), 2), np.int64)
        self._zones = zones
        self.years: Ints = np.zeros(_YEARS, np.int64)

    def learn(self) -> None:
        """Take in the years that were marked since."""
        if not self.years[0] or not self._zones:
            return
        self.years[0] = 0
        noted = np.flatnonzero(self.years)
        years = np.unique(np.clip(np.concatenate([noted - 1, noted, noted + 1]), 1, _YEARS - 1)).tolist()
        parts = [np.concatenate([offsets_in_force(zone, year) for year in years]) for zone in self._zones]
        ends = len(parts) + np.cumsum([0, *map(len, parts)])
        self.table = np.concatenate([np.column_stack([ends[:-1], ends[1:]]), *parts])
