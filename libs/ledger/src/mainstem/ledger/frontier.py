"""The frontier: all that must be kept of a tree to go on appending to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Self

from mainstem.ledger.hashing import EMPTY_ROOT, HASH_BYTES, check_whole, node_hash, parents, split

SIZE_BYTES = 8


@dataclass(frozen=True, slots=True)
class Frontier:
    """A tree of `size` entries, reduced to the roots of its complete subtrees (`peaks`, largest first, at most 64).

    Immutable: an append that is rolled back leaves no trace.
    Raises ValueError when the number of peaks does not fit the size.
    """

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.size < 1 << (8 * SIZE_BYTES) or len(self.peaks) != self.size.bit_count():
            raise ValueError(
                f"{len(self.peaks)} peaks do not fit a tree of {self.size} entries; the frontier is damaged"
            )

    def append(self, leaves: bytes) -> Self:
        """Return the frontier after appending leaf hashes (concatenated, 32 bytes each), in order."""
        check_whole(leaves)
        kept = list(self.peaks)
        peaks: list[bytes] = []
        level, height = leaves, 0
        while level or kept:
            if self.size >> height & 1:
                level = kept.pop() + level
            if len(level) // HASH_BYTES % 2:
                peaks.append(level[-HASH_BYTES:])
            level, height = parents(level), height + 1
        return type(self)(self.size + len(leaves) // HASH_BYTES, tuple(reversed(peaks)))

    def root(self) -> bytes:
        """Return the 32-byte root: the peaks joined from the smallest to the largest."""
        return _joined(self.peaks)

    def to_bytes(self) -> bytes:
        """Return the size (8 bytes, big-endian) and the peaks: at most 2056 bytes."""
        return self.size.to_bytes(SIZE_BYTES, "big") + b"".join(self.peaks)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote; raises ValueError when it is damaged."""
        if len(data) < SIZE_BYTES:
            raise ValueError(f"a frontier has at least {SIZE_BYTES} bytes, not {len(data)}; it is damaged")
        return cls(int.from_bytes(data[:SIZE_BYTES], "big"), tuple(split(data[SIZE_BYTES:])))


def _joined(peaks: Sequence[bytes]) -> bytes:
    if not peaks:
        return EMPTY_ROOT
    return reduce(lambda right, left: node_hash(left, right), reversed(peaks))
