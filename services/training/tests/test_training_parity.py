"""A million rows on which export and estimator could differ: not one decides otherwise."""

from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from mainstem.training.engine import fit
from mainstem.training.onnx_export import scores, to_onnx

Floats = NDArray[np.float64]

#: Rows of each of the cases below.
ROWS = 100_000
CATEGORIES = {1: np.arange(5.0), 3: np.arange(-20.0, 40.0), 4: np.arange(250.0)}

CASES = {
    "small": ({"max_iter": 10, "max_leaf_nodes": 4}, "float64", False),
    "as served": ({"max_iter": 100}, "float64", False),
    "deep": ({"max_iter": 50, "max_leaf_nodes": 255, "min_samples_leaf": 2}, "float64", False),
    "coarse": ({"max_iter": 60, "max_bins": 8, "l2_regularization": 3.0}, "float64", False),
    "stumps": ({"max_iter": 150, "max_depth": 1}, "float64", False),
    "float32": ({"max_iter": 60}, "float32", False),
    "whole numbers": ({"max_iter": 60}, "int64", False),
    "categories": ({"max_iter": 80}, "float64", True),
    "categories, deep": ({"max_iter": 40, "max_leaf_nodes": 127, "min_samples_leaf": 3}, "float64", True),
    "categories, float32": ({"max_iter": 60, "min_samples_leaf": 5}, "float32", True),
    "rising": ({"max_iter": 60, "monotonic_cst": [1, 0, 0, 0, 0, -1]}, "float64", False),
}


def drawn(kind: str, categorical: bool, seed: int, rows: int = 6_000) -> tuple[Floats, NDArray[np.int64]]:
    """Return rows from small to 1e9 with ties and missing values, in numbers that a kind can hold."""
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.normal(size=(rows, 5)) * [1, 10, 100, 1_000, 1e-3], 1.7e9 + rng.integers(0, 10**7, rows)])
    if categorical:
        for at, known in CATEGORIES.items():
            x[:, at] = rng.choice(known, rows)
    signal = np.tanh(x[:, 0]) + (x[:, 1] > 1) * (x[:, 3] > 0) + (x[:, 5] > 1.705e9) + np.sin(x[:, 4])
    x = x.astype(kind).astype(np.float64)
    x[rng.random(x.shape) < 0.05] = np.nan
    return x, (signal + rng.normal(size=rows) > 1).astype(np.int64)


def edges(estimator: HistGradientBoostingClassifier, categorical: bool) -> Iterator[tuple[int, Floats]]:
    """Yield for each column the values at which a tree turns, with their neighbours, and those that none has seen."""
    front = sorted(CATEGORIES) if categorical else []
    order = front + [at for at in range(6) if at not in front]
    nodes = np.concatenate([tree.nodes for (tree,) in estimator._predictors])
    split = nodes[(nodes["is_leaf"] == 0) & (nodes["is_categorical"] == 0)]
    for place, at in enumerate(order):
        if at in front:
            unseen = [-21.0, 5.0, 40.0, 250.0, 1e6]
            yield at, np.array([*CATEGORIES[at], *unseen, np.nan])
        else:
            exact = split["num_threshold"][split["feature_idx"] == place]
            near = [np.nextafter(exact, side) for side in (-np.inf, np.inf)]
            yield at, np.concatenate([exact, *near, [np.nan, np.inf, -np.inf, 0.0, -0.0]])


def hardest(estimator: HistGradientBoostingClassifier, kind: str, categorical: bool) -> Floats:
    """Return rows of which three cells in four lie at an edge of their column."""
    rng = np.random.default_rng(9)
    x = drawn(kind, categorical, 8, ROWS)[0]
    for at, values in edges(estimator, categorical):
        moved = rng.random(ROWS) < 0.75
        x[moved, at] = rng.choice(values, int(moved.sum()))
    x[0] = np.nan
    return x


@pytest.mark.parametrize("case", CASES)
def test_no_row_of_a_million_is_decided_otherwise(case: str) -> None:
    params, kind, categorical = CASES[case]
    estimator = fit(*drawn(kind, categorical, 7), params, 0, sorted(CATEGORIES) if categorical else ())
    rows = hardest(estimator, kind, categorical)
    expected, found = estimator.predict_proba(rows)[:, 1], scores(to_onnx(estimator), rows)
    assert int(((expected > 0.5) != (found > 0.5)).sum()) == 0
    assert float(np.abs(expected - found).max()) <= 1e-12


def test_the_cases_are_a_million_rows() -> None:
    assert len(CASES) * ROWS >= 1_000_000


def test_thresholds_in_float32_would_be_seen() -> None:
    """A control: these rows tell an export that is nearly right from one that is."""
    estimator = fit(*drawn("float64", False, 7), {"max_iter": 60}, 0)
    exported = onnx.load_from_string(to_onnx(estimator))
    splits = next(each.t for each in exported.graph.node[0].attribute if each.name == "nodes_splits")
    rounded = onnx.numpy_helper.to_array(splits).astype(np.float32).astype(np.float64)
    splits.CopyFrom(onnx.numpy_helper.from_array(rounded))
    rows = hardest(estimator, "float64", False)
    found = scores(exported.SerializeToString(), rows)
    assert ((estimator.predict_proba(rows)[:, 1] > 0.5) != (found > 0.5)).any()
