"""Models as their authors make them: of scikit-learn by way of skl2onnx, ours, and plain graphs."""

import warnings
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
from sklearn.calibration import CalibratedClassifierCV
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, MinMaxScaler, PolynomialFeatures, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

WIDTH: Final = 6
RNG = np.random.default_rng(11)
X = RNG.normal(size=(400, WIDTH))
Y = (X[:, 0] + X[:, 1] * X[:, 2] + RNG.normal(size=400) > 0).astype(np.int64)
_SMALL: Final = {"n_estimators": 5, "random_state": 1}


def estimators() -> dict[str, Any]:
    """Return unfitted estimators, by name."""
    tree = DecisionTreeClassifier(max_depth=4, random_state=1)
    return {
        "logistic regression": LogisticRegression(),
        "scaled logistic regression": make_pipeline(StandardScaler(), LogisticRegression()),
        "imputed and scaled": make_pipeline(SimpleImputer(), MinMaxScaler(), LogisticRegression()),
        "polynomial features": make_pipeline(PolynomialFeatures(2), LogisticRegression()),
        "bins": make_pipeline(
            KBinsDiscretizer(4, encode="onehot-dense", quantile_method="averaged_inverted_cdf"), LogisticRegression()
        ),
        "stochastic gradient descent": SGDClassifier(loss="log_loss", random_state=1),
        "linear discriminant": LinearDiscriminantAnalysis(),
        "naive Bayes": GaussianNB(),
        "decision tree": tree,
        "random forest": RandomForestClassifier(**_SMALL),
        "imputed forest": make_pipeline(SimpleImputer(strategy="median"), RandomForestClassifier(**_SMALL)),
        "extra trees": ExtraTreesClassifier(**_SMALL),
        "gradient boosting": GradientBoostingClassifier(**_SMALL),
        "histogram gradient boosting": HistGradientBoostingClassifier(max_iter=5),
        "adaptive boosting": AdaBoostClassifier(**_SMALL),
        "bagging": BaggingClassifier(tree, **_SMALL),
        "voting": VotingClassifier(
            [("tree", tree), ("line", LogisticRegression())], voting="soft", flatten_transform=False
        ),
        "stacking": StackingClassifier([("tree", tree), ("line", LogisticRegression())]),
        "support vectors": CalibratedClassifierCV(SVC(), cv=2),
        "neural network": MLPClassifier((8,), max_iter=50, random_state=1),
        "linear regression": LinearRegression(),
        "boosted regression": GradientBoostingRegressor(**_SMALL),
    }


def converted(estimator: Any, kind: type = FloatTensorType, opset: int | None = None) -> bytes:
    """Return a fitted estimator as its author would convert it."""
    options = {id(estimator): {"zipmap": False}} if hasattr(estimator, "predict_proba") else None
    target = None if opset is None else {"": opset, "ai.onnx.ml": 3}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = to_onnx(estimator, initial_types=[("X", kind([None, WIDTH]))], options=options, target_opset=target)
    return bytes(made.SerializeToString())


def of_scikit_learn() -> Mapping[str, bytes]:
    """Return every estimator converted for float32, a few for float64 and for older operator sets."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a network is not trained to its end is no matter here
        fitted = {name: estimator.fit(X, Y) for name, estimator in estimators().items()}
    found = {name: converted(estimator) for name, estimator in fitted.items()}
    line, forest = fitted["scaled logistic regression"], fitted["random forest"]
    found["float64"] = converted(line, DoubleTensorType)
    return {**found, **{f"operator set {opset}": converted(forest, opset=opset) for opset in (9, 12, 15, 18)}}


def _value(name: str, shape: list[int | None], kind: int) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def plain(kind: int, opset: int) -> bytes:
    """Return a layer of a network in numbers of a kind."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    weights = numpy_helper.from_array(np.ones((4, 2), dtype), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Neg", ["h"], ["y"])]
    graph = helper.make_graph(nodes, "g", [_value("x", [None, 4], kind)], [_value("y", [None, 2], kind)], [weights])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=4)
    return bytes(made.SerializeToString())


def choosing() -> bytes:
    """Return a graph that does the same in another way with one row than with many, and a description of two lines."""

    def branch(operator: str, **attributes: float) -> Any:
        out = [_value("y", [None, 3], TensorProto.FLOAT)]
        return helper.make_graph([helper.make_node(operator, ["x"], ["y"], **attributes)], operator, [], out)

    nodes = [
        helper.make_node("Shape", ["x"], ["rows"], end=1),
        helper.make_node("Greater", ["rows", "one"], ["many"]),
        helper.make_node("If", ["many"], ["y"], then_branch=branch("Relu"), else_branch=branch("LeakyRelu", alpha=0.0)),
    ]
    one = numpy_helper.from_array(np.array([1]), "one")
    taken, given = _value("x", [None, 3], TensorProto.FLOAT), _value("y", [None, 3], TensorProto.FLOAT)
    graph = helper.make_graph(nodes, "g", [taken], [given], [one], doc_string="Chooses.\nTwice.")
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8, doc_string="Two\nlines")
    made.metadata_props.add(key="author", value="Zoë")
    return bytes(made.SerializeToString())


def names() -> bytes:
    """Return a graph from texts to numbers."""
    node = helper.make_node(
        "LabelEncoder", ["x"], ["y"], domain="ai.onnx.ml", keys_strings=["a", "b"], values_int64s=[1, 2]
    )
    taken, given = _value("x", [None, 1], TensorProto.STRING), _value("y", [None, 1], TensorProto.INT64)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 2)]
    graph = helper.make_graph([node], "g", [taken], [given])
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def embedded(size: int) -> bytes:
    """Return a graph that looks its first number, one of so many categories, up in a table, and takes no other."""
    table = numpy_helper.from_array(RNG.normal(size=(size, 2)), "table")
    parts = numpy_helper.from_array(np.array([1, 2]), "parts")
    nodes = [
        helper.make_node("Split", ["x", "parts"], ["hour", "rest"], axis=1),
        helper.make_node("Cast", ["hour"], ["place"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "place"], ["looked"]),
        helper.make_node("ReduceSum", ["looked", "middle"], ["known"], keepdims=0),
        helper.make_node("Add", ["known", "rest"], ["sum"]),
        helper.make_node("Softmax", ["sum"], ["y"], axis=1),
    ]
    middle = numpy_helper.from_array(np.array([1]), "middle")
    taken, given = _value("x", [None, 3], TensorProto.DOUBLE), _value("y", [None, 2], TensorProto.DOUBLE)
    graph = helper.make_graph(nodes, "g", [taken], [given], [table, parts, middle])
    return bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10).SerializeToString()
    )


def many_datatypes() -> bytes:
    """Return a graph that adds what it takes in columns of a datatype each, and one number that is for all rows."""
    kinds = {"a": TensorProto.BOOL, "b": TensorProto.UINT8, "c": TensorProto.INT64, "d": TensorProto.FLOAT16}
    nodes = [helper.make_node("Cast", [name], [f"{name}1"], to=TensorProto.FLOAT) for name in kinds]
    nodes.append(
        helper.make_node(
            "LabelEncoder", ["text"], ["text1"], domain="ai.onnx.ml", keys_strings=["1"], values_floats=[1.0]
        )
    )
    nodes.append(helper.make_node("Sum", [*(f"{name}1" for name in kinds), "text1", "all"], ["y"]))
    inputs = [_value(name, [None, 1], kind) for name, kind in kinds.items()]
    inputs += [_value("text", [None, 1], TensorProto.STRING), _value("all", [1, 1], TensorProto.FLOAT)]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 2)]
    graph = helper.make_graph(nodes, "g", inputs, [_value("y", [None, 1], TensorProto.FLOAT)])
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def forest(trees: int, depth: int) -> bytes:
    """Return a classifier of full trees, as skl2onnx writes one: 2 to the power of `depth` leaves in each."""
    nodes, leaf = np.tile(np.arange(2 ** (depth + 1) - 1), trees), 2**depth - 1
    inner, in_tree = nodes < leaf, np.repeat(np.arange(trees), 2 ** (depth + 1) - 1)
    lists: dict[str, np.ndarray[Any, Any]] = {
        "nodes_treeids": in_tree,
        "nodes_nodeids": nodes,
        "nodes_featureids": RNG.integers(0, WIDTH, len(nodes)) * inner,
        "nodes_values": RNG.normal(size=len(nodes)).astype(np.float32) * inner,
        "nodes_hitrates": np.ones(len(nodes), np.float32),
        "nodes_missing_value_tracks_true": np.zeros(len(nodes), int),
        "nodes_truenodeids": np.where(inner, 2 * nodes + 1, 0),
        "nodes_falsenodeids": np.where(inner, 2 * nodes + 2, 0),
        "class_treeids": in_tree[~inner],
        "class_nodeids": nodes[~inner],
        "class_ids": np.zeros(len(nodes) - inner.sum(), int),
        "class_weights": RNG.random(len(nodes) - inner.sum(), np.float32) / trees,
    }
    said = {**{name: each.tolist() for name, each in lists.items()}, "classlabels_int64s": [0, 1]}
    modes = ["BRANCH_LEQ" if each else "LEAF" for each in inner]
    outputs = [_value("label", [None], TensorProto.INT64), _value("y", [None, 2], TensorProto.FLOAT)]
    node = helper.make_node(
        "TreeEnsembleClassifier", ["x"], ["label", "y"], domain="ai.onnx.ml", nodes_modes=modes, **said
    )
    graph = helper.make_graph([node], "g", [_value("x", [None, WIDTH], TensorProto.FLOAT)], outputs)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def of_hand() -> Mapping[str, bytes]:
    """Return graphs that somebody wrote."""
    kinds = {"half": (TensorProto.FLOAT16, 13), "single": (TensorProto.FLOAT, 7), "double": (TensorProto.DOUBLE, 11)}
    return {
        **{name: plain(kind, opset) for name, (kind, opset) in kinds.items()},
        "whole numbers": plain(TensorProto.INT32, 21),
        "a choice": choosing(),
        "texts": names(),
        "a table of hours": embedded(24),
        "a table of yes and no": embedded(2),
        "many datatypes": many_datatypes(),
    }
