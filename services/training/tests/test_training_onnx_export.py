import numpy as np
import onnx
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from mainstem.training.onnx_export import INPUT, OUTPUT, NotExportable, parity, scores, to_onnx


def drawn(rows=4000, seed=3):
    """Rows with scales from 1 to 1e9, ties and missing values, and a label that depends on all of them."""
    rng = np.random.default_rng(seed)
    x = np.column_stack(
        [
            rng.normal(size=(rows, 3)) * 100,
            1.7e9 + rng.integers(0, 10**7, rows),
            rng.integers(0, 24, (rows, 2)),
        ]
    ).astype(np.float64)
    signal = x[:, 0] / 100 + (x[:, 3] > 1.705e9) + 0.1 * x[:, 4] * (x[:, 1] > 0)
    x[rng.random(x.shape) < 0.05] = np.nan
    return x, (signal + rng.normal(size=rows) > 1.5).astype(np.int64)


def fitted(**params):
    return HistGradientBoostingClassifier(max_iter=40, random_state=0, early_stopping=False, **params).fit(*drawn())


@pytest.fixture(scope="module")
def model():
    return fitted()


def test_no_row_changes_its_class_and_probabilities_agree_to_the_last_digits(model):
    found = parity(model, to_onnx(model), drawn(seed=4)[0])
    assert found.flips == 0
    assert found.max_abs_difference <= 1e-12
    assert found.rows > 4000 + 3 * 40


@pytest.mark.parametrize("params", [{"max_depth": 1}, {"max_leaf_nodes": 2}, {"l2_regularization": 5.0, "max_bins": 7}])
def test_other_shapes_of_trees_are_exact_too(params):
    model = fitted(**params)
    found = parity(model, to_onnx(model), drawn(seed=5)[0])
    assert (found.flips, found.max_abs_difference <= 1e-12) == (0, True)


def test_missing_values_take_the_side_that_training_found():
    x = np.where(np.arange(400)[:, None] % 2, np.nan, np.arange(400.0)[:, None])
    y = (np.arange(400) % 2 == 1).astype(np.int64)
    model = HistGradientBoostingClassifier(max_iter=5, random_state=0).fit(x, y)
    assert np.abs(scores(to_onnx(model), x) - model.predict_proba(x)[:, 1]).max() <= 1e-12


def with_categories(rows=4000, seed=6):
    """Two numbers around three categories: few, many, and some that are no whole numbers; some missing."""
    rng = np.random.default_rng(seed)
    few, many, odd = rng.integers(0, 5, rows), rng.integers(-20, 40, rows), rng.integers(0, 9, rows) * 1.5
    x = np.column_stack([rng.normal(size=rows), few, rng.normal(size=rows), many, odd])
    signal = x[:, 0] + np.isin(few, [1, 4]) + 1.5 * np.isin(many, [-19, 3, 7, 31]) - (odd == 4.5)
    x[rng.random(x.shape) < 0.05] = np.nan
    return x, (signal + rng.normal(size=rows) > 0.8).astype(np.int64)


def test_categories_known_unknown_and_missing_are_exact():
    model = HistGradientBoostingClassifier(max_iter=60, categorical_features=[1, 3, 4], random_state=0)
    model.fit(*with_categories())
    assert sum(int(tree.nodes["is_categorical"].sum()) for (tree,) in model._predictors) > 60
    found = parity(model, to_onnx(model), with_categories(seed=7)[0])
    assert (found.flips, found.max_abs_difference <= 1e-12) == (0, True)


def test_infinite_inputs_are_exact(model):
    x = drawn()[0][:100]
    x[::2, 0], x[1::2, 3] = np.inf, -np.inf
    assert np.abs(scores(to_onnx(model), x) - model.predict_proba(x)[:, 1]).max() <= 1e-12


def test_a_tree_that_is_a_single_leaf_is_exact():
    x, y = np.zeros((60, 2)), np.arange(60) % 3 == 0
    model = HistGradientBoostingClassifier(max_iter=3, random_state=0).fit(x, y)
    assert all(len(tree.nodes) == 1 for (tree,) in model._predictors)
    found = parity(model, to_onnx(model), x)
    assert (found.rows, found.flips, found.max_abs_difference <= 1e-12) == (60 + 2 * 60 + 1, 0, True)


def test_single_leaves_among_split_trees_are_exact():
    x = np.repeat([[0.0], [1.0]], 50, axis=0)
    model = HistGradientBoostingClassifier(max_iter=60, learning_rate=1.0, random_state=0).fit(x, x[:, 0] > 0)
    assert {len(tree.nodes) for (tree,) in model._predictors} == {1, 3}
    assert np.abs(scores(to_onnx(model), x) - model.predict_proba(x)[:, 1]).max() <= 1e-12


def test_the_same_estimator_gives_the_same_bytes(model):
    assert to_onnx(model) == to_onnx(model) == to_onnx(fitted())


def test_the_model_takes_and_gives_float64_of_the_stated_names(model):
    graph = onnx.load_from_string(to_onnx(model)).graph
    assert [(end.name, end.type.tensor_type.elem_type) for end in (*graph.input, *graph.output)] == [
        (INPUT, onnx.TensorProto.DOUBLE),
        (OUTPUT, onnx.TensorProto.DOUBLE),
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 65, 129])
def test_the_bits_of_a_score_do_not_depend_on_its_batch(model, size):
    x, exported = drawn(400)[0], to_onnx(model)
    pieces = [scores(exported, x[at : at + size]) for at in range(0, len(x), size)]
    assert np.array_equal(np.concatenate(pieces), scores(exported, x))


def test_parity_sees_a_model_whose_thresholds_moved(model):
    exported = onnx.load_from_string(to_onnx(model))
    attributes = {attribute.name: attribute for attribute in exported.graph.node[0].attribute}
    splits = onnx.numpy_helper.to_array(attributes["nodes_splits"].t)
    rounded = splits.astype(np.float32).astype(np.float64)
    attributes["nodes_splits"].t.CopyFrom(onnx.numpy_helper.from_array(rounded))
    assert parity(model, exported.SerializeToString(), drawn()[0]).max_abs_difference > 1e-6


def test_three_classes_are_refused():
    x, _ = drawn(300)
    model = HistGradientBoostingClassifier(max_iter=2).fit(x, np.arange(300) % 3)
    with pytest.raises(NotExportable, match="3 classes"):
        to_onnx(model)


def test_parity_without_rows_is_refused(model):
    with pytest.raises(ValueError, match="at least one row"):
        parity(model, to_onnx(model), np.empty((0, 6)))
