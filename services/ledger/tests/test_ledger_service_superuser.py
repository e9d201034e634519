"""Whoever may do anything in the database changes something of what was archived: the audit finds it and names it."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from struct import pack

import asyncpg
import cramjam
import pytest

from mainstem.audit.verification import Keys
from mainstem.cli.audit import verify
from mainstem.events.frames import Entry
from mainstem.ledger import Frontier, leaf_hashes
from mainstem.ledger.checkpoint import Checkpoint
from mainstem.ledger.entry import entry_of
from mainstem.ledger.keys import Secret
from mainstem.ledger.note import Note
from mainstem.ledger_service.domain import Block, frames_of
from mainstem.ledger_service.engine import Verdict
from mainstem.ledger_service.publishing import Publisher
from mainstem.ledger_service.store import PostgresStore
from mainstem.storage import Database, Outbox
from mainstem.testkit.cosigner import LOG, WITNESS

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("settings")]

Write = Callable[..., list[Entry]]
KEYS = Keys(LOG.log_key, [WITNESS.witness_key])
OTHER = Secret(LOG.name, bytes(32))


@pytest.fixture
async def archive(
    store: PostgresStore, database: Database, write: Write, publisher: Publisher, tmp_path: Path
) -> "Superuser":
    """Archive and publish 62 leaves, archive five more; leaves 30 and 51 tell of the checkpoints over those before."""
    outbox, numbers = Outbox(database, "ledger"), iter(range(1_000))

    async def grow(*counts: int) -> None:
        for count in counts:
            batch = [next(numbers) for _ in range(count)]
            await store.archive([e._replace(topic="evt.data.gauge") for e in write(batch, first_offset=batch[0])])

    for place in range(2):
        await grow(*((10, 10, 10) if place == 0 else (10, 10)))
        await publisher.publish(store)
        (told,) = await outbox.next_messages(10)
        await outbox.advance(1)
        await store.archive([Entry(told.topic, 0, place, 0, told.key, told.value, told.headers)])
    await grow(10)
    await publisher.publish(store)
    await grow(5)
    return Superuser(database, tmp_path / "log")


@pytest.fixture
def settings(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be in the environment of that platform."""
    monkeypatch.setenv("MAINSTEM_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("MAINSTEM_DATABASE_URL", database_url)


class Superuser:
    """Changes what it likes."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self.folder = folder

    async def do(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        async with self._database.connection() as connection, connection.transaction():
            await connection.execute("set local session_replication_role = replica")
            return await connection.fetch(statement, *arguments)

    async def block(self, first_leaf: int) -> Block:
        columns = ", ".join(Block.__slots__)
        (row,) = await self.do(f"select {columns} from block where first_leaf = $1", first_leaf)
        return Block(*row)

    async def put(self, first_leaf: int, block: Block) -> None:
        """Write a block in the place of the one that begins there."""
        columns = Block.__slots__
        values = [getattr(block, column) for column in columns]
        await self.do("delete from block where first_leaf = $1", first_leaf)
        await self.do(
            f"insert into block({', '.join(columns)}) values ({', '.join(f'${n}' for n, _ in enumerate(columns, 1))})",
            *values,
        )

    async def shift(self, first_leaf: int, by: int) -> None:
        """Move the blocks from a leaf on."""
        await self.do("update block set first_leaf = -1 - first_leaf where first_leaf >= $1", first_leaf)
        await self.do("update block set first_leaf = -1 - first_leaf + $1 where first_leaf < 0", by)

    async def make_tree(self) -> None:
        """Write the tree that follows from the hashes."""
        rows = await self.do("select hashes from block order by first_leaf")
        frontier = Frontier().append(b"".join(row["hashes"] for row in rows))
        await self.do("update tree set frontier = $1", frontier.to_bytes())


Edit = Callable[[Superuser], Awaitable[object]]


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def holding(block: Block, frames: list[bytes], places: list[int] | None = None) -> Block:
    """Return a block with these frames, and with all that follows from them; ids and offsets are those of `places`."""
    places = places or list(range(len(frames)))
    return replace(
        block,
        count=len(frames),
        frames=packed(frames),
        hashes=leaf_hashes([entry_of(frame) for frame in frames]),
        ids=b"".join(block.ids[16 * place : 16 * place + 16] for place in places),
        offsets=b"".join(block.offsets[8 * place : 8 * place + 8] for place in places),
    )


def packed(frames: list[bytes]) -> bytes:
    return bytes(cramjam.zstd.compress(b"".join(pack(">I", len(frame)) + frame for frame in frames)))


def forged(block: Block) -> list[bytes]:
    frames = frames_of(block)
    frames[3] = frames[3].replace(b'"ann"', b'"bob"')
    return frames


async def a_byte_of_a_value(superuser: Superuser) -> None:
    block = await superuser.block(10)
    await superuser.put(10, replace(block, frames=packed(forged(block))))


async def a_value_with_its_hash(superuser: Superuser) -> None:
    block = await superuser.block(10)
    await superuser.put(10, holding(block, forged(block)))


async def a_value_with_its_hash_and_the_tree(superuser: Superuser) -> None:
    await a_value_with_its_hash(superuser)
    await superuser.make_tree()


async def a_value_that_no_entry_tells_a_checkpoint_of_yet(superuser: Superuser) -> None:
    block = await superuser.block(52)
    await superuser.put(52, holding(block, forged(block)))
    await superuser.make_tree()


async def frames_that_nobody_can_read(superuser: Superuser) -> None:
    await superuser.do("update block set frames = 'x' where first_leaf = 10")


def column(name: str, at: int) -> Edit:
    async def edit(superuser: Superuser) -> None:
        block = await superuser.block(10)
        await superuser.put(10, replace(block, **{name: flip(getattr(block, name), at)}))

    return edit


def statement(*statements: str) -> Edit:
    async def edit(superuser: Superuser) -> None:
        for each in statements:
            await superuser.do(each)

    return edit


async def an_entry_taken_out(superuser: Superuser) -> None:
    block, places = await superuser.block(10), [place for place in range(10) if place != 3]
    await superuser.put(10, holding(block, [frames_of(block)[place] for place in places], places))


async def an_entry_taken_out_and_the_rest_moved_up(superuser: Superuser) -> None:
    await an_entry_taken_out(superuser)
    await superuser.shift(20, -1)
    await superuser.make_tree()


async def two_entries_reordered(superuser: Superuser) -> None:
    block, places = await superuser.block(10), [0, 1, 2, 4, 3, 5, 6, 7, 8, 9]
    await superuser.put(10, holding(block, [frames_of(block)[place] for place in places], places))
    await superuser.make_tree()


async def two_blocks_swapped(superuser: Superuser) -> None:
    await superuser.do("update block set first_leaf = first_leaf - 100 where first_leaf in (0, 10)")
    await superuser.do("update block set first_leaf = -90 - first_leaf where first_leaf < 0")
    await superuser.make_tree()


async def a_block_put_in(superuser: Superuser) -> None:
    block = await superuser.block(20)
    await superuser.shift(20, 10)
    offsets = pack("<10q", *range(900, 910))
    await superuser.put(20, replace(block, part=1, offsets=offsets, first_offset=900, last_offset=909))
    await superuser.make_tree()


async def a_block_put_at_the_end(superuser: Superuser) -> None:
    block = await superuser.block(62)
    await superuser.put(67, replace(block, first_leaf=67, part=1))


async def the_end_cut_off_with_the_tree(superuser: Superuser) -> None:
    await superuser.do("delete from block where first_leaf >= 52")
    await superuser.make_tree()


async def all_cut_off_with_tree_and_checkpoints(superuser: Superuser) -> None:
    await superuser.do("delete from block where first_leaf >= 30")
    await superuser.do("delete from checkpoint where size > 30")
    await superuser.make_tree()


async def the_tree_set_back(superuser: Superuser) -> None:
    rows = await superuser.do("select hashes from block where first_leaf < 20 order by first_leaf")
    await superuser.do(
        "update tree set frontier = $1", Frontier().append(b"".join(r["hashes"] for r in rows)).to_bytes()
    )


async def a_checkpoint_of_another_key(superuser: Superuser) -> None:
    made = Checkpoint(LOG.name, 40, bytes(32))
    note = Note(made.text(), (OTHER.sign(made.text()), OTHER.cosign(made.text(), 1)))
    await superuser.do("insert into checkpoint values (40, $1, $2)", made.root, note.render().decode())


async def a_checkpoint_that_was_not_cosigned(superuser: Superuser) -> None:
    made = Checkpoint(LOG.name, 40, bytes(32))
    note = Note(made.text(), (LOG.sign(made.text()),))
    await superuser.do("insert into checkpoint values (40, $1, $2)", made.root, note.render().decode())


async def an_entry_that_tells_of_a_checkpoint(superuser: Superuser) -> None:
    block = await superuser.block(30)
    await superuser.put(30, holding(block, [frame.replace(b'"size":30', b'"size":29') for frame in frames_of(block)]))
    await superuser.make_tree()


def tile(content: Callable[[bytes], bytes]) -> Edit:
    async def edit(superuser: Superuser) -> None:
        file = superuser.folder / "tile" / "0" / "000.p" / "62"
        file.write_bytes(content(file.read_bytes()))

    return edit


async def the_published_checkpoint_removed(superuser: Superuser) -> None:
    (superuser.folder / "checkpoint").unlink()


async def the_published_checkpoint_set_back(superuser: Superuser) -> None:
    (row,) = await superuser.do("select note from checkpoint where size = 51")
    (superuser.folder / "checkpoint").write_text(row["note"])


async def the_published_checkpoint_of_another_key(superuser: Superuser) -> None:
    text = Note.parse((superuser.folder / "checkpoint").read_bytes()).text
    (superuser.folder / "checkpoint").write_bytes(Note(text, (OTHER.sign(text), OTHER.cosign(text, 1))).render())


EACH = {str(leaf) for leaf in range(10, 20)}
ROOT = "update checkpoint set root = set_byte(root, 0, 1 # get_byte(root, 0)) where size = 51"
#: What is changed, and all that the audit names: leaves, sizes of checkpoints, the row of the tree.
EDITS: dict[str, tuple[Edit, set[str]]] = {
    "a byte of a value": (a_byte_of_a_value, {"13"}),
    "a value with its hash": (a_value_with_its_hash, {"13"}),
    "a value, its hash, the tree": (a_value_with_its_hash_and_the_tree, {"13", "the tree"}),
    "a value, its hash, the tree, no later entry": (
        a_value_that_no_entry_tells_a_checkpoint_of_yet,
        {"55", "the tree"},
    ),
    "unreadable frames": (frames_that_nobody_can_read, {"10-19"}),
    "a hash": (column("hashes", 32 * 3), {"13"}),
    "an id": (column("ids", 16 * 3), {"13"}),
    "an offset": (column("offsets", 8 * 3), {"13"}),
    "topic": (statement("update block set topic = 'evt.data.other' where first_leaf = 10"), EACH),
    "part": (statement("update block set part = 7 where first_leaf = 10"), EACH),
    "first_offset": (statement("update block set first_offset = 9 where first_leaf = 10"), {"10-19"}),
    "last_offset": (statement("update block set last_offset = 20 where first_leaf = 10"), {"10-19"}),
    "count": (statement("update block set count = 9 where first_leaf = 10"), {"10-18", "19"}),
    "first_leaf": (statement("update block set first_leaf = 11 where first_leaf = 10"), {"10", "11-20", "20-29"}),
    "a block deleted": (statement("delete from block where first_leaf = 10"), {"10-19"}),
    "the last block deleted": (statement("delete from block where first_leaf = 62"), {"62-66"}),
    "an entry deleted": (an_entry_taken_out, {"13-18", "19"}),
    "an entry deleted, the rest moved up": (
        an_entry_taken_out_and_the_rest_moved_up,
        {"13-61", "51-61", "the tree"},
    ),
    "two entries reordered": (two_entries_reordered, {"13-14", "14", "the tree"}),
    "two blocks swapped": (two_blocks_swapped, {"0-19", "10", "the tree"}),
    "a block put in": (a_block_put_in, {*(str(leaf) for leaf in range(20, 30)), "30-61", "the tree"}),
    "a block put at the end": (a_block_put_at_the_end, {*(str(leaf) for leaf in range(67, 72)), "67-71"}),
    "the end cut off, the tree too": (the_end_cut_off_with_the_tree, {"size 62"}),
    "all set back to a checkpoint": (all_cut_off_with_tree_and_checkpoints, {"size 62"}),
    "the tree set back": (the_tree_set_back, {"20-66"}),
    "an entry that tells of a checkpoint": (an_entry_that_tells_of_a_checkpoint, {"30", "size 30", "the tree"}),
    "size of a checkpoint": (
        statement("update checkpoint set size = 50 where size = 51"),
        {"size 50", "size 51"},
    ),
    "root of a checkpoint": (statement(ROOT), {"size 51"}),
    "note of a checkpoint": (
        statement("update checkpoint set note = replace(note, '51', '52') where size = 51"),
        {"size 51"},
    ),
    "the newest note": (statement("update checkpoint set note = 'x' where size = 62"), {"size 62"}),
    "a checkpoint deleted": (statement("delete from checkpoint where size = 51"), {"size 51"}),
    "all checkpoints deleted": (statement("delete from checkpoint"), {"size 30", "size 51"}),
    "a checkpoint of another key": (a_checkpoint_of_another_key, {"size 40"}),
    "a checkpoint that was not cosigned": (a_checkpoint_that_was_not_cosigned, {"size 40"}),
    "a published hash": (tile(lambda data: flip(data, 32 * 13)), {"13", "size 62"}),
    "a published tile cut off": (tile(lambda data: data[:-1]), {"tile/0/000.p/62"}),
    "no published checkpoint": (the_published_checkpoint_removed, {"size 62"}),
    "an older published checkpoint": (the_published_checkpoint_set_back, {"size 62"}),
    "a published checkpoint of another key": (the_published_checkpoint_of_another_key, {"size 62"}),
}


def named(verdict: Verdict) -> list[str]:
    """Return which leaves, ranges of leaves and sizes the faults name, as "13", "10-19" and "size 51"."""
    found = []
    for fault in verdict.faults:
        match = re.match(r"leaf (\d+)|leaves (\d+) to (\d+)|(size \d+|tile/\S+|the tree)", fault.where)
        assert match, fault
        found.append(match[1] or match[4] or f"{match[2]}-{match[3]}")
    return found


async def test_what_nobody_changed_holds_and_is_signed_as_far_as_it_is_published(archive: Superuser) -> None:
    verdict = await verify(KEYS)
    assert (verdict.faults, verdict.size, verdict.checkpoints, verdict.signed) == ((), 67, 2, 62)


@pytest.mark.parametrize("what", EDITS)
async def test_what_a_superuser_changed_is_found_and_named(archive: Superuser, what: str) -> None:
    edit, leaves = EDITS[what]
    await edit(archive)
    assert set(named(await verify(KEYS))) == leaves


async def test_without_the_published_log_it_is_named_between_two_checkpoints(
    archive: Superuser, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whoever changes the folder, too, does not have the keys: the notes in the entries and in the rows are enough."""
    await a_value_with_its_hash_and_the_tree(archive)
    monkeypatch.setenv("MAINSTEM_LOG", str(tmp_path / "nothing"))
    verdict = await verify(KEYS)
    assert (set(named(verdict)), verdict.signed) == ({"size 62", "0-29"}, 0)
