"""The profile is made by training itself: its JSON is the contract between the two services."""

import json
from itertools import pairwise
from math import exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import entropy
from sklearn import metrics

from mainstem.monitoring.domain.betting import Claim
from mainstem.monitoring.domain.figures import auc, figures, psi
from mainstem.monitoring.domain.movement import Movement, measure
from mainstem.monitoring.domain.profile import Profile
from mainstem.monitoring.domain.verdict import KINDS, Evidence, may_retrain, thresholds, verdict
from mainstem.monitoring.domain.window import Window, empty, merged, of_labels, of_predictions, window_start
from mainstem.training.engine import reference_profile

FEATURES, ROWS, CHUNKS = 15, 1000, 40
NAMES = [f"feature {at}" for at in range(FEATURES)]
LIMITS = thresholds(1.0)
#: Every window has a random effect of its own, in every feature and in the base rate, as real traffic has.
MOVING = 0.05


def drawn(rng, *, moving=0.0, shift=0.0, missing=0.02, forget=0.0, base=0.0, rows=ROWS):
    """Inputs, scores and labels of one window; by default exactly what the model was made for."""
    x = rng.normal(size=(rows, FEATURES)) + moving * rng.normal(size=FEATURES)
    x[:, 3], x[:, 4] = np.round(2 * x[:, 3]), x[:, 4] > 1
    x[:, 0] += shift
    x[rng.random(rows) < missing, 7] = np.nan
    logit = 0.6 * x[:, 0] + 0.8 * x[:, 1] + 0.6 * x[:, 2] - 1
    truth = expit((1 - forget) * logit + base + moving * rng.normal())
    return x, expit(logit), (rng.random(rows) < truth).astype(np.int64)


def document(seed=0, *, moving=0.0, chunks=CHUNKS):
    rng = np.random.default_rng(seed)
    x, p, y = (np.concatenate(part) for part in zip(*(drawn(rng, moving=moving) for _ in range(chunks)), strict=True))
    return reference_profile(x, p, y, np.repeat(np.arange(chunks), ROWS), NAMES)


FEW = Profile.parse(document(chunks=3))


@pytest.fixture(scope="module")
def still():
    return Profile.parse(json.loads(json.dumps(document())))


@pytest.fixture(scope="module")
def moving():
    return Profile.parse(document(moving=MOVING))


def window_of(profile, x, p, y):
    return of_predictions(profile, x, p).merge(of_labels(profile, p, y))


def judged(profile, windows, seed=1, **change):
    """The verdicts on successive windows."""
    rng, state = np.random.default_rng(seed), Evidence.none()
    for _ in range(windows):
        found = verdict(state, window_of(profile, *drawn(rng, **change)), profile, LIMITS, min_labelled=50)
        state = found.state
        yield found


def first_alarm(profile, kind, windows=10, seed=1, **change):
    """Number of the first window that alarms, from 1; one more than all when none does."""
    kinds = [{alert.kind for alert in found.alerts} for found in judged(profile, windows, seed, **change)]
    return next((at for at, found in enumerate(kinds, 1) if kind in found), windows + 1)


# --- windows


def test_windows_are_whole_multiples_of_their_width():
    assert [window_start(at, 100) for at in (0, 99, 100, 250, -1)] == [0, 0, 100, 200, -100]


@given(st.lists(st.integers(0, 300), max_size=5), st.randoms(use_true_random=False))
def test_pieces_in_any_order_make_the_same_window(cuts, shuffle):
    x, p, y = drawn(np.random.default_rng(2), rows=300)
    edges = [0, *sorted(cuts), 300]
    pieces = [of_predictions(FEW, x[a:b], p[a:b]) for a, b in pairwise(edges)]
    pieces += [of_labels(FEW, p[a:b], y[a:b]) for a, b in pairwise(edges)]
    shuffle.shuffle(pieces)
    assert merged(FEW, pieces).to_json() == window_of(FEW, x, p, y).to_json()


def test_a_window_survives_json(still):
    window = window_of(still, *drawn(np.random.default_rng(3), rows=50))
    assert Window.from_json(json.loads(json.dumps(window.to_json()))).to_json() == window.to_json()


def test_a_window_counts_predictions_and_labels_apart(still):
    x, p, y = drawn(np.random.default_rng(3), rows=50)
    window = of_predictions(still, x, p).merge(of_labels(still, p[:20], y[:20]))
    assert (window.predictions, window.labelled) == (50, 20)


def test_bins_agree_with_those_that_training_counted():
    x, p, _ = (np.concatenate(part) for part in zip(*(drawn(np.random.default_rng(9)) for _ in range(3)), strict=True))
    profile = Profile.parse(reference_profile(x, p, np.zeros(3000, np.int64), np.repeat(np.arange(3), 1000), NAMES))
    window = of_predictions(profile, x, p)
    assert [counts.tolist() for counts in window.features] == [column.counts.tolist() for column in profile.columns]
    assert window.score.tolist() == profile.score.counts.tolist()


# --- figures


def test_figures_equal_those_of_scikit_learn(still):
    x, p, y = drawn(np.random.default_rng(4))
    found = figures(window_of(still, x, p, y), still)
    expected = [
        metrics.roc_auc_score(y, p),
        metrics.brier_score_loss(y, p),
        metrics.log_loss(y, p),
    ]
    assert [found.auc, found.brier, found.log_loss] == pytest.approx(expected, abs=1e-12)
    assert found.positive_rate == pytest.approx(y.mean())


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1)), min_size=2, max_size=40))
def test_auc_with_ties_equals_that_of_scikit_learn(rows):
    p, y = np.array(rows, np.float64).T
    y = np.append(y, [0, 1]).astype(np.int64)
    p = np.append(p, [2, 3])
    assert auc(y, p) == pytest.approx(metrics.roc_auc_score(y, p), abs=1e-12)


def test_the_stability_index_is_the_sum_of_both_divergences_above_its_noise():
    reference, window = np.array([400, 300, 200, 100, 0]), np.array([100, 200, 300, 400, 7])
    p, q = reference + 0.5, window + 0.5
    floor = 4 * (1 / 1000 + 1 / 1007)
    assert psi(reference, window) == pytest.approx(entropy(p, q) + entropy(q, p) - floor)


def test_samples_of_one_population_have_a_stability_index_near_zero(still):
    found = figures(window_of(still, *drawn(np.random.default_rng(5))), still)
    assert max(*found.psi.values(), found.score_psi) < 0.02


def test_a_shift_shows_in_the_stability_index_of_its_feature(still):
    found = figures(window_of(still, *drawn(np.random.default_rng(5), shift=0.5)), still)
    assert max(found.psi, key=found.psi.get) == "feature 0"
    assert 0.15 < found.psi["feature 0"] < 0.35


def test_figures_of_labels_are_left_out_without_labels(still):
    x, p, _ = drawn(np.random.default_rng(6))
    found = figures(of_predictions(still, x, p), still)
    assert (found.auc, found.brier, found.log_loss, found.positive_rate, found.calibration) == (None,) * 4 + ((),)


def test_auc_is_left_out_while_a_class_is_missing(still):
    found = figures(of_labels(still, np.array([0.1, 0.4]), np.array([0, 0])), still)
    assert (found.auc, found.brier) == (None, pytest.approx(0.085))


def test_calibration_bands_add_up(still):
    x, p, y = drawn(np.random.default_rng(4))
    bands = figures(window_of(still, x, p, y), still).calibration
    assert len(bands) == 10
    assert sum(band.rows for band in bands) == ROWS
    assert sum(band.rows * band.positive_rate for band in bands) == pytest.approx(y.sum())


def test_an_empty_window_has_figures(still):
    found = figures(empty(still), still)
    assert (found.predictions, found.labelled, set(found.psi.values())) == (0, 0, {0.0})


# --- movement


def test_movement_between_chunks_is_found_and_not_made_up():
    rng = np.random.default_rng(0)
    sizes, effects = np.full((60, 2), 1000.0), np.column_stack([rng.normal(0, 0.1, 60), np.zeros(60)])
    means = effects + rng.normal(0, 1000**-0.5, (60, 2))
    quiet, restless = (measure(part, sizes[:, :1], np.ones(1)).tau[0] for part in (means[:, 1:], means[:, :1]))
    assert quiet == 0
    assert 0.08 < restless < 0.16


@pytest.mark.parametrize(("chunks", "scale"), [(0.25, 2), (1, 1), (4, 0.5), (25, 0.2)])
def test_a_tolerance_shrinks_for_windows_of_many_chunks(chunks, scale):
    found = Movement(np.ones(1), np.full(1, 60_000.0), np.full(1, 0.1), rho=0.0, chunks=60.0, chunk_rows=1000.0)
    error = 3 * np.sqrt(1 / 60_000 + 0.01 / 60)
    assert found.tolerance(int(1000 * chunks)) == pytest.approx(error + 2.5 * 0.1 * scale)


def test_successive_chunks_that_move_together_are_worth_fewer():
    rng, effects = np.random.default_rng(0), np.zeros(60)
    for at in range(1, 60):
        effects[at] = 0.8 * effects[at - 1] + rng.normal(0, 0.1)
    found = measure(effects[:, None], np.full((60, 1), 10_000.0), np.ones(1))
    assert found.rho > 0.6
    assert found.chunks < 15


# --- bets


@pytest.mark.parametrize("rate", [0.02, 0.3, 0.9])
def test_a_bet_does_not_grow_on_average_while_its_claim_holds(rate):
    tolerance = 0.05
    sides = [
        Claim("g", "up", np.array([value - rate]), np.ones(1), -rate, rate * (1 - rate), tolerance) for value in (0, 1)
    ]
    worst = rate + tolerance
    wealth = (1 - worst) * np.exp(sides[0].log_wealth()) + worst * np.exp(sides[1].log_wealth())
    assert (wealth <= 1 + 1e-12).all()


def test_counts_bet_like_the_rows_they_count():
    rows = np.repeat([-0.2, 0.1, 0.8], [5, 3, 2])
    one_by_one = Claim("g", "up", rows, np.ones(10), -0.2, 0.1, 0.01)
    counted = Claim("g", "up", np.array([-0.2, 0.1, 0.8]), np.array([5.0, 3, 2]), -0.2, 0.1, 0.01)
    assert counted.log_wealth() == pytest.approx(one_by_one.log_wealth())
    assert counted.moved == pytest.approx(rows.mean())


# --- verdicts


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("movement", [0.0, MOVING])
def test_nothing_alarms_while_nothing_changes(seed, movement):
    profile = Profile.parse(document(seed, moving=movement))
    alerts = [alert for found in judged(profile, 70, seed + 10, moving=movement) for alert in found.alerts]
    assert alerts == []


@pytest.mark.parametrize("seed", range(3))
def test_half_a_sigma_in_one_of_fifteen_features_is_caught_within_two_windows(still, moving, seed):
    assert first_alarm(still, "feature_drift", seed=seed, shift=0.5) == 1
    assert first_alarm(moving, "feature_drift", seed=seed, shift=0.5, moving=MOVING) <= 2


@pytest.mark.parametrize("seed", range(3))
def test_a_quarter_sigma_is_caught_within_three_windows(still, seed):
    assert first_alarm(still, "feature_drift", seed=seed, shift=0.25) <= 3


def test_two_more_missing_in_a_hundred_are_caught_within_three_windows(still):
    assert first_alarm(still, "feature_drift", missing=0.04) <= 3


def test_a_feature_that_was_never_missing_may_not_start_to_be(still):
    x, p, y = drawn(np.random.default_rng(1))
    x[:30, 5] = np.nan
    found = verdict(Evidence.none(), window_of(still, x, p, y), still, LIMITS, min_labelled=50)
    assert [(alert.kind, alert.contributors[0].name) for alert in found.alerts] == [("feature_drift", "feature 5")]


def test_scores_that_move_are_a_prediction_drift(still):
    assert first_alarm(still, "prediction_drift", shift=0.5) <= 2


@pytest.mark.parametrize("seed", range(3))
def test_a_concept_that_changes_is_a_performance_loss_and_nothing_else(still, seed):
    kinds = {alert.kind for found in judged(still, 2, seed, forget=0.6) for alert in found.alerts}
    assert kinds == {"performance_loss"}


def test_a_higher_base_rate_is_a_performance_loss_within_four_windows(still):
    assert first_alarm(still, "performance_loss", base=0.3) <= 4


def test_other_inputs_under_the_same_concept_are_no_performance_loss(still):
    assert first_alarm(still, "performance_loss", shift=0.25) == 11


def test_an_alert_names_what_moved_how_and_by_how_much(still):
    (found,) = judged(still, 1, shift=0.5)
    alert = next(alert for alert in found.alerts if alert.kind == "feature_drift")
    first = alert.contributors[0]
    assert (first.name, first.move) == ("feature 0", "higher values")
    assert first.by == pytest.approx(0.138, abs=0.02)
    assert alert.effect == first.psi > 0.15
    assert alert.evidence >= alert.threshold


def test_the_effect_of_a_performance_loss_is_the_growth_of_the_error(still):
    found = list(judged(still, 2, forget=0.6))[-1]
    assert 0.03 < found.alerts[0].effect < 0.12


def test_contributors_stand_in_the_order_of_their_evidence(still):
    (found,) = judged(still, 1, shift=0.5)
    evidence = [one.evidence for one in found.alerts[0].contributors]
    assert evidence == sorted(evidence, reverse=True)


def test_evidence_that_was_wrong_is_outlived(still):
    rng, state = np.random.default_rng(1), next(judged(still, 1, shift=0.5)).state
    alarmed = []
    for _ in range(6):
        found = verdict(state, window_of(still, *drawn(rng)), still, LIMITS, min_labelled=50)
        state = found.state
        alarmed.append(bool(found.alerts))
    assert not alarmed[-1]


def test_too_few_rows_change_nothing(still):
    state = next(judged(still, 1)).state
    found = verdict(state, window_of(still, *drawn(np.random.default_rng(1), rows=49)), still, LIMITS, min_labelled=50)
    assert (found.state, found.evidence, found.alerts) == (state, dict.fromkeys(KINDS), ())


def test_performance_waits_for_its_labels_alone(still):
    x, p, y = drawn(np.random.default_rng(1))
    window = of_predictions(still, x, p).merge(of_labels(still, p[:99], y[:99]))
    found = verdict(Evidence.none(), window, still, LIMITS, min_labelled=100)
    assert [kind for kind in KINDS if found.evidence[kind] is not None] == ["feature_drift", "prediction_drift"]


def test_a_profile_of_few_chunks_judges_nothing():
    profile = Profile.parse(document(chunks=29))
    (found,) = judged(profile, 1, shift=3.0)
    assert (profile.armed, found.alerts) == (False, ())


def test_the_state_survives_json(still):
    state = next(judged(still, 1)).state
    assert Evidence.from_json(json.loads(json.dumps(state.to_json()))) == state


def test_thresholds_share_the_budget():
    limits = thresholds(1.0)
    assert set(limits) == set(KINDS)
    assert sum(exp(-limit) for limit in limits.values()) == pytest.approx(0.01)
    assert limits["feature_drift"] == pytest.approx(log(200))


@pytest.mark.parametrize(("last", "allowed"), [(None, True), (0, True), (1, False), (99, False)])
def test_a_retraining_waits_for_the_cooldown(last, allowed):
    assert may_retrain(last, now_us=100, cooldown_us=100) == allowed
