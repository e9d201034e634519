"""The algorithms of RFC 6962, section 2.1, over whatever knows the hashes of complete subtrees."""

from collections.abc import Callable

from mainstem.ledger.hashing import EMPTY_ROOT, node_hash

#: Gives the hash of a complete subtree by its height and its place among those of that height.
Subtree = Callable[[int, int], bytes]


def root(subtree: Subtree, size: int) -> bytes:
    """Return the root of the first `size` entries."""
    return _range(subtree, 0, size) if size else EMPTY_ROOT


def inclusion(subtree: Subtree, index: int, size: int) -> list[bytes]:
    """Return the audit path of the entry `index` in the tree of the first `size` entries (2.1.1).

    Raises ValueError unless 0 <= index < size.
    """
    if not 0 <= index < size:
        raise ValueError(f"entry {index} is not among the first {size}; ask for a smaller index or a larger size")
    path: list[bytes] = []
    low, high = 0, size
    while high - low > 1:
        middle = low + _left_width(high - low)
        if index < middle:
            path.append(_range(subtree, middle, high))
            high = middle
        else:
            path.append(_range(subtree, low, middle))
            low = middle
    return path[::-1]


def consistency(subtree: Subtree, old: int, size: int) -> list[bytes]:
    """Return the proof that the tree of `size` entries extends the one of `old` entries (2.1.2).

    The proof is empty when the sizes are equal or `old` is 0. Raises ValueError unless 0 <= old <= size.
    """
    if not 0 <= old <= size:
        raise ValueError(f"a tree of {size} entries cannot extend one of {old}; give the older size first")
    if old in (0, size):
        return []
    proof: list[bytes] = []
    low, high = 0, size
    while old != high:
        middle = low + _left_width(high - low)
        if old <= middle:
            proof.append(_range(subtree, middle, high))
            high = middle
        else:
            proof.append(_range(subtree, low, middle))
            low = middle
    # A subtree that starts at 0 is the old tree itself: the verifier has its root.
    return ([_range(subtree, low, high)] if low else []) + proof[::-1]


def _range(subtree: Subtree, low: int, high: int) -> bytes:
    width = high - low
    if width & (width - 1) == 0:
        return subtree(width.bit_length() - 1, low // width)
    middle = low + _left_width(width)
    return node_hash(_range(subtree, low, middle), _range(subtree, middle, high))


def _left_width(width: int) -> int:
    """Return the largest power of two below `width` (at least 2)."""
    return 1 << (width - 1).bit_length() - 1
