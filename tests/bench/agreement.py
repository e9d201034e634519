"""A peer is only a peer if it has the same values: compared cell by cell before anything is timed."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from mainstem.feature_engine import Batch, CompiledSet, Engine

#: So near to the one division of integers do sums of floats come.
_NEAR = 1e-9


def agree(compiled: CompiledSet, log: Batch, theirs: Mapping[str, npt.NDArray[np.generic]]) -> None:
    """Raise RuntimeError, naming the feature and the first row, unless a peer has the values of the engine."""
    ours = Engine(compiled).process(log).values
    for name, column in theirs.items():
        mine, other = ours[:, compiled.names.index(name)], column.astype(np.float64)
        differ = ~np.isclose(mine, other, rtol=0, atol=_NEAR, equal_nan=True)
        if differ.any():
            row = int(np.flatnonzero(differ)[0])
            found = f"{differ.sum():,} of {len(mine):,} rows differ, the first is {row}: {mine[row]} and {other[row]}"
            raise RuntimeError(f"{name}: {found}: one of the two is wrong, so they cannot be compared")
