"""The computing part of a run, on arrays only: fit, evaluate, compare with the incumbent, profile for monitoring.

Rows are float64 [rows, features] with NaN for missing, labels 0 or 1, scores the probability of 1.
The same input gives the same output, bit for bit, on any number of cores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score
from threadpoolctl import threadpool_limits

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CALIBRATION_BINS = 10
PROFILE_BINS = 64
SCORE_BANDS = 10
#: Rows that a profile quotes with their scores.
REFERENCE_ROWS = 64
#: Parameters of the estimator that a definition may not set.
SET_BY_RUN = {"random_state", "categorical_features"}
DAY_US = 86_400_000_000
#: Below so many chunks the movement between chunks is not known well enough for monitoring to judge.
FEWEST_CHUNKS, MOST_CHUNKS = 30, 60


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Figures of one set of scores against labels; `ece` is the expected calibration error over ten equal-mass bins."""

    n: int
    positive_rate: float
    auc: float
    brier: float
    log_loss: float
    ece: float


class AucDifference(NamedTuple):
    """Candidate's AUC minus incumbent's on the same rows, with a two-sided confidence interval."""

    difference: float
    low: float
    high: float


def fit(
    x: Floats, y: Ints, params: Mapping[str, object], seed: int, categorical: Sequence[int] = ()
) -> HistGradientBoostingClassifier:
    """Fit gradient-boosted trees; `params` are those of scikit-learn's HistGradientBoostingClassifier.

    Early stopping is off unless asked for. `categorical` are the columns whose values are names, not amounts.
    One thread, so that sums are taken in one order everywhere.
    Raises ValueError when a class is missing from `y` or a parameter is not the definition's to set.
    """
    _check_classes(y)
    unknown = set(params) - set(HistGradientBoostingClassifier().get_params()) | SET_BY_RUN & set(params)
    if unknown:
        raise ValueError(f"the estimator takes no parameter {sorted(unknown)} here; correct the model's definition")
    estimator = HistGradientBoostingClassifier(
        **{"early_stopping": False, **params}, random_state=seed, categorical_features=list(categorical) or None
    )
    with threadpool_limits(limits=1):
        return estimator.fit(x, y)


def evaluate(y: Ints, p: Floats) -> Evaluation:
    """Return the figures of scores against labels; raises ValueError when a class is missing from `y`."""
    _check_classes(y)
    return Evaluation(
        n=len(y),
        positive_rate=float(np.mean(y)),
        auc=float(roc_auc_score(y, p)),
        brier=float(brier_score_loss(y, p)),
        log_loss=float(log_loss(y, p)),
        ece=_calibration_error(y, p),
    )


def delong_paired(y: Ints, p_new: Floats, p_old: Floats, confidence: float) -> AucDifference:
    """Compare two AUCs on the same rows after DeLong, DeLong and Clarke-Pearson (1988).

    `confidence` is the two-sided level, for example 0.95. Raises ValueError when a class is missing from `y`.
    """
    _check_classes(y)
    of_positives, of_negatives = zip(_placements(y, p_new), _placements(y, p_old), strict=True)
    positive_gain = of_positives[0] - of_positives[1]
    negative_gain = of_negatives[0] - of_negatives[1]
    difference = float(positive_gain.mean())
    variance = _mean_variance(positive_gain) + _mean_variance(negative_gain)
    reach = float(norm.ppf(0.5 + confidence / 2) * np.sqrt(variance))
    return AucDifference(difference, difference - reach, difference + reach)


def chunk_ids(times_us: Ints) -> Ints:
    """Cut rows into chunks of equal time for the profile; returns each row's chunk, from 0 in time order.

    A chunk is one or more whole days from 30 days on, so that the hour of the day does not look like movement
    between chunks; shorter references are cut into 30.
    """
    start = times_us.min()
    span = int(times_us.max() - start) + 1
    days = -(-span // DAY_US)
    width = DAY_US * -(-days // MOST_CHUNKS) if days >= FEWEST_CHUNKS else -(-span // FEWEST_CHUNKS)
    return np.asarray((times_us - start) // width, np.int64)


def reference_profile(x: Floats, p: Floats, y: Ints, chunks: Ints, names: Sequence[str]) -> dict[str, object]:
    """Return what monitoring compares with, as JSON values: held-out rows, never rows of training.

    For each feature and for the score: up to 63 edges of right-closed bins and, chunk by chunk, the rows in each bin,
    the missing in the last. For each of ten bands of the score, chunk by chunk: rows, positives and the sums of score,
    squared error and its square. `reference` has some of the rows and their scores, which the model gives again
    wherever it is loaded. `chunks` comes from `chunk_ids`. Raises ValueError without rows.
    """
    if not len(x):
        raise ValueError("a reference profile needs held-out rows; widen the held-out range")
    features = [{"name": name, **_binned(x[:, at], chunks)} for at, name in enumerate(names)]
    return {
        "rows": len(x),
        "positive_rate": float(np.mean(y)),
        "features": features,
        "score": _binned(p, chunks),
        "bands": _bands(p, y, chunks),
        "reference": _reference(x, p),
    }


def _check_classes(y: Ints) -> None:
    found = np.unique(y).tolist()
    if found != [0, 1]:
        raise ValueError(f"labels must hold both 0 and 1, found {found[:5]}; check the label and the range of rows")


def _calibration_error(y: Ints, p: Floats) -> float:
    edges = np.quantile(p, np.arange(1, CALIBRATION_BINS) / CALIBRATION_BINS)
    gaps = np.bincount(np.searchsorted(edges, p, "left"), weights=y - p, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(p))


def _placements(y: Ints, p: Floats) -> tuple[Floats, Floats]:
    """For each positive the share of negatives below it, for each negative the share of positives above it."""
    positive, negative = p[y == 1], p[y == 0]
    ranks = rankdata(np.concatenate([positive, negative]))
    above = ranks[: len(positive)] - rankdata(positive)
    below = ranks[len(positive) :] - rankdata(negative)
    return above / len(negative), 1 - below / len(positive)


def _mean_variance(values: Floats) -> float:
    return float(values.var(ddof=1) / len(values)) if len(values) > 1 else 0.0


def _reference(x: Floats, p: Floats) -> dict[str, object]:
    """Return up to `REFERENCE_ROWS` rows from first to last, null for a missing value, and their scores."""
    chosen = np.unique(np.linspace(0, len(x) - 1, REFERENCE_ROWS).astype(np.int64))
    rows = [[None if np.isnan(value) else value for value in row] for row in x[chosen].tolist()]
    return {"rows": rows, "scores": p[chosen].tolist()}


def _binned(values: Floats, chunks: Ints) -> dict[str, object]:
    present = values[~np.isnan(values)]
    marks = np.arange(1, PROFILE_BINS) / PROFILE_BINS
    edges = np.unique(np.quantile(present, marks, method="lower")) if len(present) else np.zeros(0)
    bins = np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values, "left"))
    return {"edges": edges.tolist(), "chunks": _tally(bins, chunks, len(edges) + 2).astype(int).tolist()}


def _bands(p: Floats, y: Ints, chunks: Ints) -> dict[str, object]:
    edges = np.unique(np.quantile(p, np.arange(1, SCORE_BANDS) / SCORE_BANDS))
    band, count = np.searchsorted(edges, p, "left"), len(edges) + 1
    return {
        "edges": edges.tolist(),
        "rows": _tally(band, chunks, count).astype(int).tolist(),
        "positives": _tally(band, chunks, count, y).astype(int).tolist(),
        "score": _tally(band, chunks, count, p).tolist(),
        "squared_error": _tally(band, chunks, count, (p - y) ** 2).tolist(),
        "fourth_power_error": _tally(band, chunks, count, (p - y) ** 4).tolist(),
    }


def _tally(bins: Ints, chunks: Ints, count: int, weights: Floats | Ints | None = None) -> Floats:
    """Return [chunks, count]: rows (or the sum of weights) in each bin, chunk by chunk; empty chunks are left out."""
    ids, index = np.unique(chunks, return_inverse=True)
    cells = np.bincount(index * count + bins, weights=weights, minlength=len(ids) * count)
    return np.asarray(cells, np.float64).reshape(len(ids), count)
