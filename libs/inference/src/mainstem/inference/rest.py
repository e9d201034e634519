"""The protocol on HTTP: JSON, and JSON with raw tensors behind it (the extension `binary_tensor_data`).

A header of the request says how many bytes of the body are JSON; the raw tensors follow in the order of the inputs.
JSON has no NaN: null stands for it in tensors of floating point, both ways, and for an infinity on the way out. In
other tensors null is read as what is unknown; what describes an entity may be, and no input of a model.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from mainstem.events.errors import NO_DOCUMENT
from mainstem.inference.calls import Answer, Parameters, Request, Wanted, refuse_foreign
from mainstem.inference.errors import BadRequest, Unsupported
from mainstem.inference.tensors import BYTES, NUMBERS, Signature, Tensor, Values, cells, from_bytes, texts, to_bytes

#: Name of the header, both ways.
JSON_LENGTH: Final = "inference-header-content-length"
JSON_TYPE, RAW_TYPE = "application/json", "application/octet-stream"
#: Headers of an answer that is JSON and nothing else.
JSON_HEADERS: Final[Mapping[str, str]] = {"content-type": JSON_TYPE}

#: No row is longer, though there may be none of it.
_WIDEST: Final = 1 << 32
#: No body is longer.
_LENGTH_DIGITS: Final = 20
_FLOATS: Final = ("FP32", "FP64")

_Parameters = dict[str, bool | int | float | str]


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    parameters: _Parameters = {}
    data: msgspec.Raw = msgspec.Raw()


class _Output(msgspec.Struct):
    name: str
    parameters: _Parameters = {}


class _Plainly(msgspec.Struct, tag_field="datatype", forbid_unknown_fields=True):
    name: str
    shape: list[int]


class _Texts(_Plainly, tag=BYTES):
    data: list[str | None]


class _Whole(_Plainly, tag="INT64"):
    data: list[int | None]


class _Real(_Plainly, tag="FP64"):
    data: list[float | None]


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of a plain request: the entity that it names, or "", and how long it waits (µs), or 0."""

    entity: str = ""
    timeout: Annotated[int, msgspec.Meta(ge=0)] = 0


class _PlainRequest(msgspec.Struct, forbid_unknown_fields=True):
    inputs: list[_Real | _Whole | _Texts]
    id: str | None = None
    parameters: Asked = Asked()


class Plain(msgspec.Struct, frozen=True):
    """A plain request: the values of its one input, or nothing, [n, 0], and what it says by column, None = null."""

    values: Values
    columns: Mapping[str, Sequence[object]] | None
    id: str | None
    parameters: Asked


class _Request(msgspec.Struct):
    inputs: list[_Input]
    id: str | None = None
    parameters: _Parameters = {}
    outputs: list[_Output] | None = None


_decode = msgspec.json.Decoder(_Request).decode
_decode_plain = msgspec.json.Decoder(_PlainRequest).decode
#: By datatype what a cell is in JSON; null has a value in those of floating point alone.
_CELLS: Final[Mapping[str, Any]] = {
    **{name: int for name, dtype in NUMBERS.items() if dtype.kind in "iu"},
    "BOOL": bool,
    BYTES: str,
    **dict.fromkeys(_FLOATS, float | None),
}


def _flat(cell: Any) -> Any:
    """Return what reads a flat list of such cells."""
    return msgspec.json.Decoder(list.__class_getitem__(cell)).decode


#: By datatype what reads a flat list of its cells, and the same where null may be among them.
_FLAT: Final = {datatype: (_flat(cell), _flat(cell | None)) for datatype, cell in _CELLS.items()}


class Reader:
    """Reads requests to one model."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature

    def read(self, body: bytes, json_length: str | None = None) -> Request:
        """Return the request in a body; `json_length` is the header, if there was one. Raises BadRequest.

        A header of 0 says that the body is the one input of the model and nothing else. The inputs are what they say,
        and need not be what the model takes.
        """
        split = _split_at(body, json_length)
        if split == 0 and json_length is not None:
            return Request([_raw_body(body, self._signature)], raw=True)
        try:
            asked = _decode(body if split == len(body) else body[:split])
        except NO_DOCUMENT as fault:
            raise BadRequest(f"the request is no inference request: {fault}") from fault
        inputs = list(_inputs(asked.inputs, memoryview(body)[split:]))
        raw = _flag(asked.parameters, "binary_data_output", False)
        outputs = None
        if asked.outputs is not None:
            outputs = [_wanted(output, raw=raw) for output in asked.outputs]
        return Request(inputs, asked.id, asked.parameters, outputs or None, raw)


def read_plain(name: str, body: bytes) -> Plain | None:
    """Return what most requests are; None for another form, be it right or wrong.

    Most have one input of this name, FP64 with two dimensions, or columns instead, each FP64, INT64 or BYTES with one,
    all as flat JSON, have no parameters but `Asked`, and want every output as JSON.
    """
    try:
        asked = _decode_plain(body)
    except NO_DOCUMENT:
        return None
    one = asked.inputs[0] if asked.inputs else None
    if one is None or one.name != name:
        return _plain_columns(name, asked)
    shape = one.shape
    if type(one) is not _Real or len(asked.inputs) != 1:
        return None
    if len(shape) != 2 or not 0 < shape[1] < _WIDEST or shape[0] * shape[1] != len(one.data):
        return None
    return Plain(_reals(one.data, shape), None, asked.id, asked.parameters)


def _reals(data: Sequence[float | None], shape: Sequence[int]) -> NDArray[np.float64]:
    """Return float64 of this shape, NaN where nothing is known."""
    try:
        return np.ndarray(shape, np.float64, array("d", data))  # what is unknown has no place in it
    except TypeError:
        return np.array(data, np.float64).reshape(shape)


def _plain_columns(name: str, asked: _PlainRequest) -> Plain | None:
    columns: dict[str, Sequence[object]] = {}
    for one in asked.inputs:
        if one.shape != [len(one.data)]:
            return None
        columns[one.name] = one.data
    if len(columns) != len(asked.inputs) or name in columns or not columns:
        return None
    return Plain(np.empty((len(asked.inputs[0].data), 0)), columns, asked.id, asked.parameters)


def write(answer: Answer) -> tuple[bytes, Mapping[str, str]]:
    """Return the body and the headers of an answer."""
    tail: list[bytes] = []
    outputs = [_output(tensor, tail, raw=raw) for tensor, raw in answer.outputs]
    document = {"model_name": answer.model, "model_version": answer.version, "id": answer.id}
    if answer.parameters:
        document["parameters"] = answer.parameters  # type: ignore[assignment]
    head = orjson.dumps({**document, "outputs": outputs}, option=orjson.OPT_SERIALIZE_NUMPY)
    if not any(raw for _, raw in answer.outputs):
        return head, JSON_HEADERS
    return b"".join((head, *tail)), {"content-type": RAW_TYPE, JSON_LENGTH: str(len(head))}


def _split_at(body: bytes, json_length: str | None) -> int:
    """Return how many bytes of the body are JSON."""
    if json_length is None:
        return len(body)
    counts = json_length.isascii() and json_length.isdecimal() and len(json_length) <= _LENGTH_DIGITS
    if not counts or int(json_length) > len(body):
        raise BadRequest(f"header {JSON_LENGTH} is {json_length[:40]!r}, the body has {len(body)} bytes")
    return int(json_length)


def _raw_body(body: bytes, signature: Signature) -> Tensor:
    """Return the one input of a model from a body that is nothing else."""
    if len(signature.inputs) != 1 or signature.inputs[0].shape.count(-1) > 1:
        raise Unsupported(
            f"a body without JSON is taken for one input with one variable dimension at most; header {JSON_LENGTH} is 0"
        )
    (spec,) = signature.inputs
    known = [size for size in spec.shape if size != -1]
    if spec.datatype == BYTES:
        raise Unsupported(f"input {spec.name!r} is {BYTES}: its elements must be counted, send JSON before them")
    row = int(np.prod(known)) * NUMBERS[spec.datatype].itemsize
    if -1 in spec.shape and (row == 0 or len(body) % row):
        raise BadRequest(f"the body has {len(body)} bytes, which is no whole number of rows of {row} bytes")
    shape = [len(body) // row if size == -1 else size for size in spec.shape]
    return from_bytes(spec.name, spec.datatype, shape, body)


def _wanted(output: _Output, *, raw: bool) -> Wanted:
    refuse_foreign(output.name, output.parameters)
    return Wanted(output.name, _flag(output.parameters, "binary_data", raw))


def _flag(parameters: Parameters, name: str, default: bool) -> bool:
    found = parameters.get(name, default)
    if not isinstance(found, bool):
        raise BadRequest(f"parameter {name!r} is {found!r}; send true or false")
    return found


def _inputs(tensors: Sequence[_Input], tail: memoryview) -> Iterator[Tensor]:
    for tensor in tensors:
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            refuse_foreign(tensor.name, tensor.parameters)
            yield _from_json(tensor)
            continue
        if tensor.data:
            raise BadRequest(f"input {tensor.name!r} has both `data` and `binary_data_size`; send one of them")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(tail):
            raise BadRequest(f"input {tensor.name!r} has a `binary_data_size` of {size}, {len(tail)} bytes are left")
        yield from_bytes(tensor.name, tensor.datatype, tensor.shape, tail[:size])
        tail = tail[size:]
    if tail:
        raise BadRequest(f"{len(tail)} bytes follow the JSON that no input's `binary_data_size` counts")


def _from_json(tensor: _Input) -> Tensor:
    """Return JSON data, nested or flat."""
    count = cells(tensor.name, tensor.datatype, tensor.shape)
    if not tensor.data:
        raise BadRequest(f"input {tensor.name!r} has neither `data` nor `binary_data_size`")
    if tensor.datatype not in _CELLS:
        raise Unsupported(f"input {tensor.name!r} is {tensor.datatype}, which JSON cannot carry; send it as raw bytes")
    try:
        listed, unknown = _listed(tensor)
        values = _array(tensor.datatype, listed)
    except (*NO_DOCUMENT, TypeError, ArithmeticError) as fault:
        what = f"the data of input {tensor.name!r} is no list of {tensor.datatype}"
        raise BadRequest(f"{what}: {str(fault)[:200]}") from fault
    if len(values) != count:
        raise BadRequest(f"input {tensor.name!r} has {len(values)} values, its shape {tensor.shape} has {count}")
    return Tensor(tensor.name, values.reshape(tensor.shape), None if unknown is None else unknown.reshape(tensor.shape))


def _listed(tensor: _Input) -> tuple[list[Any], Values | None]:
    """Return the cells in a row, and which of them were null if the datatype has no value for that."""
    cell, (flat, flat_or_null) = _CELLS[tensor.datatype], _FLAT[tensor.datatype]
    nested = bytes(memoryview(tensor.data)[1:65]).lstrip().startswith(b"[") and len(tensor.shape) > 1
    try:
        return _flattened(tensor, cell) if nested else flat(tensor.data), None
    except msgspec.ValidationError:
        found = _flattened(tensor, cell | None) if nested else flat_or_null(tensor.data)
    return [cell() if each is None else each for each in found], np.array([each is None for each in found])


def _flattened(tensor: _Input, cell: Any) -> list[Any]:
    """Return the cells of nested lists; raise ValueError when they are not nested as the shape says."""
    for _ in tensor.shape:
        cell = list[cell]
    found: list[Any] = [msgspec.json.decode(tensor.data, type=cell)]
    for size in tensor.shape:
        if any(len(part) != size for part in found):
            raise ValueError(f"it is not nested as the shape {tensor.shape} says")
        found = list(chain.from_iterable(found))
    return found


def _array(datatype: str, listed: Sequence[Any]) -> Values:
    if datatype == BYTES:
        return texts([text.encode() for text in listed])
    if datatype != "FP32":
        return np.array(listed, NUMBERS[datatype])
    with np.errstate(over="raise"):
        return np.array(listed, np.float64).astype(NUMBERS[datatype])


def _output(tensor: Tensor, tail: list[bytes], *, raw: bool) -> dict[str, object]:
    """Return what the JSON says of an output; what is raw goes to the tail."""
    values, datatype = tensor.values, tensor.datatype
    said: dict[str, object] = {"name": tensor.name, "datatype": datatype, "shape": list(values.shape)}
    if raw:
        tail.append(to_bytes(values))
        return {**said, "parameters": {"binary_data_size": len(tail[-1])}}
    if datatype == "FP16":
        raise Unsupported(f"output {tensor.name!r} is {datatype}, which JSON cannot carry; ask for it as raw bytes")
    flat = np.ascontiguousarray(values).ravel()
    if datatype == BYTES:
        try:
            return {**said, "data": [cell.decode() for cell in flat]}
        except UnicodeDecodeError as fault:
            raise Unsupported(f"output {tensor.name!r} is no text; ask for it as raw bytes") from fault
    return {**said, "data": flat}
