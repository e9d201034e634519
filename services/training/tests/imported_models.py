"""Models as others make them, for a feature set of so many columns."""

import warnings
from typing import Any

import numpy as np
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def converted(estimator: Any, width: int, kind: type = FloatTensorType, name: str = "X", **options: Any) -> bytes:
    """Return a fitted classifier as its author converts it: label and probabilities, without a map."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given = {id(estimator): {"zipmap": False, **options}}
        return bytes(to_onnx(estimator, initial_types=[(name, kind([None, width]))], options=given).SerializeToString())


def classifier(width: int = 1, kind: type = FloatTensorType, name: str = "X", **options: Any) -> bytes:
    """Return a classifier of so many columns, most like the first of them."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(500, width))
    filled = [SimpleImputer()] if kind is FloatTensorType else []  # the runtime has none for float64
    estimator = make_pipeline(*filled, StandardScaler(), LogisticRegression())
    return converted(estimator.fit(x, x[:, 0] + rng.normal(size=500) > 0), width, kind, name, **options)
