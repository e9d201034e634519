"""RFC 6962 Merkle tree, frontier and proofs; pure."""

from mainstem.ledger.frontier import Frontier
from mainstem.ledger.hashing import EMPTY_ROOT, HASH_BYTES, leaf_hash, leaf_hashes, node_hash
from mainstem.ledger.proof import verify_consistency, verify_inclusion
from mainstem.ledger.tree import Tree

__all__ = [
    "EMPTY_ROOT",
    "HASH_BYTES",
    "Frontier",
    "Tree",
    "leaf_hash",
    "leaf_hashes",
    "node_hash",
    "verify_consistency",
    "verify_inclusion",
]
