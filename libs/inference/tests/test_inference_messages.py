"""Messages of gRPC, raw and typed; tests/conformance has those of clients that others wrote."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from libs.inference.tests.test_inference_rest import DATATYPES, arrays, same

from mainstem.inference import Answer, Tensor, Wanted
from mainstem.inference import open_inference_pb2 as pb
from mainstem.inference.errors import BadRequest, Unsupported
from mainstem.inference.messages import read, write
from mainstem.inference.tensors import BYTES, texts, to_bytes

FIELDS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}


def request(tensors: Sequence[Tensor], *, raw: bool) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name="storm", id="mine")
    for tensor in tensors:
        one = message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.values.shape)
        if raw:
            message.raw_input_contents.append(to_bytes(tensor.values))
        else:
            getattr(one.contents, FIELDS[tensor.datatype]).extend(tensor.values.ravel().tolist())
    return pb.ModelInferRequest.FromString(message.SerializeToString())


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("datatype", DATATYPES)
@settings(max_examples=40)
@given(data=st.data())
def test_tensors_come_as_they_were_sent(datatype: str, raw: bool, data: st.DataObject) -> None:
    if datatype == "FP16" and not raw:
        return
    tensors = [Tensor(name, data.draw(arrays(datatype))) for name in "xy"]
    found = read(request(tensors, raw=raw))
    assert (found.id, found.raw, found.outputs) == ("mine", raw, None)
    for got, sent in zip(found.inputs, tensors, strict=True):
        assert got.name == sent.name
        assert same(got.values, sent.values) or np.array_equal(got.values, sent.values, equal_nan=True)


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("datatype", sorted(FIELDS))
@settings(max_examples=40)
@given(data=st.data())
def test_outputs_are_given_as_the_inputs_were(datatype: str, raw: bool, data: st.DataObject) -> None:
    values = data.draw(arrays(datatype))
    parameters = {"position": "a/0/1", "rows": 2, "share": 0.5, "known": True}
    message = write(Answer("storm", "3", "mine", [(Tensor("y", values), raw)], parameters))
    response = pb.ModelInferResponse.FromString(message.SerializeToString())
    (output,) = response.outputs
    assert (response.model_name, response.model_version, response.id) == ("storm", "3", "mine")
    assert (output.name, output.datatype, tuple(output.shape)) == ("y", datatype, values.shape)
    if raw:
        assert list(response.raw_output_contents) == [to_bytes(values)]
        assert output.parameters["binary_data_size"].int64_param == len(to_bytes(values))
    else:
        cells: Any = list(getattr(output.contents, FIELDS[datatype]))
        assert np.array_equal(np.array(cells, values.dtype), values.ravel(), equal_nan=values.dtype.kind == "f")
    kinds = {name: one.WhichOneof("parameter_choice") for name, one in response.parameters.items()}
    assert kinds == {
        "position": "string_param",
        "rows": "int64_param",
        "share": "double_param",
        "known": "bool_param",
    }


def test_parameters_and_outputs_are_read() -> None:
    message = request([], raw=False)
    message.parameters["entity"].string_param = "N1"
    message.parameters["nothing"].SetInParent()
    message.outputs.add(name="probabilities")
    found = read(message)
    assert (found.parameters, found.outputs) == (
        {"entity": "N1", "nothing": ""},
        [Wanted("probabilities", raw=False)],
    )


def _mixed() -> pb.ModelInferRequest:
    message = request([Tensor("x", np.zeros(1))], raw=True)
    message.inputs[0].contents.fp64_contents.append(1)
    return message


def _too_few() -> pb.ModelInferRequest:
    message = request([Tensor("x", np.zeros(1)), Tensor("y", np.zeros(1))], raw=True)
    del message.raw_input_contents[1]
    return message


def _typed(datatype: str, field: str, values: list[Any], shape: Sequence[int] = (1,)) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest()
    one = message.inputs.add(name="x", datatype=datatype, shape=shape)
    getattr(one.contents, field).extend(values)
    return message


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (_mixed(), "one entry for each input, and `contents` stays empty"),
        (_too_few(), "one entry for each input"),
        (_typed("FP64", "fp32_contents", [1]), "is FP64 and has fp32_contents; send fp64_contents"),
        (_typed("INT8", "int_contents", [300]), "holds a number that is no INT8"),
        (_typed("UINT8", "uint_contents", [300]), "holds a number that is no UINT8"),
        (_typed("FP64", "fp64_contents", [1, 2]), r"has 2 values, its shape \[1\] has 1"),
        (_typed("FP64", "fp64_contents", [1], (-1,)), "every dimension must be known"),
        (_typed("FP16", "fp32_contents", [1]), "no typed contents; send it raw"),
        (_typed("BF16", "fp32_contents", [1]), "is of datatype 'BF16'"),
        (_typed("", "fp32_contents", [1]), "is of datatype ''"),
    ],
)
def test_a_message_whose_tensors_are_not_what_they_say_is_refused(message: pb.ModelInferRequest, why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        read(message)


def test_an_output_without_typed_contents_is_refused_with_the_way_that_can() -> None:
    with pytest.raises(Unsupported, match="ask for it raw"):
        write(Answer("storm", "3", "mine", [(Tensor("y", np.zeros(1, "f2")), False)]))
    assert write(Answer("storm", "3", "mine", [(Tensor("y", texts([b"a"])), True)])).raw_output_contents
