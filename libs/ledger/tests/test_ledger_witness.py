"""A witness cosigns what extends the tree that it knows, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem.ledger import EMPTY_ROOT, Tree, leaf_hashes
from mainstem.ledger.checkpoint import Checkpoint
from mainstem.ledger.keys import Secret
from mainstem.ledger.note import Note, NoteError
from mainstem.ledger.witness import SIZE_TYPE, Refused, Submission, judge

LOG, STRANGER = Secret("log.test/a", bytes(32)), Secret("log.test/a", bytes([1]) * 32)
ORIGIN = LOG.name
LOGS = {ORIGIN: LOG.log_key}
TREE = Tree(leaf_hashes(b"%d" % number for number in range(100)))
FORK = Tree(leaf_hashes(b"%d" % (number if number < 50 else number + 1) for number in range(100)))


def checkpoint(size: int, tree: Tree = TREE) -> Checkpoint:
    return Checkpoint(ORIGIN, size, tree.root(size))


def asking(old: int, new: Checkpoint, tree: Tree = TREE, signer: Secret = LOG, proof: list[bytes] | None = None):
    """Return a submission; its proof is that of the tree."""
    hashes = tree.consistency(min(old, new.size), new.size) if proof is None else proof
    return Submission(old, tuple(hashes), Note(new.text(), (signer.sign(new.text()),))).render()


@given(st.lists(st.integers(0, 100), min_size=1))
def test_a_tree_that_grows_is_followed(sizes: list[int]):
    latest: dict[str, Checkpoint] = {}
    for size in sorted(sizes):
        known = latest[ORIGIN].size if latest else 0
        found = judge(asking(known, checkpoint(size)), LOGS, latest)
        assert found == checkpoint(size)
        latest[ORIGIN] = checkpoint(size)


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 100))
def test_nothing_but_an_extension_is_cosigned(known: int, old: int, size: int):
    latest = {ORIGIN: checkpoint(known)}
    for tree in (TREE, FORK):
        new = checkpoint(size, tree)
        found = judge(asking(old, new, tree), LOGS, latest)
        extends = old == known <= size and tree.root(known) == TREE.root(known)
        assert (found == new) == extends


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (asking(60, checkpoint(70, FORK), FORK), 422),  # a fork behind what is known
        (asking(60, checkpoint(60, FORK), FORK), 409),  # of the same size
        (asking(60, checkpoint(50)), 400),  # a rollback
        (asking(50, checkpoint(70)), 409),
        (asking(0, checkpoint(70)), 409),
        (asking(60, checkpoint(70), proof=[]), 422),
        (asking(60, checkpoint(70), signer=STRANGER), 403),
        (asking(60, Checkpoint("log.test/else", 70, TREE.root(70))), 404),
        (b"", 400),
        (b"old 60\n\n", 400),
        (b"old " + b"9" * 5_000 + b"\n\n" + asking(60, checkpoint(60)).partition(b"\n\n")[2], 400),
        (b"old 060\n\n" + asking(60, checkpoint(60)).partition(b"\n\n")[2], 400),
        (b"old 60\nnonsense\n\n" + asking(60, checkpoint(60)).partition(b"\n\n")[2], 400),
        (asking(60, checkpoint(70), proof=[bytes(32)] * 64), 400),
    ],
)
def test_what_is_refused_is_refused_as_the_specification_says(body: bytes, status: int):
    found = judge(body, LOGS, {ORIGIN: checkpoint(60)})
    assert isinstance(found, Refused)
    assert found.status == status


def test_who_does_not_know_what_was_cosigned_last_is_told():
    found = judge(asking(0, checkpoint(70)), LOGS, {ORIGIN: checkpoint(60)})
    assert found == Refused(409, "60\n", SIZE_TYPE)


def test_a_changed_signature_is_refused():
    body = asking(0, checkpoint(70)).decode()
    line = body.splitlines()[-1]
    key_id_and_signature = line.split(" ")[2]
    changed = key_id_and_signature[:20] + ("A" if key_id_and_signature[20] != "A" else "B") + key_id_and_signature[21:]
    found = judge(body.replace(key_id_and_signature, changed).encode(), LOGS, {})
    assert isinstance(found, Refused)
    assert found.status == 403


def test_a_tree_without_entries_has_one_root():
    assert judge(asking(0, Checkpoint(ORIGIN, 0, EMPTY_ROOT)), LOGS, {}) == Checkpoint(ORIGIN, 0, EMPTY_ROOT)
    found = judge(asking(0, Checkpoint(ORIGIN, 0, bytes(32))), LOGS, {})
    assert isinstance(found, Refused)
    assert found.status == 422


def test_a_submission_is_read_as_it_was_written():
    body = asking(60, checkpoint(70))
    assert Submission.parse(body).render() == body
    with pytest.raises(NoteError):
        Submission.parse(b"\xff\n\n")
