"""A whole tree in memory, for making proofs: 64 bytes an entry."""

from mainstem.ledger.hashing import HASH_BYTES, PAIR_BYTES, check_whole, parents
from mainstem.ledger.path import consistency, inclusion, root


class Tree:
    """Every complete subtree of an append-only list of entries, level by level; level 0 holds the leaf hashes."""

    def __init__(self, leaves: bytes = b"") -> None:
        self._levels = [bytearray()]
        self.append(leaves)

    @property
    def size(self) -> int:
        """Number of entries."""
        return len(self._levels[0]) // HASH_BYTES

    def append(self, leaves: bytes) -> None:
        """Append leaf hashes (concatenated, 32 bytes each), in order; raises ValueError on an incomplete hash."""
        check_whole(leaves)
        self._levels[0] += leaves
        for height, level in enumerate(self._levels):
            if len(level) < PAIR_BYTES:
                return
            if height + 1 == len(self._levels):
                self._levels.append(bytearray())
            above = self._levels[height + 1]
            above += parents(level[2 * len(above) :])

    def root(self, size: int | None = None) -> bytes:
        """Return the root of the first `size` entries (default: all); raises ValueError beyond the tree."""
        return root(self._subtree, self._within(self.size if size is None else size))

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """Return the audit path of an entry, see `mainstem.ledger.path.inclusion`; ValueError beyond the tree."""
        return inclusion(self._subtree, index, self._within(size))

    def consistency(self, old: int, size: int) -> list[bytes]:
        """Return the proof that one tree extends another, see `mainstem.ledger.path.consistency`; as above."""
        return consistency(self._subtree, old, self._within(size))

    def _within(self, size: int) -> int:
        if not 0 <= size <= self.size:
            raise ValueError(f"the tree has {self.size} entries, not {size}; append first or ask for a smaller size")
        return size

    def _subtree(self, height: int, index: int) -> bytes:
        return bytes(self._levels[height][index * HASH_BYTES : (index + 1) * HASH_BYTES])
