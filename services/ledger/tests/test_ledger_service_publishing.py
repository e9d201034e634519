"""The published log: what another program finds below the folder, and what is refused to be signed."""

import json
import shutil
from base64 import b64decode
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import pytest
from tlog_scales import reader
from tlog_scales.backend import LocalBackend
from typing_extensions import override

from mainstem.events.errors import Unavailable
from mainstem.events.fact import Fact
from mainstem.events.frames import Entry, frame
from mainstem.events.ledger import ReceiptIssued
from mainstem.events.record import header
from mainstem.ledger import Tree, leaf_hash, verify_consistency, verify_inclusion
from mainstem.ledger.checkpoint import Checkpoint
from mainstem.ledger.note import Note, NoteError, Signature
from mainstem.ledger.receipt import Receipt
from mainstem.ledger.witness import Refused
from mainstem.ledger_service.folder import Folder, Forked
from mainstem.ledger_service.ports import News
from mainstem.ledger_service.publishing import Publisher
from mainstem.ledger_service.store import PostgresStore
from mainstem.storage import Database, Outbox
from mainstem.testkit.cosigner import LOG, WITNESS, Cosigner

pytestmark = pytest.mark.real

Write = Callable[..., list[Entry]]
RECEIPTS = ReceiptIssued.TOPIC


async def leaves(store: PostgresStore) -> bytes:
    """Return the leaf hashes of all that is stored."""
    async with store.snapshot() as archive:
        return b"".join([block.hashes async for block in archive.blocks()])


def publishing(folder: Path, cosigner: Cosigner) -> Publisher:
    """Return a process that begins with what a folder has."""
    return Publisher(Folder(folder, LOG.log_key), LOG, WITNESS.witness_key, cosigner.ask)


def checkpoint(folder: Path) -> tuple[Note, Checkpoint]:
    note = Note.parse((folder / "checkpoint").read_bytes())
    return note, Checkpoint.parse(note.text)


async def test_what_is_published_is_what_another_program_reads(
    store: PostgresStore, write: Write, publisher: Publisher, tmp_path: Path
) -> None:
    random, written = Random(7), 0
    for count in (1, 255, 1, 700, 43, 3_000):
        await store.archive(write(range(written, written + count), first_offset=written))
        written += count
        await publisher.publish(store)
        note, made = checkpoint(tmp_path / "log")
        assert [*note.signed_by([LOG.log_key]), *note.signed_by([WITNESS.witness_key])]
        assert (made.origin, made.size) == (LOG.name, written)
        tree, theirs = Tree(await leaves(store)), reader.TilesReader(LocalBackend(tmp_path / "log"))
        theirs.set_size(written)
        assert theirs.calculate_root_hash() == made.root == tree.root()
        for index in random.choices(range(written), k=5):
            path = theirs.get_inclusion_proof(index, written).node_hashes
            leaf = (await leaves(store))[32 * index : 32 * (index + 1)]
            assert verify_inclusion(leaf, index, written, path, made.root)
            proof = theirs.get_consistency_proof(index + 1, written).node_hashes
            assert verify_consistency(index + 1, tree.root(index + 1), written, made.root, proof)


async def test_the_event_of_a_checkpoint_carries_it_as_it_was_cosigned(
    store: PostgresStore, database: Database, write: Write, publisher: Publisher
) -> None:
    await store.archive(write(range(3)))
    note = await publisher.publish(store)
    assert note is not None
    message, *_ = await Outbox(database, "ledger").next_messages(10)
    fact = json.loads(message.value or b"")
    assert (fact["ledger"], fact["size"], fact["note"]) == (LOG.name, 3, note.render().decode())


async def test_every_decision_has_one_receipt_that_anybody_can_check(
    store: PostgresStore, database: Database, write: Write, publisher: Publisher
) -> None:
    decisions, others = write(range(40)), [entry._replace(topic="src.gauge") for entry in write(range(300))]
    for batch in (decisions[:3], others[:200], decisions[3:], others[200:]):
        await store.archive(batch)
        await publisher.publish(store)
    found = [
        json.loads(m.value or b"") for m in await Outbox(database, "ledger").next_messages(1_000) if m.topic == RECEIPTS
    ]
    entries = {fact["event_id"]: b64decode(fact["entry"]) for fact in found}
    assert len(found) == len(entries) == 40
    assert {(header(entry, "ce_id") or b"").decode(): frame(entry) for entry in decisions} == entries
    for fact in found:
        receipt = Receipt.parse(fact["receipt"].encode())
        proved = receipt.verify(leaf_hash(entries[fact["event_id"]]), LOG.log_key, [WITNESS.witness_key], needed=1)
        assert proved.size > receipt.index
        with pytest.raises(NoteError, match="the path does not lead"):
            receipt.verify(leaf_hash(b"another"), LOG.log_key, [WITNESS.witness_key], needed=1)


async def test_whoever_forges_an_id_gets_no_receipt_and_stops_nothing(
    store: PostgresStore, database: Database, write: Write, publisher: Publisher
) -> None:
    ids = [b"", b"\x00", b"\xff\xfe", b"A" * 32, b"a" * 31, b"g" * 32, b"7" * 32 + b"\n"]
    forged = [
        entry._replace(headers=(*[(n, v) for n, v in entry.headers if n != "ce_id"], ("ce_id", id_)))
        for entry, id_ in zip(write(range(len(ids))), ids, strict=True)
    ]
    twice = [entry._replace(topic="state.deployment", offset=n) for n, entry in enumerate(write([90, 90]))]
    await store.archive([*forged, *write([90], first_offset=90), *[e._replace(headers=e.headers[:-1]) for e in twice]])
    assert await publisher.publish(store) is not None
    messages = await Outbox(database, "ledger").next_messages(100)
    assert sum(message.topic == RECEIPTS for message in messages) == 3


class Dying(Cosigner):
    """A witness that cosigns, and whose answer does not come."""

    async def ask(self, submission: bytes) -> Sequence[Signature] | Refused:
        await super().ask(submission)
        raise Unavailable("nobody heard it")


async def test_a_process_that_died_before_it_heard_of_the_cosignature_goes_on(
    store: PostgresStore, write: Write, tmp_path: Path
) -> None:
    dying, living = Dying(), Cosigner()
    await store.archive(write(range(300)))
    with pytest.raises(Unavailable):
        await publishing(tmp_path, dying).publish(store)
    living.latest = dying.latest
    await store.archive(write(range(300, 700), first_offset=300))
    await publishing(tmp_path, living).publish(store)
    assert checkpoint(tmp_path)[1].size == living.latest[LOG.name].size == 700


class Killed(PostgresStore):
    """A database that is gone when the checkpoint is on the disk already."""

    @override
    async def publish_checkpoint(self, note: Note, checkpoint: Checkpoint, news: News, facts: Sequence[Fact]) -> None:
        raise Unavailable("killed")


async def test_a_process_that_died_before_the_event_publishes_it_and_once(
    store: PostgresStore, database: Database, write: Write, tmp_path: Path, cosigner: Cosigner
) -> None:
    await store.archive(write(range(300)))
    with pytest.raises(Unavailable, match="killed"):
        await publishing(tmp_path, cosigner).publish(Killed(database))
    died = published(tmp_path)
    assert await Outbox(database, "ledger").next_messages(1_000) == []
    for _ in range(2):
        await publishing(tmp_path, cosigner).publish(store)
    assert len(await Outbox(database, "ledger").next_messages(1_000)) == 301
    assert published(tmp_path) == died
    assert {"tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1"} <= died.keys()


def published(folder: Path) -> dict[str, bytes]:
    """Return the tiles below a folder."""
    files = (file for file in folder.rglob("tile/**/*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


async def test_a_database_that_was_set_back_is_not_signed(
    store: PostgresStore, database: Database, write: Write, tmp_path: Path, cosigner: Cosigner
) -> None:
    await store.archive(write(range(300)))
    await publishing(tmp_path, cosigner).publish(store)
    async with database.transaction() as tx:
        for each in ("block disable trigger user", "checkpoint disable trigger user"):
            await tx.execute(f"alter table {each}")
        await tx.execute("truncate block, checkpoint, position")
        await tx.execute("update tree set frontier = '\\x0000000000000000', unpublished = 0")
    await store.archive(write(range(200)))
    with pytest.raises(Forked, match="set back or changed; bring it back"):
        await publishing(tmp_path, cosigner).publish(store)


async def test_a_folder_and_a_database_that_were_both_set_back_are_noticed_by_the_witness(
    store: PostgresStore, write: Write, tmp_path: Path, cosigner: Cosigner
) -> None:
    await store.archive(write(range(300)))
    await publishing(tmp_path, cosigner).publish(store)
    other = Tree(bytes(32 * 400))
    cosigner.latest[LOG.name] = Checkpoint(LOG.name, 400, other.root())
    shutil.rmtree(tmp_path / "tile")
    (tmp_path / "checkpoint").unlink()
    await store.archive(write(range(300, 350), first_offset=300))
    with pytest.raises(Forked, match="the witness has cosigned a tree of 400 entries, and there are 350 here"):
        await publishing(tmp_path, cosigner).publish(store)
    await store.archive(write(range(350, 500), first_offset=350))
    with pytest.raises(Forked, match="does not cosign the tree of 500: 422 the tree of 500 entries does not extend"):
        await publishing(tmp_path, cosigner).publish(store)


@pytest.mark.parametrize(
    "damage",
    [
        ("tile/0/001.p/44", b"short", "cannot be read: tile/0/001.p/44 has 5 bytes, not 1408"),
        ("tile/0/001.p/44", bytes(44 * 32), "do not hash to its checkpoint"),
        ("checkpoint", b"nothing", "a note is a text"),
    ],
)
async def test_a_folder_that_was_changed_is_named(
    store: PostgresStore, write: Write, tmp_path: Path, cosigner: Cosigner, damage: tuple[str, bytes, str]
) -> None:
    file, data, says = damage
    await store.archive(write(range(300)))
    await publishing(tmp_path, cosigner).publish(store)
    (tmp_path / file).write_bytes(data)
    await store.archive(write(range(300, 310), first_offset=300))
    with pytest.raises(Forked, match=says):
        await publishing(tmp_path, cosigner).publish(store)


async def test_a_folder_of_another_log_is_not_gone_on_with(
    store: PostgresStore, write: Write, tmp_path: Path, cosigner: Cosigner
) -> None:
    await store.archive(write(range(3)))
    await publishing(tmp_path, cosigner).publish(store)
    with pytest.raises(Forked, match=r"the note is signed by none of example\.com/witness"):
        Folder(tmp_path, WITNESS.log_key).signed()


async def test_nobody_may_change_what_was_signed(
    store: PostgresStore, database: Database, write: Write, publisher: Publisher
) -> None:
    await store.archive(write(range(3)))
    await publisher.publish(store)
    with pytest.raises(Exception, match="append-only: UPDATE refused"):
        async with database.transaction() as tx:
            await tx.execute("update checkpoint set size = 4")
