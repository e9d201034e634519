from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem import ledger
from mainstem.ledger import (
    EMPTY_ROOT,
    Frontier,
    Tree,
    leaf_hash,
    leaf_hashes,
    node_hash,
    verify_consistency,
    verify_inclusion,
)

LIMIT = 65
LEAVES = leaf_hashes(str(i).encode() for i in range(LIMIT))
TREE = Tree(LEAVES)

# The reference vectors of Certificate Transparency (cpp/merkletree/merkle_tree_test.cc).
CT_ENTRIES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
CT_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
CT_INCLUSION = [
    (1, 1, []),
    (
        1,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        6,
        8,
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (3, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
]
CT_CONSISTENCY = [
    (1, 1, []),
    (
        6,
        8,
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        2,
        5,
        [
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]


def leaf(index):
    return LEAVES[32 * index : 32 * index + 32]


def recursive_root(leaves):
    """RFC 6962, 2.1, word for word."""
    if len(leaves) <= 1:
        return leaves[0] if leaves else sha256(b"").digest()
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return sha256(b"\x01" + recursive_root(leaves[:k]) + recursive_root(leaves[k:])).digest()


def mutations(proof):
    """Every flip, drop, repetition, swap and extension of a proof by one hash."""
    for at, item in enumerate(proof):
        yield [*proof[:at], bytes([item[0] ^ 1]) + item[1:], *proof[at + 1 :]]
        yield proof[:at] + proof[at + 1 :]
        yield [*proof[:at], item, *proof[at:]]
        yield [*proof[:at], item[:-1], *proof[at + 1 :]]
    for at in range(len(proof) - 1):
        yield [*proof[:at], proof[at + 1], proof[at], *proof[at + 2 :]]
    yield [*proof, EMPTY_ROOT]
    yield [EMPTY_ROOT, *proof]


def test_the_public_names_are_these():
    assert ledger.__all__ == [
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


def test_a_leaf_and_a_node_over_the_same_bytes_have_different_hashes():
    left, right = leaf_hash(b"left"), leaf_hash(b"right")
    assert node_hash(left, right) != leaf_hash(left + right)


@pytest.mark.parametrize("size", range(9))
def test_roots_equal_the_certificate_transparency_vectors(size):
    leaves = leaf_hashes(CT_ENTRIES[:size])
    assert Tree(leaves).root().hex() == Frontier().append(leaves).root().hex() == CT_ROOTS[size]


@pytest.mark.parametrize(("number", "size", "path"), CT_INCLUSION)
def test_audit_paths_equal_the_certificate_transparency_vectors(number, size, path):
    assert [item.hex() for item in Tree(leaf_hashes(CT_ENTRIES)).inclusion(number - 1, size)] == path


@pytest.mark.parametrize(("old", "size", "proof"), CT_CONSISTENCY)
def test_consistency_proofs_equal_the_certificate_transparency_vectors(old, size, proof):
    assert [item.hex() for item in Tree(leaf_hashes(CT_ENTRIES)).consistency(old, size)] == proof


def test_every_root_up_to_the_limit_follows_the_definition_of_the_rfc():
    leaves = [leaf(i) for i in range(LIMIT)]
    assert [TREE.root(n) for n in range(LIMIT + 1)] == [recursive_root(leaves[:n]) for n in range(LIMIT + 1)]


@pytest.mark.parametrize("size", range(1, LIMIT + 1))
def test_every_entry_is_proven_in_its_place_and_in_no_other(size):
    root = TREE.root(size)
    for index in range(size):
        path = TREE.inclusion(index, size)
        proven = [at for at in range(size) if verify_inclusion(leaf(index), at, size, path, root)]
        assert proven == [index]


@pytest.mark.parametrize("size", range(1, LIMIT + 1))
def test_no_changed_audit_path_is_accepted(size):
    root = TREE.root(size)
    accepted = [
        (index, changed)
        for index in range(size)
        for changed in mutations(TREE.inclusion(index, size))
        if verify_inclusion(leaf(index), index, size, changed, root)
    ]
    assert accepted == []


@pytest.mark.parametrize("size", range(LIMIT + 1))
def test_every_older_tree_is_proven_a_prefix(size):
    root = TREE.root(size)
    assert all(
        verify_consistency(old, TREE.root(old), size, root, TREE.consistency(old, size)) for old in range(size + 1)
    )


@pytest.mark.parametrize("size", range(1, LIMIT + 1))
def test_no_changed_consistency_proof_is_accepted(size):
    root = TREE.root(size)
    accepted = [
        (old, changed)
        for old in range(size + 1)
        for changed in mutations(TREE.consistency(old, size))
        if verify_consistency(old, TREE.root(old), size, root, changed)
    ]
    assert accepted == []


@pytest.mark.parametrize("size", range(2, LIMIT + 1))
def test_a_rewritten_history_is_never_consistent(size):
    forged = Tree(leaf_hash(b"forged") + LEAVES[32 : 32 * size])
    accepted = [
        old
        for old in range(1, size + 1)
        if verify_consistency(old, TREE.root(old), size, forged.root(), forged.consistency(old, size))
    ]
    assert accepted == []


def test_the_wrong_old_size_is_refused():
    proof, root = TREE.consistency(21, 50), TREE.root(50)
    assert [old for old in range(51) if verify_consistency(old, TREE.root(21), 50, root, proof)] == [21]


def test_an_empty_tree_is_a_prefix_only_with_its_own_root():
    assert verify_consistency(0, EMPTY_ROOT, 5, TREE.root(5), [])
    assert not verify_consistency(0, TREE.root(1), 5, TREE.root(5), [])
    assert not verify_consistency(0, TREE.root(1), 0, TREE.root(1), [])


@pytest.mark.parametrize(("old", "size"), [(-1, 5), (6, 5)])
def test_impossible_sizes_are_refused_by_the_verifier(old, size):
    assert not verify_consistency(old, EMPTY_ROOT, size, TREE.root(5), [])
    assert not verify_inclusion(leaf(0), size + 1, size, [], TREE.root(5))


@given(st.lists(st.integers(0, 40), max_size=8))
def test_a_frontier_grows_the_same_whatever_the_batches(batches):
    frontier, at = Frontier(), 0
    leaves = leaf_hashes(str(i).encode() for i in range(sum(batches)))
    for count in batches:
        frontier = frontier.append(leaves[32 * at : 32 * (at + count)])
        at += count
    assert frontier == Frontier().append(leaves)
    assert frontier.root() == Tree(leaves).root()


@given(st.lists(st.integers(0, 40), max_size=8))
def test_a_tree_grows_the_same_whatever_the_batches(batches):
    tree, at = Tree(), 0
    leaves = leaf_hashes(str(i).encode() for i in range(sum(batches)))
    for count in batches:
        tree.append(leaves[32 * at : 32 * (at + count)])
        at += count
    whole = Tree(leaves)
    assert [tree.root(n) for n in range(at + 1)] == [whole.root(n) for n in range(at + 1)]


@pytest.mark.parametrize("size", range(LIMIT + 1))
def test_a_frontier_survives_being_written_and_read(size):
    frontier = Frontier().append(LEAVES[: 32 * size])
    assert Frontier.from_bytes(frontier.to_bytes()) == frontier


@pytest.mark.parametrize(
    "damage", [b"", bytes(7) + b"\x01", bytes(8) + b"\x07" * 32, bytes(7) + b"\x01" + b"\x07" * 31]
)
def test_a_damaged_frontier_is_refused(damage):
    with pytest.raises(ValueError, match=r"damaged|whole hashes"):
        Frontier.from_bytes(damage)


def test_entries_passed_for_leaf_hashes_are_refused():
    with pytest.raises(ValueError, match="pass leaf hashes"):
        Frontier().append(b"an entry")
    with pytest.raises(ValueError, match="pass leaf hashes"):
        Tree(b"an entry")


@pytest.mark.parametrize(
    "ask", [lambda t: t.root(66), lambda t: t.inclusion(5, 5), lambda t: t.consistency(6, 5), lambda t: t.root(-1)]
)
def test_questions_beyond_the_tree_are_refused(ask):
    with pytest.raises(ValueError, match=r"entries|entry"):
        ask(TREE)
