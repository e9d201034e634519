"""Figures that describe a window to a reader; no alert hangs on them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from mainstem.monitoring.domain.profile import Profile
from mainstem.monitoring.domain.window import Window

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PSI_GROUPS = 10
SMALLEST_PROBABILITY = 1e-15


@dataclass(frozen=True, slots=True)
class Band:
    """Calibration in one band of the score: labelled rows, their mean score, their share of positives."""

    rows: int
    score: float
    positive_rate: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What happened in a window; figures of labels are None without labels, `auc` also when a class is missing.

    `psi` is the population stability index over ten groups and missing, less what sampling alone gives.
    """

    predictions: int
    labelled: int
    psi: dict[str, float]
    score_psi: float
    positive_rate: float | None
    auc: float | None
    brier: float | None
    log_loss: float | None
    calibration: tuple[Band, ...]


def figures(window: Window, profile: Profile) -> Figures:
    """Return the figures of a window against the reference of its version."""
    pairs = zip(profile.columns, window.features, strict=True)
    y, p = window.labels, window.scores
    known = len(y) > 0
    return Figures(
        predictions=window.predictions,
        labelled=window.labelled,
        psi={column.name: psi(column.counts, counts) for column, counts in pairs},
        score_psi=psi(profile.score.counts, window.score),
        positive_rate=float(y.mean()) if known else None,
        auc=auc(y, p) if 0 < y.sum() < len(y) else None,
        brier=float(np.mean((p - y) ** 2)) if known else None,
        log_loss=_log_loss(y, p) if known else None,
        calibration=_calibration(profile.bands.edges, y, p),
    )


def auc(y: Ints, p: Floats) -> float:
    """Return the area under the ROC curve, ties counted half; both classes must be there."""
    positives = int(y.sum())
    pairs = positives * (len(y) - positives)
    return float((rankdata(p)[y == 1].sum() - positives * (positives + 1) / 2) / pairs)


def psi(reference: Floats | Ints, window: Floats | Ints) -> float:
    """Return the population stability index between two counts over the same bins, less its noise floor, at least 0.

    The bins are joined to ten groups of equal reference mass; the last bin (missing) stays by itself.
    Two samples of one population differ by about (groups - 1)(1/n + 1/N), which says nothing: that is taken off.
    """
    if not window.sum():
        return 0.0
    group = _groups(np.asarray(reference, np.float64))
    before, after = (np.bincount(group, weights=counts, minlength=PSI_GROUPS + 1) for counts in (reference, window))
    used = (before + after) > 0
    before, after = before[used], after[used]
    p, q = ((counts + 0.5) / (counts + 0.5).sum() for counts in (before, after))
    floor = (len(before) - 1) * (1 / before.sum() + 1 / after.sum())
    return max(float(((p - q) * np.log(p / q)).sum() - floor), 0.0)


def _groups(reference: Floats) -> Ints:
    present = reference[:-1]
    middle = (np.cumsum(present) - present / 2) / max(present.sum(), 1)
    groups = np.minimum((middle * PSI_GROUPS).astype(np.int64), PSI_GROUPS - 1)
    return np.append(groups, PSI_GROUPS)


def _log_loss(y: Ints, p: Floats) -> float:
    given = np.clip(np.where(y == 1, p, 1 - p), SMALLEST_PROBABILITY, 1)
    return float(-np.log(given).mean())


def _calibration(edges: Floats, y: Ints, p: Floats) -> tuple[Band, ...]:
    band, count = np.searchsorted(edges, p, "left"), len(edges) + 1
    rows = np.bincount(band, minlength=count)
    scores, positives = (np.bincount(band, weights=values, minlength=count) for values in (p, y))
    cells = zip(rows.tolist(), scores.tolist(), positives.tolist(), strict=True)
    return tuple(Band(n, score / n, positive / n) for n, score, positive in cells if n)
