"""Rows are drawn for every datatype, and one that is answered alone is answered so beside others."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
import pytest
from libs.intake.tests.honest_models import embedded, many_datatypes, names
from libs.intake.tests.hostile_models import (
    failing_beside_others,
    looking_up,
    mixing_of,
    mixing_while_small,
    mixing_with_a_table,
    node,
    of_zeros_alone,
    sane,
)
from libs.intake.tests.mixing_models import (
    MIXED,
    filling_with_the_mean,
    mixing_in_a_choice,
    mixing_what_is_missing,
    mixing_what_is_whole,
    mixing_where,
)
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, numpy_helper

from mainstem.intake.apart import check_apart
from mainstem.intake.structure import SIZES, Unfit
from mainstem.intake.verdict import Tensor

#: How many rows are in a batch that serving makes of the calls of more than one.
SIZES_OF_BATCHES = range(2, 65)


def judge(content: bytes, *inputs: Tensor, gives: Tensor) -> None:
    """Look at a model as the sandbox does."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    check_apart(session, inputs, [gives])


def four(name: str, datatype: str = "DOUBLE") -> Tensor:
    """Return a tensor of four numbers a row."""
    return Tensor(name, datatype, (None, 4))


@pytest.mark.parametrize("kind", sorted(SIZES), ids=TensorProto.DataType.Name)
def test_rows_of_every_datatype_that_know_each_other_are_seen(kind: int) -> None:
    taken = four("x", TensorProto.DataType.Name(kind))
    with pytest.raises(Unfit, match=MIXED):
        judge(mixing_of(kind).SerializeToString(), taken, gives=four("y"))


@pytest.mark.parametrize("size", [2, 3, 24, 1000])
def test_rows_that_a_table_does_not_have_are_left_out_and_the_others_are_compared(size: int) -> None:
    with pytest.raises(Unfit, match=MIXED):
        judge(mixing_with_a_table(size).SerializeToString(), four("x"), gives=four("y"))
    judge(embedded(size), Tensor("x", "DOUBLE", (None, 3)), gives=Tensor("y", "DOUBLE", (None, 2)))


def test_small_rows_are_compared_also_where_no_large_one_is_beside_them() -> None:
    with pytest.raises(Unfit, match=MIXED):
        judge(mixing_while_small().SerializeToString(), four("x"), gives=four("y"))


def test_what_takes_one_number_in_one_column_alone_is_found_by_rows_of_little_else() -> None:
    """It takes rows of which the others, and what this one is beyond 1, are nothing."""
    nodes = [
        node("ReduceMax", ["x"], ["most"], keepdims=0),
        node("Clip", ["x", "none", "one"], ["kept"]),
        node("Mul", ["kept", "last"], ["allowed"]),
        node("Floor", ["allowed"], ["whole"]),
        node("Sub", ["x", "whole"], ["other"]),
        node("Cast", ["other"], ["place"], to=TensorProto.BOOL),
    ]
    constants = {"none": 0.0, "one": 1.0, "last": [0.0, 0.0, 0.0, 1.0]}
    picky = looking_up(1, *nodes)
    picky.graph.initializer.extend(numpy_helper.from_array(np.array(at), name) for name, at in constants.items())
    with pytest.raises(Unfit, match=MIXED):
        judge(picky.SerializeToString(), four("x"), gives=four("y"))


def test_rows_that_are_answered_alone_are_answered_beside_others() -> None:
    with pytest.raises(Unfit, match="rows that it answers alone it does not answer beside others: "):
        judge(failing_beside_others().SerializeToString(), four("x"), gives=four("y"))


def test_a_model_that_answers_zeros_alone_is_not_believed() -> None:
    with pytest.raises(Unfit, match="answers no two that differ"):
        judge(of_zeros_alone().SerializeToString(), four("x"), gives=four("y"))


def test_a_number_that_is_for_all_rows_is_given_once() -> None:
    kinds = {"a": "BOOL", "b": "UINT8", "c": "INT64", "d": "FLOAT16", "text": "STRING"}
    inputs = [Tensor(name, kind, (None, 1)) for name, kind in kinds.items()]
    judge(many_datatypes(), *inputs, Tensor("all", "FLOAT", (1, 1)), gives=Tensor("y", "FLOAT", (None, 1)))


def test_labels_are_not_compared() -> None:
    judge(names(), Tensor("x", "STRING", (None, 1)), gives=Tensor("y", "INT64", (None, 1)))


@pytest.mark.parametrize("mixing", [mixing_in_a_choice, mixing_where, mixing_what_is_whole, mixing_what_is_missing])
def test_rows_that_know_each_other_in_batches_of_one_size_are_seen(mixing: Callable[[int], ModelProto]) -> None:
    for size in SIZES_OF_BATCHES:
        with pytest.raises(Unfit, match=rf"{MIXED} \({size} in a batch\)"):
            judge(mixing(size).SerializeToString(), four("x"), gives=four("y"))


def test_what_is_missing_is_not_filled_with_the_numbers_of_other_rows() -> None:
    with pytest.raises(Unfit, match=MIXED):
        judge(filling_with_the_mean().SerializeToString(), four("x"), gives=four("y"))


class Watched:
    """A model that notes what it is run on."""

    def __init__(self, content: bytes) -> None:
        self._session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        self.batches: list[NDArray[Any]] = []

    def get_inputs(self) -> Sequence[Any]:
        """Return what the model takes."""
        return self._session.get_inputs()

    def run(self, outputs: None, given: Mapping[str, NDArray[Any]]) -> Sequence[Any]:
        """Run the model."""
        self.batches.append(given["x"])
        return self._session.run(outputs, given)


@pytest.mark.parametrize("size", [*SIZES_OF_BATCHES[:7], SIZES_OF_BATCHES[-1]])
def test_every_place_of_the_smallest_and_the_largest_batches_has_a_whole_row_and_ones_that_lack(size: int) -> None:
    watched = Watched(sane().SerializeToString())
    check_apart(watched, [four("x")], [four("y")])
    seen = [np.isnan(batch).sum(axis=1) for batch in watched.batches if len(batch) == size]
    assert any(not missing.any() for missing in seen)
    for place in range(size):
        lacking = {missing[place] for missing in seen}
        assert {0, 4} < lacking  # nothing, all, and something between
