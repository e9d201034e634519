"""Evidence by betting: the mixture Shiryaev-Roberts e-detector.

For a bounded value g with reference mean m, the wealth of a bet against "its mean is at most m + tolerance" is the
product over rows of 1 + a (g - m - tolerance). While the claim holds, this wealth does not grow in expectation.
`R <- (1 + R) * wealth` adds up the bets started in each window, and a mixture over functions, directions and sizes of
bet is alarmed at c no more often than once in c windows on average, whatever the dependence between features.
See Shin, Ramdas, Rinaldo, "E-detectors" (2024).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Sizes of the bets, in halves of a standard deviation of one row, and how much of the wealth a row may cost at most.
BETS = np.array([0.1, 0.3, 0.9])
LARGEST_LOSS = 0.9


@dataclass(frozen=True, slots=True)
class Claim:
    """One side of one watched mean: values are bet to lie above zero by more than `tolerance`.

    `name` and `move` say what a won bet means; `lowest` is the least possible value, `variance` that of one row.
    """

    name: str
    move: str
    values: Floats
    weights: Floats
    lowest: float
    variance: float
    tolerance: float

    def log_wealth(self) -> Floats:
        """Return for each size of bet the logarithm of the wealth over the window; `weights` counts equal values."""
        stake = np.minimum(BETS / 2 / np.sqrt(self.variance), LARGEST_LOSS / max(self.tolerance - self.lowest, 1e-9))
        return np.asarray(np.log1p(stake[:, None] * (self.values - self.tolerance)) @ self.weights)

    @property
    def moved(self) -> float:
        """Mean of the values over the window: how far, beyond the reference."""
        total = float(self.weights.sum())
        return float(self.values @ self.weights) / total if total else 0.0


def step(state: Floats, log_wealth: Floats, log_weights: Floats, ceiling: float) -> tuple[Floats, Floats]:
    """Fold one window into log(1 + R) of each bet; returns the new state and each bet's share of the log evidence.

    The state keeps no more than `ceiling` of the evidence, so that a time that was bad can be outlived.
    """
    evidence = state + log_wealth
    return np.logaddexp(0.0, np.minimum(evidence, ceiling - log_weights)), evidence + log_weights


def total(shares: Floats) -> float:
    """Return the log evidence of a mixture from the shares of its bets."""
    return float(np.logaddexp.reduce(shares))
