"""Requests and answers of the common form, one raw tensor each, by the fields of their messages.

Clients send the same message again and again but for an id, the parameters and the cells. Those are taken out; what
remains is parsed by protobuf once and known by its bytes. https://protobuf.dev/programming-guides/encoding
"""

from typing import Final

import msgspec
import numpy as np
from google.protobuf.message import DecodeError

from mainstem.inference import messages
from mainstem.inference import open_inference_pb2 as pb
from mainstem.inference.calls import Parameters, Request, refuse_foreign
from mainstem.inference.errors import BadRequest
from mainstem.inference.tensors import NUMBERS, Tensor, cells

#: Tags of the fields of ModelInferRequest that are taken out, and of those that may remain.
_ID, _PARAMETERS, _RAW = 0x1A, 0x22, 0x3A
_REMAINING: Final = frozenset((0x0A, 0x12, 0x2A, 0x32))
#: So many remainders and parameters are known, each of so many bytes at most.
_MOST_KNOWN, _KNOWN_BYTES = 1_000, 1_024


class Asked(msgspec.Struct, frozen=True):
    """A request, and the model that it is for."""

    model: str
    version: str | None
    request: Request


class _Form(msgspec.Struct, frozen=True):
    """What is the same in call after call: the one input is a raw tensor of numbers, every output is wanted."""

    model: str
    version: str | None
    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    size: int


_forms: dict[bytes, _Form | None] = {}
_parameters: dict[bytes, Parameters] = {b"": {}}


def read(content: bytes) -> Asked:
    """Return the request in the bytes of a ModelInferRequest. Raises BadRequest."""
    return _read_common(content) or read_any(content)


def read_any(content: bytes) -> Asked:
    """Return the same, whatever its form."""
    try:
        message = pb.ModelInferRequest.FromString(content)
    except DecodeError as fault:
        raise BadRequest(f"the request is no ModelInferRequest: {fault}") from fault
    return Asked(message.model_name, message.model_version or None, messages.read(message))


def field(tag: int, content: bytes) -> bytes:
    """Return a field that is preceded by its length."""
    size = len(content)
    if size < 128:
        return b"%c%c%b" % (tag, size, content)
    said = bytearray((tag,))
    while size > 127:
        said.append(size & 127 | 128)
        size >>= 7
    return b"%b%c%b" % (bytes(said), size, content)


def _read_common(content: bytes) -> Asked | None:
    """Return a request of the common form; None for every other, right or wrong."""
    remaining = parameters = name = b""
    raw: bytes | None = None
    at, size = 0, len(content)
    while at < size:
        tag, begin, end = _next(content, at)
        if end > size:
            return None
        if tag == _ID and not name:  # of several the last counts, and each must be a text
            name = content[begin:end]
        elif tag == _RAW and raw is None:
            raw = content[begin:end]
        elif tag == _PARAMETERS:
            parameters += content[at:end]
        elif tag in _REMAINING:
            remaining += content[at:end]
        else:
            return None
        at = end
    form = _forms[remaining] if remaining in _forms else _form(remaining)
    return None if form is None or raw is None else _composed(form, name, parameters, raw)


def _next(content: bytes, at: int) -> tuple[int, int, int]:
    """Return the tag of a field, and where its content begins and ends: past the end for what is no such field."""
    tag, begin, size, shift = content[at], at + 1, 0, 0
    if begin < len(content) and content[begin] < 128:  # as most are
        return tag, at + 2, at + 2 + content[begin]
    while begin < len(content) and shift < 35:
        byte = content[begin]
        begin += 1
        size |= (byte & 127) << shift
        if byte < 128:
            return tag, begin, begin + size
        shift += 7
    return tag, begin, len(content) + 1


def _composed(form: _Form, name: bytes, parameters: bytes, raw: bytes) -> Asked | None:
    if len(raw) != form.size:
        return None
    try:
        asked_id = name.decode() or None
        known = _parameters[parameters] if parameters in _parameters else _read_parameters(parameters)
    except (UnicodeDecodeError, DecodeError):
        return None
    tensor = Tensor(form.name, np.frombuffer(raw, form.dtype).reshape(form.shape))
    return Asked(form.model, form.version, Request([tensor], asked_id, known, None, raw=True))


def _form(remaining: bytes) -> _Form | None:
    form = _read_form(remaining)
    if len(remaining) <= _KNOWN_BYTES:
        if len(_forms) >= _MOST_KNOWN:
            _forms.clear()
        _forms[remaining] = form
    return form


def _read_form(remaining: bytes) -> _Form | None:
    try:
        message = pb.ModelInferRequest.FromString(remaining)
    except DecodeError:
        return None
    if len(message.inputs) != 1 or message.outputs:
        return None
    (tensor,) = message.inputs
    dtype = None if tensor.datatype == "BOOL" else NUMBERS.get(tensor.datatype)
    if dtype is None or tensor.HasField("contents"):
        return None
    try:
        refuse_foreign(tensor.name, tensor.parameters)
        size = cells(tensor.name, tensor.datatype, tensor.shape) * dtype.itemsize
    except BadRequest:
        return None
    shape = tuple(tensor.shape)
    return _Form(message.model_name, message.model_version or None, tensor.name, dtype, shape, size)


def _read_parameters(content: bytes) -> Parameters:
    found = messages.parameters(pb.ModelInferRequest.FromString(content).parameters)
    if len(content) <= _KNOWN_BYTES:
        if len(_parameters) >= _MOST_KNOWN:
            _parameters.clear()
        _parameters[content] = found
    return found
