"""A model made elsewhere comes in as its author made it, or is refused with the reason."""

import numpy as np
import onnx
import onnxruntime
import pytest
from services.training.tests.imported_models import classifier
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
from sklearn.ensemble import HistGradientBoostingClassifier

from mainstem.intake import Refused, Tensor, admit
from mainstem.training.imports import agreement, bring_in, check_probabilities
from mainstem.training.onnx_export import probabilities, to_onnx

ROWS = np.random.default_rng(5).normal(size=(3_000, 3)) * 10.0 ** np.arange(-3, 6, 3)


@pytest.mark.parametrize(("kind", "dtype"), [(FloatTensorType, np.float32), (DoubleTensorType, np.float64)])
def test_what_is_registered_answers_as_the_authors_file_to_the_last_bit(kind: type, dtype: type) -> None:
    original = classifier(3, kind)
    imported = bring_in(original, 3)
    session = onnxruntime.InferenceSession(original, providers=["CPUExecutionProvider"])
    for at in (0, 1, 7):
        row = ROWS[at : at + 1]
        expected = session.run(["probabilities"], {"X": row.astype(dtype)})[0]
        assert np.array_equal(probabilities(imported.onnx, row), expected.astype(np.float64))
    assert agreement(original, imported, ROWS).flips == 0
    assert agreement(original, imported, ROWS).max_abs_difference < 1e-6


def test_every_model_gets_the_signature_that_all_have_here() -> None:
    admitted = admit(bring_in(classifier(3), 3).onnx)
    assert admitted.inputs == (Tensor("features", "DOUBLE", (None, 3)),)
    assert admitted.outputs == (Tensor("probabilities", "DOUBLE", (None, 2)),)


def test_the_same_file_becomes_the_same_model() -> None:
    original = classifier(3)
    assert bring_in(original, 3).onnx == bring_in(original, 3).onnx


def test_a_model_that_has_the_signature_stays_as_it_is() -> None:
    ours = to_onnx(HistGradientBoostingClassifier(max_iter=3).fit(ROWS[:200], ROWS[:200, 0] > 0))
    assert bring_in(ours, 3).onnx == ours


def test_names_like_those_of_the_signature_do_not_collide() -> None:
    imported = bring_in(classifier(3, name="features"), 3)
    assert agreement(classifier(3, name="features"), imported, ROWS).flips == 0


def test_names_in_any_writing_are_kept_apart() -> None:
    assert agreement(classifier(3, name="größe"), bring_in(classifier(3, name="größe"), 3), ROWS).flips == 0


def test_another_width_is_refused_with_what_was_found() -> None:
    with pytest.raises(Refused, match=r"takes 'X' FLOAT \[rows, 3\]; .* one FLOAT or DOUBLE \[rows, 2\]"):
        bring_in(classifier(3), 2)


def test_a_model_without_probabilities_is_refused() -> None:
    model = onnx.load_from_string(classifier(3))
    del model.graph.output[1]
    with pytest.raises(Refused, match=r"gives 'label' INT64 \[rows\]; a model here gives"):
        bring_in(model.SerializeToString(), 3)


def test_a_map_is_refused_with_what_to_do() -> None:
    with pytest.raises(Refused, match="zipmap=False"):
        bring_in(classifier(3, zipmap=True), 3)


def test_answers_that_are_no_numbers_or_no_probabilities_are_refused() -> None:
    check_probabilities(np.array([[0.25, 0.75], [1.0, 0.0]]))
    with pytest.raises(Refused, match=r"no number for 1 of 2 held-out rows; have it fill in missing values"):
        check_probabilities(np.array([[0.25, 0.75], [np.nan, np.nan]]))
    for wrong in ([1.5, -0.5], [0.3, 0.3]):
        with pytest.raises(Refused, match="1 of 1 held-out rows are no probabilities"):
            check_probabilities(np.array([wrong]))


def test_agreement_sees_another_model() -> None:
    other = bring_in(to_onnx(HistGradientBoostingClassifier(max_iter=3).fit(ROWS[:200], ROWS[:200, 1] > 0)), 3)
    original = classifier(3, DoubleTensorType)
    assert agreement(original, bring_in(original, 3)._replace(onnx=other.onnx), ROWS).flips > 100


def test_agreement_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        agreement(b"", bring_in(classifier(3), 3), ROWS[:0])
