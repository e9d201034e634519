"""A whole tree in memory, for making proofs: 64 bytes an entry."""

from mainstem.ledger.hashing import EMPTY_ROOT, HASH_BYTES, PAIR_BYTES, check_whole, node_hash, parents


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
        size = self._within(self.size if size is None else size)
        return self._subtree(0, size) if size else EMPTY_ROOT

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """Return the audit path of the entry `index` in the tree of the first `size` entries (RFC 6962, 2.1.1).

        Raises ValueError unless 0 <= index < size <= the tree's size.
        """
        if not 0 <= index < self._within(size):
            raise ValueError(f"entry {index} is not among the first {size}; ask for a smaller index or a larger size")
        path: list[bytes] = []
        low, high = 0, size
        while high - low > 1:
            middle = low + _left_width(high - low)
            if index < middle:
                path.append(self._subtree(middle, high))
                high = middle
            else:
                path.append(self._subtree(low, middle))
                low = middle
        return path[::-1]

    def consistency(self, old: int, size: int) -> list[bytes]:
        """Return the proof that the tree of `size` entries extends the one of `old` entries (RFC 6962, 2.1.2).

        The proof is empty when the sizes are equal or `old` is 0.
        Raises ValueError unless 0 <= old <= size <= the tree's size.
        """
        if not 0 <= old <= self._within(size):
            raise ValueError(f"a tree of {size} entries cannot extend one of {old}; give the older size first")
        if old in (0, size):
            return []
        proof: list[bytes] = []
        low, high = 0, size
        while old != high:
            middle = low + _left_width(high - low)
            if old <= middle:
                proof.append(self._subtree(middle, high))
                high = middle
            else:
                proof.append(self._subtree(low, middle))
                low = middle
        # A subtree that starts at 0 is the old tree itself: the verifier has its root.
        return ([self._subtree(low, high)] if low else []) + proof[::-1]

    def _within(self, size: int) -> int:
        if not 0 <= size <= self.size:
            raise ValueError(f"the tree has {self.size} entries, not {size}; append first or ask for a smaller size")
        return size

    def _subtree(self, low: int, high: int) -> bytes:
        width = high - low
        if width & (width - 1) == 0:
            at = low // width * HASH_BYTES
            return bytes(self._levels[width.bit_length() - 1][at : at + HASH_BYTES])
        middle = low + _left_width(width)
        return node_hash(self._subtree(low, middle), self._subtree(middle, high))


def _left_width(width: int) -> int:
    """Return the largest power of two below `width` (at least 2)."""
    return 1 << (width - 1).bit_length() - 1
