import json

import numpy as np
import pytest
from scipy.stats import mannwhitneyu
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from mainstem.training.engine import (
    DAY_US,
    REFERENCE_ROWS,
    chunk_ids,
    delong_paired,
    evaluate,
    fit,
    reference_profile,
)
from mainstem.training.onnx_export import to_onnx


def drawn(rows=3000, seed=1):
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.normal(size=(rows, 3)), rng.integers(0, 5, rows)]).astype(np.float64)
    y = (x[:, 0] + 0.5 * x[:, 1] + rng.normal(size=rows) > 0.5).astype(np.int64)
    x[rng.random(x.shape) < 0.03] = np.nan
    return x, y


def scored(rows=3000, seed=2):
    """Labels and two overlapping scores of known kind: the first is better."""
    rng = np.random.default_rng(seed)
    signal, noise = rng.normal(size=rows), rng.normal(size=(2, rows))
    y = (signal + rng.normal(size=rows) > 0.8).astype(np.int64)
    expit = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731 - a formula, not a function
    return y, expit(signal + 0.3 * noise[0] - 1), np.round(expit(signal + 0.8 * noise[1] - 1), 2)


def profile_of(x, y, days=40):
    p = np.linspace(0.01, 0.99, len(y))
    return reference_profile(x, p, y, chunk_ids(np.arange(len(y)) * days * DAY_US // len(y)), list("abcd"))


def test_the_same_input_gives_the_same_onnx_bytes():
    x, y = drawn()
    first, second = (to_onnx(fit(x, y, {"max_iter": 20}, seed=7)) for _ in range(2))
    assert first == second


def test_a_fit_learns_what_can_be_learnt():
    (x, y), (unseen, truth) = drawn(seed=1), drawn(seed=9)
    model = fit(x, y, {"max_iter": 40}, seed=0)
    assert roc_auc_score(truth, model.predict_proba(unseen)[:, 1]) > 0.8


def test_categories_are_told_apart_by_name_not_by_size():
    x = np.random.default_rng(0).integers(0, 9, (2000, 1)).astype(np.float64)
    y = np.isin(x[:, 0], [1, 4, 6]).astype(np.int64)
    model = fit(x, y, {"max_iter": 20, "max_leaf_nodes": 2}, seed=0, categorical=[0])
    assert np.array_equal(model.predict(x), y)


def test_early_stopping_is_off_unless_asked_for():
    x, y = drawn(12_000)
    assert not fit(x, y, {"max_iter": 3}, seed=0).do_early_stopping_


@pytest.mark.parametrize("params", [{"max_itre": 3}, {"random_state": 3}, {"categorical_features": [1]}])
def test_a_parameter_that_does_not_exist_is_named(params):
    with pytest.raises(ValueError, match=next(iter(params))):
        fit(*drawn(100), params, seed=0)


@pytest.mark.parametrize("labels", [np.zeros(100, np.int64), np.ones(100, np.int64), np.arange(100) % 3])
def test_labels_without_both_classes_are_refused(labels):
    x = drawn(100)[0]
    with pytest.raises(ValueError, match="both 0 and 1"):
        fit(x, labels, {}, seed=0)
    with pytest.raises(ValueError, match="both 0 and 1"):
        evaluate(labels, x[:, 0])


def test_figures_equal_those_of_scikit_learn():
    y, p, _ = scored()
    found = evaluate(y, p)
    expected = (len(y), y.mean(), roc_auc_score(y, p), brier_score_loss(y, p), log_loss(y, p))
    assert (found.n, found.positive_rate, found.auc, found.brier, found.log_loss) == expected


def test_the_calibration_error_is_the_mean_gap_over_ten_equal_bins():
    y, p, _ = scored(1000)
    order = np.argsort(p)
    gaps = [abs(y[part].mean() - p[part].mean()) for part in np.split(order, 10)]
    assert evaluate(y, p).ece == pytest.approx(np.mean(gaps), abs=1e-12)


def test_calibrated_scores_have_a_small_calibration_error():
    rng = np.random.default_rng(0)
    p = rng.random(50_000)
    assert evaluate((rng.random(50_000) < p).astype(np.int64), p).ece < 0.01


def test_the_auc_difference_is_the_difference_of_the_aucs():
    y, new, old = scored()
    expected = roc_auc_score(y, new) - roc_auc_score(y, old)
    assert delong_paired(y, new, old, 0.95).difference == pytest.approx(expected, abs=1e-12)


def test_the_interval_agrees_with_the_bootstrap():
    y, new, old = scored(1500)
    rng, sides = np.random.default_rng(3), [np.flatnonzero(y == side) for side in (1, 0)]
    drawn = [rng.choice(side, (400, len(side))) for side in sides]
    aucs = [mannwhitneyu(*(p[rows] for rows in drawn), axis=1).statistic for p in (new, old)]
    spread = np.std((aucs[0] - aucs[1]) / len(sides[0]) / len(sides[1]))
    found = delong_paired(y, new, old, 0.95)
    assert (found.high - found.low) / 2 / 1.96 == pytest.approx(spread, rel=0.12)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(400):
        y = (rng.random(300) < 0.3).astype(np.int64)
        new, old = y + rng.normal(size=(2, 300))
        found = delong_paired(y, new, old, 0.9)
        covered += found.low <= 0 <= found.high
    assert 0.86 <= covered / 400 <= 0.94


def test_equal_scores_differ_by_exactly_nothing():
    y, new, _ = scored(200)
    assert delong_paired(y, new, new, 0.95) == (0.0, 0.0, 0.0)


def test_exchanging_the_two_scores_mirrors_the_interval():
    y, new, old = scored(500)
    found, mirrored = delong_paired(y, new, old, 0.95), delong_paired(y, old, new, 0.95)
    assert mirrored == pytest.approx((-found.difference, -found.high, -found.low), abs=1e-12)


@pytest.mark.parametrize(("days", "chunks"), [(1, 30), (29, 30), (30, 30), (45, 45), (60, 60), (61, 31), (180, 60)])
def test_a_reference_is_cut_into_whole_days_as_soon_as_it_has_thirty(days, chunks):
    times = np.arange(0, days * DAY_US, DAY_US // 48)
    assert len(np.unique(chunk_ids(times))) == chunks


def test_chunks_follow_time_whatever_the_order_of_rows():
    times = np.random.default_rng(0).permutation(np.arange(40) * DAY_US)
    assert np.array_equal(np.argsort(chunk_ids(times)), np.argsort(times))


def test_a_profile_survives_json():
    profile = profile_of(*drawn())
    assert json.loads(json.dumps(profile)) == profile


def test_bins_of_a_profile_hold_every_row_and_the_last_the_missing():
    x, y = drawn()
    for at, feature in enumerate(profile_of(x, y)["features"]):
        counts = np.array(feature["chunks"])
        assert counts.shape == (40, len(feature["edges"]) + 2)
        assert (counts.sum(), counts[:, -1].sum()) == (len(x), np.isnan(x[:, at]).sum())


def test_bins_of_a_continuous_feature_are_64_of_equal_mass():
    feature = profile_of(*drawn(6400))["features"][0]
    mass = np.array(feature["chunks"]).sum(0)[:-1]
    assert len(mass) == 64
    assert np.ptp(mass) <= 2


def test_a_feature_with_few_values_has_a_bin_for_each():
    x, y = drawn()
    feature = profile_of(x, y)["features"][3]
    counts = np.array(feature["chunks"]).sum(0)
    assert feature["edges"] == [0, 1, 2, 3, 4]
    assert counts[:5].tolist() == [np.count_nonzero(x[:, 3] == value) for value in range(5)]


def test_a_feature_that_is_always_missing_has_no_edges():
    x, y = drawn(200)
    x[:, 2] = np.nan
    feature = profile_of(x, y)["features"][2]
    assert (feature["edges"], np.array(feature["chunks"]).sum(0).tolist()) == ([], [0, 200])


def test_a_profile_quotes_rows_from_first_to_last_with_their_scores():
    x, y = drawn()
    x[0, 0] = np.nan
    reference = profile_of(x, y)["reference"]
    assert len(reference["rows"]) == len(reference["scores"]) == REFERENCE_ROWS
    assert (reference["scores"][0], reference["scores"][-1]) == (0.01, 0.99)
    for row, quoted in ((x[0], reference["rows"][0]), (x[-1], reference["rows"][-1])):
        assert np.array_equal(np.array(quoted, float), row, equal_nan=True)


def test_bands_of_the_score_add_up_to_the_figures():
    x, y = drawn(2000)
    p = np.linspace(0.01, 0.99, 2000)
    bands = {name: np.array(rows) for name, rows in profile_of(x, y)["bands"].items()}
    assert bands["rows"].sum(0).tolist() == [200] * 10
    assert bands["positives"].sum() == y.sum()
    assert bands["score"].sum() == pytest.approx(p.sum())
    assert bands["squared_error"].sum() / 2000 == pytest.approx(brier_score_loss(y, p))


def test_a_profile_without_rows_is_refused():
    with pytest.raises(ValueError, match="held-out rows"):
        reference_profile(np.empty((0, 1)), np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64), ["a"])
