"""Checking proofs with nothing but the proof: RFC 9162, sections 2.1.3.2 and 2.1.4.2.

Both functions answer False for whatever does not hold, malformed proofs included, and never raise.
"""

from collections.abc import Sequence

from mainstem.ledger.hashing import EMPTY_ROOT, HASH_BYTES, node_hash


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Tell whether the entry with hash `leaf` stands at `index` in the tree with this size and root."""
    if not 0 <= index < size or not _hashes(path):
        return False
    node, last, result = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return False
        if node & 1 or node == last:
            result = node_hash(sibling, result)
            node, last = _climb(node, last)
        else:
            result = node_hash(result, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and result == root


def verify_consistency(old: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> bool:
    """Tell whether the tree (size, root) extends the tree (old, old_root) without changing an entry of it."""
    if not 0 <= old <= size or not _hashes(proof):
        return False
    if old == size:
        return not proof and old_root == root and (size > 0 or root == EMPTY_ROOT)
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    return _extends((old, old_root), (size, root), proof)


def _extends(old: tuple[int, bytes], new: tuple[int, bytes], proof: Sequence[bytes]) -> bool:
    # A complete old tree is a node of the new one, and the prover leaves its root out.
    steps = list(proof) if old[0] & (old[0] - 1) else [old[1], *proof]
    if not steps:
        return False
    node, last = old[0] - 1, new[0] - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    before = after = steps[0]
    for sibling in steps[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            node, last = _climb(node, last)
        else:
            after = node_hash(after, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and before == old[1] and after == new[1]


def _climb(node: int, last: int) -> tuple[int, int]:
    """Skip the levels on which a node at the right edge has no sibling."""
    while node and not node & 1:
        node, last = node >> 1, last >> 1
    return node, last


def _hashes(proof: Sequence[bytes]) -> bool:
    return all(len(item) == HASH_BYTES for item in proof)
