"""What the registry takes for proof that a decision is in the log."""

from base64 import b64encode
from collections.abc import Callable

import pytest

from mainstem.events.catalogue import encode
from mainstem.events.envelope import Event, begin
from mainstem.events.errors import Rejected
from mainstem.events.frames import Entry, frame
from mainstem.events.ledger import ReceiptIssued
from mainstem.events.registry import VersionApproved
from mainstem.ledger import Tree, leaf_hash, leaf_hashes
from mainstem.ledger.checkpoint import Checkpoint
from mainstem.ledger.keys import Secret
from mainstem.ledger.note import Note
from mainstem.ledger.receipt import Receipt
from mainstem.registry.evidence import Evidence
from mainstem.registry.memory import MemoryStore
from mainstem.registry.ports import Proved
from mainstem.runtime import Problem
from mainstem.testkit.cosigner import LOG, WITNESS
from mainstem.testkit.waiting import running

MAY = 1_367_366_400_000_000
OTHERS = [b"%d" % number for number in range(20)]


def approval(number: int = 1) -> Event:
    fact = VersionApproved(model="delay", version=number, onnx="sha256:00", approved_by="ann")
    return begin(fact, command_id=f"approve-{number}", source="/test", actor="ann", recorded_us=MAY)


def entry_of(event: Event) -> bytes:
    message = encode(event)
    return frame(Entry(message.topic, 0, 7, 1_000, message.key, message.value, message.headers))


def receipt(
    event: Event, entry: bytes | None = None, log: Secret = LOG, witness: Secret | None = WITNESS
) -> ReceiptIssued:
    entry = entry_of(event) if entry is None else entry
    tree = Tree(leaf_hashes([*OTHERS, entry, *OTHERS]))
    text = Checkpoint(LOG.name, tree.size, tree.root()).text()
    signatures = (log.sign(text), *([witness.cosign(text, 1)] if witness else []))
    proof = Receipt(20, tuple(tree.inclusion(20, tree.size)), Note(text, signatures))
    return ReceiptIssued(
        event_id=event.envelope.id, leaf=20, entry=b64encode(entry).decode(), receipt=proof.render().decode()
    )


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def evidence(store: MemoryStore) -> Evidence:
    return Evidence(store, LOG.log_key, WITNESS.witness_key, patience_s=0.2)


async def issue(store: MemoryStore, fact: ReceiptIssued, number: int = 0) -> None:
    event = begin(fact, command_id=f"{fact.event_id}/{number}", source="/ledger", actor="/ledger", recorded_us=MAY)
    async with store.transaction() as book:
        await book.note(event)


def test_a_receipt_tells_the_leaf_and_the_tree(evidence: Evidence) -> None:
    assert evidence.check(receipt(approval()), approval()) == Proved(approval().envelope.id, 20, 41)


STRANGER = Secret(LOG.name, bytes(32))
FORGED: list[tuple[Callable[[], ReceiptIssued], str]] = [
    (lambda: receipt(approval(), entry_of(approval(2))), "is of another record"),
    (lambda: receipt(approval(), b"\x01"), "1 bytes are no frame"),
    (lambda: receipt(approval(), log=STRANGER), "is signed by none of example.com/log"),
    (lambda: receipt(approval(), witness=None), "is signed by none of example.com/witness"),
    (lambda: receipt(approval(), witness=Secret(WITNESS.name, bytes(32))), "is signed by none of example.com/witness"),
    (lambda: receipt(approval()).model_copy(update={"entry": "%%"}), "proves nothing"),
    (lambda: receipt(approval()).model_copy(update={"receipt": "none"}), "a receipt reads"),
    (
        lambda: receipt(approval()).model_copy(
            update={"receipt": receipt(approval()).receipt.replace("index 20", "index 21")}
        ),
        "the path does not lead from entry 21",
    ),
]


@pytest.mark.parametrize(("forge", "why"), FORGED, ids=[why for _, why in FORGED])
def test_what_proves_nothing_is_refused(evidence: Evidence, forge: Callable[[], ReceiptIssued], why: str) -> None:
    with pytest.raises(Rejected, match=why):
        evidence.check(forge(), approval())


async def test_a_decision_waits_for_its_receipt(evidence: Evidence, store: MemoryStore) -> None:
    async with running(evidence.prove([approval(), approval(2)])) as proving:
        await issue(store, receipt(approval(2)))
        await issue(store, receipt(approval()))
        assert [proved.event_id for proved in await proving] == [approval().envelope.id, approval(2).envelope.id]


async def test_a_forged_receipt_does_not_stand_in_the_way_of_the_true_one(
    evidence: Evidence, store: MemoryStore
) -> None:
    await issue(store, receipt(approval(), witness=None), 1)
    await issue(store, receipt(approval()), 2)
    assert await evidence.prove([approval()]) == [Proved(approval().envelope.id, 20, 41)]


async def test_a_decision_that_nothing_covers_is_not_acknowledged(evidence: Evidence, store: MemoryStore) -> None:
    await issue(store, receipt(approval(), witness=None))
    with pytest.raises(Problem, match=r"the decision stands as .* no cosigned checkpoint covers it") as refused:
        await evidence.prove([approval()])
    assert (refused.value.status, refused.value.code) == (503, "not_evidenced")


async def test_nothing_to_prove_takes_no_time(evidence: Evidence) -> None:
    assert await evidence.prove([]) == []


def test_an_entry_is_a_leaf_by_its_frame() -> None:
    assert Tree(leaf_hashes([entry_of(approval())])).root() == leaf_hash(entry_of(approval()))
