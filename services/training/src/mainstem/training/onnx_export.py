"""Exact export of gradient-boosted trees to ONNX, and the check that it is exact.

The usual converter rounds thresholds to float32, so a value near a threshold can take the other branch.
Here every tree goes into one `ai.onnx.ml` TreeEnsemble (opset 5) in float64: same thresholds, same categories,
same leaves, same side for missing values.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor

#: Name of the one input, float64 [rows, features], NaN = missing.
INPUT = "features"
#: Name of the one output, float64 [rows, 2]: probability of the negative and of the positive class.
OUTPUT = "probabilities"

BRANCH_LEQ, BRANCH_MEMBER = 0, 6
SUM, NO_TRANSFORM = 1, 0
SPECIAL_ROWS_PER_FEATURE = 64

Floats = NDArray[np.float64]


class NotExportable(ValueError):
    """The estimator holds something the export does not carry over exactly."""


@dataclass(frozen=True, slots=True)
class Parity:
    """How far the exported model is from the estimator over `rows` rows; `flips` counts changed classes."""

    rows: int
    max_abs_difference: float
    flips: int


def to_onnx(estimator: HistGradientBoostingClassifier) -> bytes:
    """Return the fitted binary classifier as an ONNX model; the same estimator gives the same bytes.

    Categories must be whole numbers at scoring too: the runtime cuts the fraction off before it looks a category up.
    Raises NotExportable for more than two classes.
    """
    if estimator.n_trees_per_iteration_ != 1:
        raise NotExportable(f"{len(estimator.classes_)} classes; only two can be exported, recode the label")
    ensemble = _Ensemble(_Columns.of(estimator))
    for (tree,) in estimator._predictors:
        ensemble.add(tree)
    baseline = np.asarray(estimator._baseline_prediction, np.float64).reshape(1, 1)
    model = helper.make_model(
        _graph(ensemble, baseline, int(estimator.n_features_in_)),
        opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 5)],
        ir_version=10,
        producer_name="mainstem",
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def scores(model: bytes, rows: Floats) -> Floats:
    """Return the probability of the positive class for each row, as ONNX Runtime computes it on one thread."""
    return probabilities(model, rows)[:, 1]


def probabilities(model: bytes, rows: Floats) -> Floats:
    """Return the probabilities of both classes for each row, float64 [rows, 2], computed as `scores` are."""
    (found,) = loaded(model).run([OUTPUT], {INPUT: np.ascontiguousarray(rows, np.float64)})
    return np.asarray(found, np.float64)


def loaded(model: bytes) -> onnxruntime.InferenceSession:
    """Return a model that passed the gate, loaded to run on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # that a file holds a constant which nothing uses is no news
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def parity(estimator: HistGradientBoostingClassifier, model: bytes, rows: Floats) -> Parity:
    """Compare estimator and exported model on the rows and on the rows most likely to differ.

    These are copies of given rows with one feature set to each threshold of the trees, to its two neighbours in
    float64, to missing, or to a category never seen, and one row with nothing but missing values.
    Raises ValueError without rows.
    """
    if not len(rows):
        raise ValueError("parity needs at least one row to vary; pass held-out rows")
    columns = _Columns.of(estimator)
    special = [(at, value) for at in range(rows.shape[1]) for value in columns.outside(at)]
    special *= min(len(rows), SPECIAL_ROWS_PER_FEATURE)
    boundaries = list(_boundaries(estimator, columns))
    nothing = np.full((1, rows.shape[1]), np.nan)
    everything = np.concatenate([rows, _varied(rows, boundaries), _varied(rows, special), nothing])
    expected, found = estimator.predict_proba(everything), probabilities(model, everything)
    flips = np.count_nonzero(expected.argmax(1) != found.argmax(1))
    return Parity(len(everything), float(np.abs(expected - found).max()), int(flips))


@dataclass(frozen=True, slots=True)
class _Columns:
    """The estimator moves categorical columns to the front and numbers their categories; this leads back."""

    order: list[int]
    categories: list[Floats]

    @classmethod
    def of(cls, estimator: HistGradientBoostingClassifier) -> Self:
        width, flags = int(estimator.n_features_in_), estimator.is_categorical_
        front = [] if flags is None else np.flatnonzero(flags).tolist()
        encoder = estimator._preprocessor.named_transformers_["encoder"] if front else None
        categories = [np.asarray(known, np.float64) for known in encoder.categories_] if encoder else []
        return cls(front + [at for at in range(width) if at not in front], categories)

    def outside(self, at: int) -> list[float]:
        """Return values of a feature that lie outside what training saw as ordinary: missing, unknown categories."""
        if at not in self.order[: len(self.categories)]:
            return [np.nan]
        known = self.categories[self.order.index(at)]
        return [np.nan, float(np.nanmax(known)) + 1, float(np.nanmin(known)) - 1]


@dataclass(slots=True)
class _Ensemble:
    """Attributes of the operator, filled tree by tree: parallel lists over inner nodes and over leaves."""

    columns: _Columns
    roots: list[int] = field(default_factory=list)
    features: list[int] = field(default_factory=list)
    modes: list[int] = field(default_factory=list)
    thresholds: list[float] = field(default_factory=list)
    missing_true: list[int] = field(default_factory=list)
    true: list[tuple[int, int]] = field(default_factory=list)
    false: list[tuple[int, int]] = field(default_factory=list)
    leaves: list[float] = field(default_factory=list)
    members: list[float] = field(default_factory=list)

    def add(self, tree: TreePredictor) -> None:
        """Append a tree; a tree that is one leaf becomes a split with that leaf on both sides."""
        nodes = tree.nodes
        self.roots.append(len(self.features))
        inner = np.flatnonzero(nodes["is_leaf"] == 0)
        position = {int(node): len(self.features) + at for at, node in enumerate(inner)}
        if not len(inner):
            self._node(0, BRANCH_LEQ, 0.0, 0)
            self.true.append(self._child(nodes, 0, position))
            self.false.append(self.true[-1])
        for node in nodes[inner]:
            feature, left, right = int(node["feature_idx"]), int(node["left"]), int(node["right"])
            if not node["is_categorical"]:
                self._node(feature, BRANCH_LEQ, float(node["num_threshold"]), int(node["missing_go_to_left"]))
            elif self._members(feature, tree.raw_left_cat_bitsets[node["bitset_idx"]], node["missing_go_to_left"]):
                left, right = right, left
            self.true.append(self._child(nodes, left, position))
            self.false.append(self._child(nodes, right, position))

    def _node(self, feature: int, mode: int, threshold: float, missing_true: int) -> None:
        self.features.append(self.columns.order[feature])
        self.modes.append(mode)
        self.thresholds.append(threshold)
        self.missing_true.append(missing_true)

    def _members(self, feature: int, bitset: NDArray[np.uint32], missing_left: int) -> bool:
        """Append a split by category; tell whether its sides are exchanged.

        An unknown category must follow the missing values. So their side is the false one, and the other side's
        categories are listed, with NaN as the end of the list.
        """
        known = self.columns.categories[feature]
        left = [code for code in range(len(known)) if bitset[code // 32] >> (code % 32) & 1]
        listed = [code for code in range(len(known)) if (code in left) != bool(missing_left)]
        values = [float(known[code]) for code in listed if not np.isnan(known[code])]
        self._node(feature, BRANCH_MEMBER, 0.0, 0)
        self.members += [*(values or [-np.inf]), np.nan]
        return bool(missing_left)

    def _child(self, nodes: NDArray[np.void], node: int, position: dict[int, int]) -> tuple[int, int]:
        """Return the child's index and whether it is a leaf."""
        if node in position:
            return position[node], 0
        self.leaves.append(float(nodes["value"][node]))
        return len(self.leaves) - 1, 1


def _graph(ensemble: _Ensemble, baseline: Floats, features: int) -> onnx.GraphProto:
    """Return the logistic function of the sum of leaves and baseline, for both signs.

    The runtime computes it for two numbers at a time and for a lone last one by another formula, one unit in the
    last place apart. Two numbers a row keep every row on the first formula, so no score depends on its batch.
    """
    memberships = {"membership_values": _tensor(ensemble.members)} if ensemble.members else {}
    trees = helper.make_node(
        "TreeEnsemble",
        [INPUT],
        ["leaves"],
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function=SUM,
        post_transform=NO_TRANSFORM,
        tree_roots=ensemble.roots,
        nodes_featureids=ensemble.features,
        nodes_splits=_tensor(ensemble.thresholds),
        nodes_modes=numpy_helper.from_array(np.asarray(ensemble.modes, np.uint8)),
        nodes_missing_value_tracks_true=ensemble.missing_true,
        nodes_truenodeids=[node for node, _ in ensemble.true],
        nodes_trueleafs=[leaf for _, leaf in ensemble.true],
        nodes_falsenodeids=[node for node, _ in ensemble.false],
        nodes_falseleafs=[leaf for _, leaf in ensemble.false],
        leaf_targetids=[0] * len(ensemble.leaves),
        leaf_weights=_tensor(ensemble.leaves),
        **memberships,
    )
    nodes = [
        trees,
        helper.make_node("Add", ["leaves", "baseline"], ["raw"]),
        helper.make_node("Neg", ["raw"], ["minus"]),
        helper.make_node("Concat", ["minus", "raw"], ["both"], axis=1),
        helper.make_node("Sigmoid", ["both"], [OUTPUT]),
    ]
    constants = [numpy_helper.from_array(baseline, "baseline")]
    taken = helper.make_tensor_value_info(INPUT, TensorProto.DOUBLE, [None, features])
    given = helper.make_tensor_value_info(OUTPUT, TensorProto.DOUBLE, [None, 2])
    return helper.make_graph(nodes, "gradient_boosted_trees", [taken], [given], constants)


def _tensor(values: list[float]) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, np.float64))


def _varied(rows: Floats, changes: list[tuple[int, float]]) -> Floats:
    """Return a copy of a row, in turn, for each (feature, value), with the feature set to the value."""
    at, change = np.arange(len(changes)), np.array(changes, np.float64).reshape(-1, 2)
    copies = rows[at % len(rows)]
    copies[at, change[:, 0].astype(np.intp)] = change[:, 1]
    return copies


def _boundaries(estimator: HistGradientBoostingClassifier, columns: _Columns) -> Iterator[tuple[int, float]]:
    """Yield (feature, value) for each threshold and its two neighbours in float64."""
    for (tree,) in estimator._predictors:
        nodes = tree.nodes
        for node in nodes[(nodes["is_leaf"] == 0) & (nodes["is_categorical"] == 0)]:
            threshold = node["num_threshold"]
            for value in (np.nextafter(threshold, -np.inf), threshold, np.nextafter(threshold, np.inf)):
                yield columns.order[int(node["feature_idx"])], float(value)
