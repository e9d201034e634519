"""Whether tensors are what a model takes."""

import numpy as np
import pytest

from mainstem.inference import Signature, Spec, Tensor
from mainstem.inference.errors import BadRequest
from mainstem.inference.tensors import BYTES, NUMBERS, texts

SIGNATURE = Signature((Spec("rows", "FP32", (-1, 2)), Spec("name", BYTES, (1,))), ())
ROWS, NAME = Tensor("rows", np.zeros((5, 2), "f4")), Tensor("name", texts([b"a"]))


@pytest.mark.parametrize("datatype", sorted(NUMBERS))
def test_a_datatype_is_that_of_the_array_whatever_the_order_of_its_bytes(datatype: str) -> None:
    dtype = NUMBERS[datatype]
    assert Tensor("x", np.zeros(1, dtype)).datatype == datatype
    assert Tensor("x", np.zeros(1, dtype.newbyteorder(">"))).datatype == datatype
    assert Tensor("x", texts([])).datatype == BYTES


def test_what_the_protocol_has_no_name_for_is_told() -> None:
    with pytest.raises(ValueError, match="complex128, which the protocol has no name for"):
        _ = Tensor("x", np.zeros(1, complex)).datatype


def test_inputs_come_in_any_order() -> None:
    SIGNATURE.accept([ROWS, NAME])
    SIGNATURE.accept([NAME, ROWS])


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        ([ROWS], r"the inputs are \['rows'\]; send each of \['rows', 'name'\] once"),
        ([ROWS, ROWS, NAME], "send each of"),
        ([ROWS, NAME, Tensor("other", np.zeros(1))], "send each of"),
        ([Tensor("rows", np.zeros((5, 2))), NAME], "input 'rows' is FP64, the model takes FP32"),
        ([Tensor("rows", np.zeros((5, 3), "f4")), NAME], r"has shape \[5, 3\], the model takes \[-1, 2\]"),
        ([Tensor("rows", np.zeros(5, "f4")), NAME], r"has shape \[5\], the model takes \[-1, 2\]"),
        ([ROWS, Tensor("name", texts([b"a", b"b"]))], r"has shape \[2\], the model takes \[1\]"),
    ],
)
def test_inputs_that_the_model_does_not_take_are_refused(tensors: list[Tensor], why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        SIGNATURE.accept(tensors)
