"""The verdict on a window: evidence so far against the budget of false alarms, and what moved most."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import log
from typing import Self, get_args

import numpy as np
from numpy.typing import NDArray

from mainstem.monitoring.domain.betting import BETS, Claim, step, total
from mainstem.monitoring.domain.figures import psi
from mainstem.monitoring.domain.profile import MOVES, Bands, Column, Profile
from mainstem.monitoring.domain.window import Window
from mainstem.project.monitoring import AlertKind

Floats = NDArray[np.float64]

KINDS: tuple[AlertKind, ...] = get_args(AlertKind)
#: How the budget of false alarms is divided.
SHARES: Mapping[AlertKind, float] = {"feature_drift": 0.5, "prediction_drift": 0.125, "performance_loss": 0.375}
#: Names of what is watched of labels, beside the bands of the score.
RESIDUAL, RANKING, BRIER = "residual", "ranking", "brier"
FEWEST_PREDICTIONS = 50
MOST_CONTRIBUTORS = 10
HEADROOM = log(10)


@dataclass(frozen=True, slots=True)
class Evidence:
    """The state of the detector of one version: log(1 + R) of every bet, by kind of alert; empty before any window."""

    bets: Mapping[AlertKind, tuple[float, ...]]

    @classmethod
    def none(cls) -> Self:
        """Return the state of a version that was never judged."""
        return cls({})

    def to_json(self) -> dict[str, list[float]]:
        """Return the state as JSON values; `from_json` reads it back to the same bits."""
        return {kind: list(bets) for kind, bets in self.bets.items()}

    @classmethod
    def from_json(cls, document: Mapping[str, Sequence[float]]) -> Self:
        """Read what `to_json` made; kinds it does not know are left out."""
        return cls({kind: tuple(document[kind]) for kind in KINDS if kind in document})


@dataclass(frozen=True, slots=True)
class Contributor:
    """Something that moved: log evidence, how it moved, by how much, and for columns the stability index."""

    name: str
    evidence: float
    move: str
    by: float
    psi: float | None


@dataclass(frozen=True, slots=True)
class Alert:
    """Evidence of one kind passed its threshold (both natural logarithms); `effect` is in the unit of the kind.

    The unit is the largest stability index for drift, and the growth of the mean squared error for a performance loss.
    """

    kind: AlertKind
    evidence: float
    threshold: float
    effect: float
    contributors: tuple[Contributor, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a window adds: the new state, the log evidence of each kind (None where not judged), alerts passed."""

    state: Evidence
    evidence: dict[AlertKind, float | None]
    alerts: tuple[Alert, ...]


def thresholds(false_alarms_per_100_windows: float) -> dict[AlertKind, float]:
    """Return the log evidence at which each kind alarms, so that all kinds together stay within the budget."""
    return {kind: -log(share * false_alarms_per_100_windows / 100) for kind, share in SHARES.items()}


def verdict(
    state: Evidence, window: Window, profile: Profile, limits: Mapping[AlertKind, float], min_labelled: int
) -> Verdict:
    """Fold a complete window into the evidence against its version and tell what passed its threshold.

    Windows must come in the order of their time. Kinds without enough rows, and all kinds of a profile that is not
    armed, are left as they were. An alert stands in every verdict until its evidence falls below the threshold.
    """
    bets, evidence, alerts = dict(state.bets), dict.fromkeys(KINDS), []
    for kind, claims in _claims(window, profile, min_labelled).items():
        log_weights = _log_weights(claims)
        before = np.asarray(bets.get(kind) or np.zeros(log_weights.size))
        wealth = np.concatenate([claim.log_wealth() for claim in claims])
        after, shares = step(before, wealth, log_weights, limits[kind] + HEADROOM)
        bets[kind], found = tuple(after.tolist()), total(shares)
        evidence[kind] = found
        if found >= limits[kind]:
            contributors = _contributors(claims, shares, _stability(kind, window, profile))
            effect = _effect(kind, contributors, window, profile)
            alerts.append(Alert(kind, found, limits[kind], effect, contributors))
    return Verdict(Evidence(bets), evidence, tuple(alerts))


def may_retrain(last_request_us: int | None, now_us: int, cooldown_us: int) -> bool:
    """Tell whether a retraining may be asked for: none was within the cooldown before now."""
    return last_request_us is None or now_us - last_request_us >= cooldown_us


def _claims(window: Window, profile: Profile, min_labelled: int) -> dict[AlertKind, list[Claim]]:
    claims: dict[AlertKind, list[Claim]] = {}
    if profile.armed and window.predictions >= FEWEST_PREDICTIONS:
        pairs = zip(profile.columns, window.features, strict=True)
        claims["feature_drift"] = [claim for column, counts in pairs for claim in _of_column(column, counts)]
        claims["prediction_drift"] = _of_column(profile.score, window.score)
    if profile.armed and window.labelled >= min_labelled:
        claims["performance_loss"] = _of_bands(profile.bands, window)
    return claims


def _of_column(column: Column, counts: NDArray[np.int64]) -> list[Claim]:
    tolerance = column.movement.tolerance(int(counts.sum()))
    weights = counts.astype(np.float64)
    claims = []
    for at, (up, down) in enumerate(MOVES):
        mean, variance = float(column.mean[at]), float(column.movement.variance[at])
        above, allowed = column.functions[at] - mean, float(tolerance[at])
        claims.append(Claim(column.name, up, above, weights, -mean, variance, allowed))
        claims.append(Claim(column.name, down, -above, weights, mean - 1, variance, allowed))
    return claims


def _of_bands(bands: Bands, window: Window) -> list[Claim]:
    band = np.searchsorted(bands.edges, window.scores, "left")
    residual = window.labels - window.scores - bands.bias[band]
    within = {f"band {at + 1}": residual[band == at] for at in range(len(bands.bias))}
    tolerance, variance = bands.movement.tolerance(window.labelled), bands.movement.variance
    lowest = -1 - float(np.abs(bands.bias).max())
    claims = []
    for at, (name, values) in enumerate({RESIDUAL: residual, RANKING: bands.slope[band] * residual, **within}.items()):
        up, down = ("separates better", "separates worse") if name == RANKING else ("more positives", "fewer positives")
        facts = (np.ones(len(values)), lowest, float(variance[at]), float(tolerance[at]))
        claims += [Claim(name, up, values, *facts), Claim(name, down, -values, *facts)]
    squared = (window.labels - window.scores) ** 2 - bands.brier
    facts = (np.ones(len(squared)), -bands.brier, float(variance[-1]), float(tolerance[-1]))
    return [*claims, Claim(BRIER, "larger errors", squared, *facts)]


def _log_weights(claims: Sequence[Claim]) -> Floats:
    """Return the log weight of each bet: names share the mixture equally, the claims of a name share its part."""
    sizes = [len(list(group)) for _, group in groupby(claims, key=lambda claim: claim.name)]
    weights = np.concatenate([np.full(size * len(BETS), 1 / (len(sizes) * size * len(BETS))) for size in sizes])
    return np.asarray(np.log(weights))


def _stability(kind: AlertKind, window: Window, profile: Profile) -> dict[str, float]:
    if kind == "feature_drift":
        pairs = zip(profile.columns, window.features, strict=True)
        return {column.name: psi(column.counts, counts) for column, counts in pairs}
    return {profile.score.name: psi(profile.score.counts, window.score)} if kind == "prediction_drift" else {}


def _contributors(claims: Sequence[Claim], shares: Floats, stability: Mapping[str, float]) -> tuple[Contributor, ...]:
    """Rank names by log evidence; of each, the claim with most of it says how it moved."""
    scored = [(claim, total(part)) for claim, part in zip(claims, shares.reshape(len(claims), -1), strict=True)]
    found = []
    for name, group in groupby(scored, key=lambda pair: pair[0].name):
        pairs = list(group)
        evidence = total(np.array([share for _, share in pairs]))
        claim = max(pairs, key=lambda pair: pair[1])[0]
        found.append(Contributor(name, evidence, claim.move, claim.moved, stability.get(name)))
    return tuple(sorted(found, key=lambda one: -one.evidence)[:MOST_CONTRIBUTORS])


def _effect(kind: AlertKind, contributors: Sequence[Contributor], window: Window, profile: Profile) -> float:
    if kind == "performance_loss":
        return float(np.mean((window.labels - window.scores) ** 2)) - profile.bands.brier
    return max(one.psi or 0.0 for one in contributors)
