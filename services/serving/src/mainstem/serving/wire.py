"""Open Inference Protocol v2 as it stands on HTTP: JSON, and JSON with binary tensors behind it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import orjson

from mainstem.serving.domain import NO_JSON, Activation
from mainstem.serving.engine import INPUT, OUTPUT
from mainstem.serving.ports import Answer, BadQuestion, Floats

#: Name of the header that says how many bytes of a body are JSON; binary tensors follow them.
JSON_LENGTH = "inference-header-content-length"
DATATYPE = "FP64"
PLATFORM = "onnx_onnxv1"
EXTENSIONS = ("binary_tensor_data",)

Parameters = Mapping[str, bool | int | float | str]

_LITTLE_ENDIAN = np.dtype("<f8")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request says, whatever transport it came by."""

    rows: Floats
    id: str | None
    entity: str | None
    #: Whether the answer is asked for as raw bytes.
    raw: bool


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, bool | int | float | str] = {}
    data: msgspec.Raw = msgspec.Raw()


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, bool | int | float | str] = {}


class _Request(msgspec.Struct):
    inputs: list[_Input]
    id: str | None = None
    parameters: dict[str, bool | int | float | str] = {}
    outputs: list[_Output] | None = None


_decode = msgspec.json.Decoder(_Request).decode
_decode_flat = msgspec.json.Decoder(list[float | None]).decode
_decode_nested = msgspec.json.Decoder(list[list[float | None]]).decode


def read(body: bytes, json_length: str | None, width: int) -> Asked:
    """Read a request. `json_length` is the header JSON_LENGTH, `width` the inputs of the model. Raises BadQuestion."""
    split = _split_at(body, json_length)
    if split == 0:
        # A raw request: the body is the one input and nothing else.
        return Asked(floats(body, (-1, width)), None, None, raw=True)
    try:
        request = _decode(body[:split])
    except NO_JSON as fault:
        raise BadQuestion(f"the request is no inference request: {fault}") from fault
    check_outputs([output.name for output in request.outputs or ()])
    raw = bool(request.parameters.get("binary_data_output", False))
    for output in request.outputs or ():
        raw = bool(output.parameters.get("binary_data", raw))
    rows = _rows(request.inputs, body[split:])
    return Asked(rows, request.id or None, entity_of(request.parameters), raw)


def write(answer: Answer, *, raw: bool) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of an answer."""
    tensor: dict[str, object] = {"name": OUTPUT, "datatype": DATATYPE, "shape": list(answer.probabilities.shape)}
    tail = b""
    if raw:
        tail = as_bytes(answer.probabilities)
        tensor["parameters"] = {"binary_data_size": len(tail)}
    else:
        tensor["data"] = answer.probabilities.ravel()
    document = {
        "model_name": answer.model,
        "model_version": str(answer.version),
        "id": answer.id,
        "parameters": answer.parameters(),
        "outputs": [tensor],
    }
    head = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    if not raw:
        return head, {"content-type": "application/json"}
    return head + tail, {"content-type": "application/octet-stream", JSON_LENGTH: str(len(head))}


def metadata(activation: Activation) -> dict[str, object]:
    """Return what the protocol says about a model."""
    return {
        "name": activation.model,
        "versions": [str(activation.version)],
        "platform": PLATFORM,
        "inputs": [{"name": INPUT, "datatype": DATATYPE, "shape": [-1, len(activation.features)]}],
        "outputs": [{"name": OUTPUT, "datatype": DATATYPE, "shape": [-1, 2]}],
        "properties": properties(activation),
    }


def properties(activation: Activation) -> dict[str, str]:
    """Return what we say about a model beyond the protocol."""
    return {
        "onnx": activation.onnx,
        "feature_set": activation.feature_set,
        "feature_definition": activation.feature_definition,
        "features": orjson.dumps(activation.features).decode(),
    }


def check_outputs(names: Sequence[str]) -> None:
    """Raise BadQuestion when another output than ours is asked for."""
    unknown = [name for name in names if name != OUTPUT]
    if unknown:
        raise BadQuestion(f"there is no output {unknown[0]!r}; the model gives {OUTPUT!r}")


def check_input(tensors: Sequence[tuple[str, str]]) -> None:
    """Raise BadQuestion unless the inputs, as name and datatype, are the one that a model takes."""
    if list(tensors) != [(INPUT, DATATYPE)]:
        raise BadQuestion(f"the inputs are {list(tensors)}; send one input {INPUT!r} of datatype {DATATYPE}")


def entity_of(parameters: Parameters) -> str | None:
    """Return the entity that a request names. Raises BadQuestion when it is no text."""
    entity = parameters.get("entity")
    if entity is not None and not isinstance(entity, str):
        raise BadQuestion(f"parameter 'entity' is {entity!r}; send the entity's key as a string")
    return entity or None


def floats(content: bytes, shape: Sequence[int]) -> Floats:
    """Return raw little-endian float64 in this shape, of which one dimension may be -1. Raises BadQuestion."""
    count, rest = divmod(len(content), _LITTLE_ENDIAN.itemsize)
    if rest:
        raise BadQuestion(f"input {INPUT!r} has {len(content)} bytes, which is no whole number of {DATATYPE}")
    return shaped(np.frombuffer(content, _LITTLE_ENDIAN, count).astype(np.float64, copy=False), shape)


def shaped(values: Floats, shape: Sequence[int]) -> Floats:
    """Return the values in this shape. Raises BadQuestion when they do not fill it or it is not two-dimensional."""
    wrong = len(shape) != 2 or (min(shape) < 0 and shape[0] != -1)
    if wrong or (shape[0] == -1 and (shape[1] < 1 or len(values) % shape[1])):
        raise BadQuestion(f"input {INPUT!r} has {len(values)} values for shape {list(shape)}; send [rows, inputs]")
    if shape[0] >= 0 and math.prod(shape) != len(values):
        raise BadQuestion(f"input {INPUT!r} has {len(values)} values, its shape {list(shape)} has {math.prod(shape)}")
    return values.reshape(shape)


def as_bytes(values: Floats) -> bytes:
    """Return the values as raw little-endian float64."""
    return values.astype(_LITTLE_ENDIAN, copy=False).tobytes()


def _split_at(body: bytes, json_length: str | None) -> int:
    """Return how many bytes of the body are JSON."""
    if json_length is None:
        return len(body)
    if not json_length.isdecimal() or int(json_length) > len(body):
        raise BadQuestion(f"header {JSON_LENGTH} is {json_length!r}, the body has {len(body)} bytes")
    return int(json_length)


def _rows(inputs: Sequence[_Input], tail: bytes) -> Floats:
    check_input([(tensor.name, tensor.datatype) for tensor in inputs])
    (tensor,) = inputs
    if any(size < 0 for size in tensor.shape):
        raise BadQuestion(f"input {INPUT!r} has shape {tensor.shape}; every dimension must be known")
    size = tensor.parameters.get("binary_data_size")
    if size is None and tail:
        raise BadQuestion(f"{len(tail)} bytes follow the JSON, but no input has a `binary_data_size`")
    if size is None:
        return shaped(_values(tensor), tensor.shape)
    if tensor.data:
        raise BadQuestion(f"input {INPUT!r} has both `data` and `binary_data_size`; send one of them")
    if size != len(tail):
        raise BadQuestion(f"input {INPUT!r} has a `binary_data_size` of {size}, {len(tail)} bytes follow the JSON")
    return floats(tail, tensor.shape)


def _values(tensor: _Input) -> Floats:
    """Return JSON data, nested or flat, null as NaN."""
    if not tensor.data:
        raise BadQuestion(f"input {INPUT!r} has neither `data` nor `binary_data_size`")
    try:
        nested = bytes(tensor.data)[1:].lstrip().startswith(b"[")
        if not nested:
            return np.array(_decode_flat(tensor.data), np.float64)
        lists = _decode_nested(tensor.data)
    except NO_JSON as fault:
        raise BadQuestion(f"the data of input {INPUT!r} is no list of numbers and nulls: {fault}") from fault
    if [len(lists), *{len(values) for values in lists}] != tensor.shape:
        raise BadQuestion(f"the nested data of input {INPUT!r} has not the shape {tensor.shape}")
    return np.array(lists, np.float64).ravel()
