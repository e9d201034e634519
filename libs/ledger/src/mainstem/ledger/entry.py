"""What stands in the log for some bytes: they themselves, or their digest where a bundle cannot hold them."""

from hashlib import sha256
from struct import Struct
from typing import Final

from mainstem.ledger.tiles import ENTRY_BYTES

#: The first byte of a stub, which must be no first byte of what is entered.
STUB: Final = 0xFF
_STUB: Final = Struct(">BQ32s")


def entry_of(data: bytes) -> bytes:
    """Return the entry of the log for some bytes; of more than ENTRY_BYTES a stub with their length and SHA-256."""
    return data if len(data) <= ENTRY_BYTES else _STUB.pack(STUB, len(data), sha256(data).digest())


def stands_for(entry: bytes) -> tuple[int, bytes] | None:
    """Return the length and the SHA-256 of the bytes that a stub stands for; None for an entry that is none."""
    if len(entry) != _STUB.size or entry[0] != STUB:
        return None
    _, length, digest = _STUB.unpack(entry)
    return length, digest
