"""The protocol on gRPC: the protobuf messages of a call.

All inputs are raw or all are typed. Outputs are given as the inputs were: clients of the one read only that one.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from mainstem.inference import open_inference_pb2 as pb
from mainstem.inference.calls import Answer, Parameters, Request, Wanted, refuse_foreign
from mainstem.inference.errors import BadRequest, Unsupported
from mainstem.inference.tensors import BYTES, NUMBERS, Tensor, Values, cells, from_bytes, texts, to_bytes

#: The field of typed contents that holds cells of a datatype.
_FIELDS: Final[Mapping[str, str]] = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}
_ALL_FIELDS: Final = tuple(dict.fromkeys(_FIELDS.values()))


def read(message: pb.ModelInferRequest) -> Request:
    """Return the request in a message. Raises BadRequest."""
    for tensor in (*message.inputs, *message.outputs):
        refuse_foreign(tensor.name, tensor.parameters)
    raw = len(message.raw_input_contents) > 0
    return Request(
        _raw(message.inputs, message.raw_input_contents) if raw else [_typed(tensor) for tensor in message.inputs],
        message.id or None,
        parameters(message.parameters),
        [Wanted(output.name, raw) for output in message.outputs] or None,
        raw,
    )


def write(answer: Answer) -> pb.ModelInferResponse:
    """Return the message of an answer, whose outputs are all raw or all typed."""
    response = pb.ModelInferResponse(model_name=answer.model, model_version=answer.version, id=answer.id)
    for name, given in answer.parameters.items():
        _set(response.parameters[name], given)
    for tensor, raw in answer.outputs:
        output = response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.values.shape)
        if raw:
            content = to_bytes(tensor.values)
            output.parameters["binary_data_size"].int64_param = len(content)
            response.raw_output_contents.append(content)
        else:
            getattr(output.contents, _field(tensor)).extend(tensor.values.ravel().tolist())
    return response


def parameters(given: Mapping[str, pb.InferParameter]) -> Parameters:
    """Return parameters by name; one without a value is an empty text."""
    return {name: getattr(one, one.WhichOneof("parameter_choice") or "string_param") for name, one in given.items()}


def _set(parameter: pb.InferParameter, given: bool | int | float | str) -> None:
    kinds = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}
    setattr(parameter, kinds[type(given)], given)


def _raw(inputs: Sequence[Any], contents: Sequence[bytes]) -> list[Tensor]:
    if len(contents) != len(inputs) or any(_filled(tensor) for tensor in inputs):
        raise BadRequest("with raw_input_contents there is one entry for each input, and `contents` stays empty")
    return [
        from_bytes(tensor.name, tensor.datatype, tensor.shape, content)
        for tensor, content in zip(inputs, contents, strict=True)
    ]


def _typed(tensor: Any) -> Tensor:
    count, filled = cells(tensor.name, tensor.datatype, tensor.shape), _filled(tensor)
    if tensor.datatype not in _FIELDS:
        raise Unsupported(f"input {tensor.name!r} is {tensor.datatype}, which has no typed contents; send it raw")
    field = _FIELDS[tensor.datatype]
    if filled not in ([], [field]):
        raise BadRequest(f"input {tensor.name!r} is {tensor.datatype} and has {', '.join(filled)}; send {field}")
    contents = getattr(tensor.contents, field)
    if len(contents) != count:
        raise BadRequest(
            f"input {tensor.name!r} has {len(contents)} values, its shape {list(tensor.shape)} has {count}"
        )
    return Tensor(tensor.name, _array(tensor.name, tensor.datatype, contents).reshape(tensor.shape))


def _array(name: str, datatype: str, contents: Sequence[Any]) -> Values:
    if datatype == BYTES:
        return texts(list(contents))
    try:
        return np.array(contents, NUMBERS[datatype])
    except OverflowError as fault:
        raise BadRequest(f"input {name!r} holds a number that is no {datatype}: {fault}") from fault


def _filled(tensor: Any) -> list[str]:
    return [field for field in _ALL_FIELDS if len(getattr(tensor.contents, field))]


def _field(tensor: Tensor) -> str:
    field = _FIELDS.get(tensor.datatype)
    if field is None:
        raise Unsupported(f"output {tensor.name!r} is {tensor.datatype}, which has no typed contents; ask for it raw")
    return field
