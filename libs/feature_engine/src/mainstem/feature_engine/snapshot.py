"""Snapshots as bytes: magic, length of the header, header (canonical JSON), int64 arrays, SHA-256 of all before.

Equal contents give equal bytes on every machine; numbers are little-endian.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from mainstem.feature_engine.errors import SnapshotError

_MAGIC = b"MSFE\x00\x02\r\n"
_DIGEST = 32

Ints = NDArray[np.int64]


class Header(TypedDict):
    """What an engine knows besides its arrays; counts by stream, or by `stream.column`."""

    feature_set: str
    applied: dict[str, int]
    too_late: dict[str, int]
    out_of_range: dict[str, int]
    reached: int
    dictionaries: dict[str, list[str]]


def pack(header: Header, arrays: Sequence[Ints]) -> bytes:
    """Return header and arrays as bytes."""
    described = {"header": header, "shapes": [list(array.shape) for array in arrays]}
    text = json.dumps(described, sort_keys=True, separators=(",", ":")).encode()
    parts = [_MAGIC, len(text).to_bytes(8, "little"), text, *(array.astype("<i8").tobytes() for array in arrays)]
    body = b"".join(parts)
    return body + hashlib.sha256(body).digest()


def unpack(data: bytes) -> tuple[Header, list[Ints]]:
    """Return header and arrays; raise SnapshotError if a single bit is not as `pack` left it."""
    body, digest = data[:-_DIGEST], data[-_DIGEST:]
    if not body.startswith(_MAGIC) or hashlib.sha256(body).digest() != digest:
        raise SnapshotError(f"{len(data)} bytes are not a whole snapshot: take an older one and replay from there")
    start = len(_MAGIC) + 8
    end = start + int.from_bytes(body[len(_MAGIC) : start], "little")
    described = json.loads(body[start:end])
    arrays: list[Ints] = []
    for shape in described["shapes"]:
        size = int(np.prod(shape))
        arrays.append(np.frombuffer(body, "<i8", size, end).astype(np.int64).reshape(shape))
        end += 8 * size
    return described["header"], arrays
