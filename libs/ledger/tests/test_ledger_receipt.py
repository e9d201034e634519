"""Receipts: one text proves one entry, and nothing that was changed in it does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem.ledger import Tree, leaf_hash, leaf_hashes
from mainstem.ledger.checkpoint import Checkpoint
from mainstem.ledger.keys import Secret
from mainstem.ledger.note import Note, NoteError
from mainstem.ledger.receipt import Receipt

ENTRIES = [b"%d" % number for number in range(70)]
TREE = Tree(leaf_hashes(ENTRIES))
LOG, OTHER = Secret("log.test/a", bytes(32)), Secret("log.test/b", bytes(32))
WITNESSES = [Secret(f"witness.test/{number}", bytes([number + 1]) * 32) for number in range(3)]
KEYS = [witness.witness_key for witness in WITNESSES]


def receipt(index: int, size: int = 70, *, witnesses: int = 2, log: Secret = LOG) -> Receipt:
    text = Checkpoint("log.test/a", size, TREE.root(size)).text()
    signatures = (log.sign(text), *(witness.cosign(text, 5) for witness in WITNESSES[:witnesses]))
    return Receipt(index, tuple(TREE.inclusion(index, size)), Note(text, signatures))


@pytest.mark.parametrize("size", [1, 2, 3, 64, 70])
def test_every_entry_is_proven(size: int):
    for index in range(size):
        found = Receipt.parse(receipt(index, size).render())
        assert found.verify(leaf_hash(ENTRIES[index]), LOG.log_key, KEYS, needed=2).size == size


def test_what_comes_with_it_is_kept_and_vouched_for_by_nobody():
    with_extra = Receipt(3, receipt(3).path, receipt(3).checkpoint, b"hello")
    assert Receipt.parse(with_extra.render()) == with_extra
    assert with_extra.verify(leaf_hash(b"3"), LOG.log_key)


@given(st.binary(min_size=1, max_size=3), st.integers(0, 2_000))
def test_whatever_is_changed_in_a_receipt_is_noticed(change: bytes, place: int):
    data = bytearray(receipt(17).render())
    at = place % len(data)
    data[at : at + len(change)] = change
    try:
        changed = Receipt.parse(bytes(data))
        changed.verify(leaf_hash(b"17"), LOG.log_key, KEYS, needed=2)
    except NoteError:
        return
    assert (changed.index, changed.path, changed.checkpoint.text) == (17, receipt(17).path, receipt(17).checkpoint.text)


@pytest.mark.parametrize(
    ("given_", "leaf", "said"),
    [
        (receipt(3), b"4", "does not lead from entry 3"),
        (Receipt(4, receipt(3).path, receipt(3).checkpoint), b"3", "does not lead from entry 4"),
        (receipt(3, witnesses=1), b"3", "cosigned by 1 known witnesses, not by 2"),
        (receipt(3, witnesses=0), b"3", "signed by none of witness.test"),
        (receipt(3, log=OTHER), b"3", "signed by none of log.test/a"),
    ],
)
def test_what_proves_nothing_is_refused(given_: Receipt, leaf: bytes, said: str):
    with pytest.raises(NoteError, match=said):
        given_.verify(leaf_hash(leaf), LOG.log_key, KEYS, needed=2)


def test_a_receipt_of_another_log_is_refused():
    with pytest.raises(NoteError, match=r"is of log\.test/a, not of log\.test/b"):
        receipt(3, log=OTHER).verify(leaf_hash(b"3"), OTHER.log_key)


@pytest.mark.parametrize(
    "above",
    [
        "c2sp.org/tlog-proof@v2\nindex 3",
        "c2sp.org/tlog-proof@v1\nindex 03",
        "c2sp.org/tlog-proof@v1\nindex -3",
        "c2sp.org/tlog-proof@v1\nindex 3\nnonsense",
        "c2sp.org/tlog-proof@v1",
        "c2sp.org/tlog-proof@v1\nextra AA==",
    ],
)
def test_what_is_no_receipt_is_refused(above: str):
    with pytest.raises(NoteError, match="a receipt reads"):
        Receipt.parse(above.encode() + b"\n\n" + receipt(3).checkpoint.render())
