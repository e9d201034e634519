"""The two hashes of RFC 6962, section 2.1.

Leaves and inner nodes are hashed with different prefixes, so no inner node can be passed off as an entry.
Many hashes travel as one `bytes`, 32 bytes each: a pair of neighbours is then one slice.
"""

from collections.abc import Iterable
from hashlib import sha256

HASH_BYTES = 32
PAIR_BYTES = 2 * HASH_BYTES
LEAF, NODE = b"\x00", b"\x01"

#: The root of the tree without entries.
EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """Return the 32-byte hash of one entry as it stands in the tree."""
    return sha256(LEAF + entry).digest()


def leaf_hashes(entries: Iterable[bytes]) -> bytes:
    """Return the leaf hashes of the entries, in order, 32 bytes each, as one string."""
    return b"".join([sha256(LEAF + entry).digest() for entry in entries])


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the 32-byte hash of the inner node over two 32-byte hashes."""
    return sha256(NODE + left + right).digest()


def parents(level: bytes | bytearray | memoryview) -> bytes:
    """Return the hashes of the nodes over neighbouring pairs; an odd hash at the end is left out."""
    end = len(level) - PAIR_BYTES + 1
    return b"".join([sha256(NODE + level[at : at + PAIR_BYTES]).digest() for at in range(0, end, PAIR_BYTES)])


def split(hashes: bytes) -> list[bytes]:
    """Cut concatenated hashes; raises ValueError when a hash is incomplete."""
    check_whole(hashes)
    return [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]


def check_whole(hashes: bytes) -> None:
    """Raise ValueError unless the string holds whole hashes."""
    if len(hashes) % HASH_BYTES:
        raise ValueError(
            f"{len(hashes)} bytes are not whole hashes of {HASH_BYTES} bytes; pass leaf hashes, not entries"
        )
