"""How far means move between chunks of the reference without anything being wrong.

Days differ. A detector that knows only sampling noise calls every second day a drift, so each function is allowed
the movement that the reference itself showed, and the allowance shrinks for windows that span many chunks.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

Floats = NDArray[np.float64]

#: Chance of seeing movement in any of the functions where there is none.
MISTAKE = 0.05
#: Factor on the observed spread when any of the functions moves, so that the estimate errs on the quiet side.
INFLATION = 1.3
#: Autocorrelation between chunks below this counts as none.
RHO_FLOOR, RHO_CAP = 0.15, 0.95
STANDARD_ERRORS, TAUS = 3.0, 2.5


@dataclass(frozen=True, slots=True)
class Movement:
    """Per function: variance of a row, rows of the reference, and between chunks the standard deviation `tau`.

    `rho` is the autocorrelation of successive chunks, `chunks` how many independent ones they are worth, and
    `chunk_rows` the mean size of a chunk.
    """

    variance: Floats
    rows: Floats
    tau: Floats
    rho: float
    chunks: float
    chunk_rows: float

    def tolerance(self, window_rows: int) -> Floats:
        """Return how far the mean over a window may lie from the reference without counting as evidence."""
        error = np.sqrt(self.variance / self.rows + self.tau**2 / self.chunks)
        return np.asarray(STANDARD_ERRORS * error + TAUS * self.tau * self._scale(window_rows))

    def _scale(self, window_rows: int) -> float:
        """Return the factor that leads from the movement of chunks to that of windows."""
        chunks = window_rows / self.chunk_rows
        if chunks < 1:
            return float(chunks**-0.5)
        return float(min(1.0, ((1 + self.rho) / (1 - self.rho) / chunks) ** 0.5))


def measure(deviations: Floats, sizes: Floats, variance: Floats) -> Movement:
    """Estimate the movement of functions from their chunk means.

    `deviations` [chunks, functions] are chunk means minus the overall mean, in time order, `sizes` the rows behind
    each, `variance` [functions] that of one row. Method of moments after DerSimonian and Laird (1986), taken high.
    """
    rows = np.maximum(sizes.sum(0), 1)
    variance = np.maximum(variance, np.maximum(1 / rows, 1e-6))
    freedom = max(len(deviations) - 1, 1)
    spread = (sizes * deviations**2).sum(0) / variance
    moving = spread > chi2.isf(MISTAKE / len(variance), freedom)
    rho = _autocorrelation(deviations / np.sqrt(variance), sizes, moving)
    chunks = max(len(deviations) * (1 - rho) / (1 + rho), 3.0)
    excess = np.maximum(INFLATION * spread - freedom, 0) * moving.any()
    effective = np.maximum(rows - (sizes**2).sum(0) / rows, 1)
    tau = np.sqrt(variance * excess / effective)
    tau *= np.sqrt(chunks / (chunks - 1)) * (1 + (1.5 / np.sqrt(chunks) if rho else 0))
    return Movement(variance, rows, tau, rho, chunks, float(rows.max() / len(deviations)))


def _autocorrelation(scaled: Floats, sizes: Floats, moving: NDArray[np.bool_]) -> float:
    """Return the lag-1 autocorrelation of the movement, pooled over the moving functions and taken high."""
    part, noise = scaled[:, moving], (1 / np.maximum(sizes[:, moving], 1)).sum()
    signal = (part**2).sum() - noise
    if signal <= 0:
        return 0.0
    rho = float((part[1:] * part[:-1]).sum() / signal)
    if rho <= RHO_FLOOR:
        return 0.0
    return min(rho + 2 / float(np.sqrt(len(scaled))) * (1 - min(rho, 1.0)), RHO_CAP)
