"""Tensors of the Open Inference Protocol: their datatypes, what a model takes and gives, and whether that fits.

https://github.com/kserve/open-inference-protocol. A tensor is a numpy array; that of BYTES has `object` cells of bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from mainstem.inference.errors import BadRequest

Values = npt.NDArray[Any]

BYTES: Final = "BYTES"
#: The datatypes that have cells of one size, little-endian on the wire.
NUMBERS: Final[Mapping[str, np.dtype[Any]]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
_NAMES: Final = {dtype: name for name, dtype in NUMBERS.items()}
#: More dimensions than that are nobody's tensor.
_MOST_DIMENSIONS: Final = 32
_MOST_CELLS: Final = 1 << 40


@dataclass(frozen=True, slots=True)
class Spec:
    """What one tensor must be; a dimension of -1 is variable."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def accept(self, tensor: "Tensor") -> None:
        """Raise BadRequest unless a tensor is one."""
        if tensor.datatype != self.datatype:
            raise BadRequest(f"input {self.name!r} is {tensor.datatype}, the model takes {self.datatype}")
        shape = tensor.values.shape
        if len(shape) != len(self.shape) or any(map(_differ, shape, self.shape)):
            raise BadRequest(f"input {self.name!r} has shape {list(shape)}, the model takes {list(self.shape)}")
        if tensor.unknown is not None:
            raise BadRequest(f"input {self.name!r} holds null, for which {self.datatype} has no value; send one")


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model takes and gives."""

    inputs: tuple[Spec, ...]
    outputs: tuple[Spec, ...]

    def accept(self, tensors: Sequence["Tensor"]) -> None:
        """Raise BadRequest unless these are the inputs, each once, in whatever order."""
        if len(tensors) == len(self.inputs) == 1 and tensors[0].name == self.inputs[0].name:
            return self.inputs[0].accept(tensors[0])
        given, wanted = [tensor.name for tensor in tensors], [spec.name for spec in self.inputs]
        if sorted(given) != sorted(wanted):
            raise BadRequest(f"the inputs are {given}; send each of {wanted} once")
        specs = {spec.name: spec for spec in self.inputs}
        for tensor in tensors:
            specs[tensor.name].accept(tensor)
        return None


class Tensor(msgspec.Struct, frozen=True, gc=False):
    """A named array."""

    name: str
    values: Values
    #: Which cells were said to be null where the datatype has no value for that; what stands there says nothing.
    unknown: Values | None = None

    @property
    def datatype(self) -> str:
        """Return the protocol's name of the type of its cells; raise ValueError for a type that it has not."""
        dtype = self.values.dtype
        known = _NAMES.get(dtype)
        if known is not None:
            return known
        if dtype.hasobject:
            return BYTES
        try:
            return _NAMES[dtype.newbyteorder("<")]
        except KeyError as fault:
            raise ValueError(f"tensor {self.name!r} is {dtype}, which the protocol has no name for") from fault


def _differ(given: int, wanted: int) -> bool:
    return wanted not in (-1, given)


def cells(name: str, datatype: str, shape: Sequence[int]) -> int:
    """Return how many cells a tensor of this shape has; raise BadRequest for what is no shape or datatype."""
    if datatype not in NUMBERS and datatype != BYTES:
        known = ", ".join([*NUMBERS, BYTES])
        raise BadRequest(f"tensor {name!r} is of datatype {datatype!r}; there are {known}")
    if len(shape) > _MOST_DIMENSIONS:
        raise BadRequest(f"tensor {name!r} has {len(shape)} dimensions, at most {_MOST_DIMENSIONS}")
    if any(not 0 <= size <= _MOST_CELLS for size in shape):
        raise BadRequest(
            f"tensor {name!r} has shape {list(shape)}; every dimension must be known, and be {_MOST_CELLS} at most"
        )
    # An array is as large as it is without its dimensions of nothing.
    count = prod(size for size in shape if size)
    if count > _MOST_CELLS:
        raise BadRequest(f"tensor {name!r} of shape {list(shape)} has room for {count} cells, more than can be sent")
    return count if all(shape) else 0


def from_bytes(name: str, datatype: str, shape: Sequence[int], content: bytes | memoryview) -> Tensor:
    """Return the tensor that stands in raw bytes; raise BadRequest when they are not its. Numbers are not copied."""
    count = cells(name, datatype, shape)
    if datatype == BYTES:
        return Tensor(name, _texts(name, count, content).reshape(shape))
    dtype = NUMBERS[datatype]
    if len(content) != count * dtype.itemsize:
        wanted = count * dtype.itemsize
        raise BadRequest(f"tensor {name!r} has {len(content)} bytes; {datatype} of shape {list(shape)} has {wanted}")
    if datatype == "BOOL" and count and max(content) > 1:
        raise BadRequest(f"tensor {name!r} holds a byte that is neither 0 nor 1; BOOL has no other")
    return Tensor(name, np.frombuffer(content, dtype).reshape(shape))


def to_bytes(values: Values) -> bytes:
    """Return a tensor as raw bytes."""
    if values.dtype.hasobject:
        return b"".join(len(cell).to_bytes(4, "little") + cell for cell in values.ravel())
    if values.dtype not in _NAMES:
        values = values.astype(values.dtype.newbyteorder("<"))
    return values.tobytes()


def texts(values: Sequence[bytes]) -> Values:
    """Return an array of BYTES with one dimension."""
    found = np.empty(len(values), object)
    found[:] = values
    return found


def _texts(name: str, count: int, content: bytes | memoryview) -> Values:
    """Read elements, each behind its length (u32, little-endian)."""
    data, found, at = bytes(content), list[bytes](), 0
    while at < len(data) and len(found) < count:
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        if at + 4 > len(data) or end > len(data):
            raise BadRequest(f"tensor {name!r}: element {len(found)} is cut off")
        found.append(data[at + 4 : end])
        at = end
    if len(found) != count or at != len(data):
        raise BadRequest(f"tensor {name!r} has {len(data)} bytes, of which {at} are {len(found)} elements, not {count}")
    return texts(found)
