"""The verifiers of proofs, in every small tree and under every small change, beside those of another program."""

from collections.abc import Iterator

from tlog_scales.tlog import ConsistencyProof, ConsistencyProofInvalid, InclusionProof, InclusionProofInvalid

from mainstem.ledger import EMPTY_ROOT, Tree, leaf_hash, verify_consistency, verify_inclusion

LIMIT = 65
LEAVES = [leaf_hash(b"%d" % number) for number in range(LIMIT)]
TREE = Tree(b"".join(LEAVES))
#: Cases at least; that many were asked of both.
CASES = 190_000


def changed(proof: list[bytes]) -> Iterator[list[bytes]]:
    """Yield a proof with one hash flipped, dropped, doubled or swapped with the next, or one more at an end."""
    for at, item in enumerate(proof):
        for byte in (0, 7, 15, 23, 31):
            flipped = item[:byte] + bytes([item[byte] ^ 1]) + item[byte + 1 :]
            yield [*proof[:at], flipped, *proof[at + 1 :]]
        yield proof[:at] + proof[at + 1 :]
        yield [*proof[:at], item, *proof[at:]]
    for at in range(len(proof) - 1):
        yield [*proof[:at], proof[at + 1], proof[at], *proof[at + 2 :]]
    yield [*proof, EMPTY_ROOT]
    yield [EMPTY_ROOT, *proof]
    yield [*proof, *proof[-1:]]


def included(leaf: bytes, index: int, size: int, path: list[bytes]) -> bool:
    try:
        InclusionProof(index, size, list(path)).check(leaf, TREE.root(size))
    except (InclusionProofInvalid, IndexError):
        return False
    return True


def consistent(old: int, size: int, proof: list[bytes]) -> bool:
    try:
        ConsistencyProof(old, size, list(proof)).check(TREE.root(old), TREE.root(size))
    except (ConsistencyProofInvalid, IndexError):
        return False
    return True


def test_both_verifiers_accept_the_proofs_of_a_tree_and_nothing_else():
    cases = 0
    for size in range(1, LIMIT + 1):
        for index in range(size):
            path = TREE.inclusion(index, size)
            asked = [(index, path, True), *((index, other, other == path) for other in changed(path))]
            asked += [(at, path, at == index) for at in (index ^ 1, (index + 1) % size, size - 1 - index)]
            for at, found, right in asked:
                ours = verify_inclusion(LEAVES[index], at, size, found, TREE.root(size))
                assert ours == right, (index, at, size)
                if at < size:
                    assert ours == included(LEAVES[index], at, size, found), (index, at, size)
                cases += 1
        for old in range(1, size + 1):
            proof = TREE.consistency(old, size)
            for found in (proof, *changed(proof)):
                ours = verify_consistency(old, TREE.root(old), size, TREE.root(size), found)
                assert ours == (found == proof), (old, size)
                if found or old < size:
                    assert ours == consistent(old, size, found), (old, size)
                cases += 1
    assert cases >= CASES
