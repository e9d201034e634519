"""The ledger's store on PostgreSQL."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from itertools import chain
from operator import attrgetter
from typing import Final

import asyncpg

from mainstem.events.envelope import Event, begin
from mainstem.events.fact import Fact
from mainstem.events.fence import Fence, Position
from mainstem.events.frames import Damaged
from mainstem.events.instants import parse
from mainstem.events.ledger import RangeSealed, ReceiptIssued
from mainstem.events.record import Record, header
from mainstem.ledger import HASH_BYTES, Frontier
from mainstem.ledger.checkpoint import Checkpoint
from mainstem.ledger.note import Note
from mainstem.ledger_service.domain import (
    BLOCK_ENTRIES,
    WITH_RECEIPTS,
    Block,
    Partition,
    Placed,
    Row,
    State,
    cut,
    entries_of,
    frames_of,
    id_key,
    id_places,
    last_recorded,
    offsets_of,
    pack_frames,
    placed,
    second_copies,
    without_entries,
)
from mainstem.ledger_service.ports import Archived, News
from mainstem.ledger_service.segment import read_segment
from mainstem.storage import (
    ArtifactCorrupt,
    ArtifactMissing,
    Artifacts,
    Database,
    Transaction,
    load,
    load_checkpoint,
)

SQL = load("mainstem.ledger_service")

SOURCE: Final = "/mainstem/ledger"
#: As whom the running service acts: it may append, and not change what it archived.
ROLE: Final = "mainstem_ledger"

_COLUMNS: Final = tuple(field.name for field in fields(Block))
_values = attrgetter(*_COLUMNS)
_BLOCKS_AHEAD: Final = 50


class PostgresStore:
    """Keeps `Store`'s promises in one schema. What is sealed is read from the artifacts, if there are any."""

    def __init__(self, database: Database, artifacts: Artifacts | None = None) -> None:
        self._database = database
        self._sealed = Sealed(artifacts)

    async def archive(self, records: Sequence[Record]) -> Archived:
        """Append what is new among the records; see `Store.archive`."""
        async with self._database.transaction() as tx:
            state = _state(await tx.fetch(SQL["lock_tree"]))
            fence = await _fence(tx, records)
            before = fence.offsets()
            fresh, headers = fence.admit(records)
            blocks = cut(fresh, [found.get("ce_id") for found in headers], state.frontier.size)
            await tx.connection.copy_records_to_table("block", records=map(_values, blocks), columns=_COLUMNS)
            await _save_state(tx, state.after(blocks, last_recorded(fresh, headers)))
            second = second_copies(records, fresh, before)
            await _add_redelivered(tx, second)
            await tx.save_positions(fence.positions)
        return Archived(_by_topic(blocks), second.total())

    async def unpublished(self, size: int) -> News | None:
        """Return what was added behind the first `size` entries; see `Store.unpublished`."""
        async with self._database.transaction() as tx:
            await tx.execute("set transaction isolation level repeatable read, read only")
            state = _state(await tx.fetch(SQL["read_tree"]))
            if not state.unpublished or state.recorded is None:
                return None
            rows = await tx.fetch(SQL["hashes_from"], size)
            rows_decided = await tx.fetch(SQL["without_receipts"], list(WITH_RECEIPTS))
            decided = [await self._sealed.fill(tx, Block(*row)) for row in rows_decided]
        hashes = b"".join(row["hashes"] for row in rows)
        skipped = (size - rows[0]["first_leaf"]) * HASH_BYTES if rows else 0
        return News(hashes[skipped:], state.frontier, state.unpublished, list(chain.from_iterable(map(_all, decided))))

    async def publish_checkpoint(self, note: Note, checkpoint: Checkpoint, news: News, facts: Sequence[Fact]) -> None:
        """Keep a checkpoint and append the facts that tell of it; see `Store.publish_checkpoint`."""
        scope = f"{checkpoint.origin}/{checkpoint.size}/{checkpoint.root.hex()}"
        async with self._database.transaction() as tx:
            state = _state(await tx.fetch(SQL["lock_tree"]))
            if not await tx.fetch(SQL["save_checkpoint"], checkpoint.size, checkpoint.root, note.render().decode()):
                return
            recorded_us = parse(state.recorded or "")
            await tx.append([_told(fact, scope, recorded_us) for fact in facts])
            await _save_state(tx, replace(state, unpublished=state.unpublished - news.entries))

    async def recall(self, checkpoints: Sequence[Row]) -> None:
        """Keep checkpoints that were published before the archive was filled from a copy."""
        async with self._database.transaction() as tx:
            for row in checkpoints:
                await tx.fetch(SQL["save_checkpoint"], row.size, row.root, row.note)

    async def sealed_end(self) -> int:
        """Return the leaf behind the last that is sealed."""
        async with self._database.transaction() as tx:
            return int((await tx.fetch(SQL["sealed_end"]))[0]["leaf"])

    async def seal(self, fact: RangeSealed) -> None:
        """Take sealed entries out of their rows, and append the fact that tells of it. Only the owner may."""
        async with self._database.transaction() as tx:
            state = _state(await tx.fetch(SQL["lock_tree"]))
            await tx.execute(SQL["seal"], fact.first_leaf, fact.end_leaf, fact.segment)
            await tx.execute(SQL["take_out"], fact.first_leaf, fact.end_leaf)
            await tx.append([_told(fact, fact.segment, parse(state.recorded or ""))])

    async def positions(self) -> Mapping[Partition, int]:
        """Return the next offset of each partition."""
        checkpoint = await load_checkpoint(self._database)
        return {place: position.next_offset for place, position in checkpoint.positions.items()}

    async def state(self) -> State:
        """Return the tree."""
        async with self._database.transaction() as tx:
            return _state(await tx.fetch(SQL["read_tree"]))

    async def counts(self) -> list[dict[str, object]]:
        """Return entries and dropped second copies by topic."""
        async with self._database.transaction() as tx:
            return [dict(row) for row in await tx.fetch(SQL["counts"])]

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator["Snapshot"]:
        """Lend the archive as it is now, whatever is added meanwhile."""
        async with self._database.transaction() as tx:
            await tx.execute("set transaction isolation level repeatable read, read only")
            yield Snapshot(tx, self._sealed)

    async def with_id(self, event_id: str) -> list[Placed]:
        """Return the entries with this event id, the first first."""
        wanted = event_id.encode()
        return [found for found in await self._holding(id_key(wanted), "") if header(found.entry, "ce_id") == wanted]

    async def with_id_prefix(self, prefix: str, family: str) -> list[Placed]:
        """Return the entries of a family of topics (`tel.prediction.`) whose id begins with these hexadecimal digits.

        Raises ValueError when they are none.
        """
        found = await self._holding(bytes.fromhex(prefix[: len(prefix) // 2 * 2]), family)
        return [each for each in found if (header(each.entry, "ce_id") or b"").startswith(prefix.encode())]

    async def _holding(self, key: bytes, family: str) -> list[Placed]:
        async with self._database.transaction() as tx:
            rows = await tx.fetch(SQL["with_id"], key, family)
            blocks = [await self._sealed.fill(tx, Block(*row)) for row in rows]
        return [placed(block, place) for block in blocks for place in id_places(block, key)]

    async def at(self, topic: str, part: int, offset: int) -> Placed | None:
        """Return the entry at a position of the log; None when the archive has none there."""
        async with self._database.transaction() as tx:
            rows = await tx.fetch(SQL["with_offset"], topic, part, offset)
            blocks = [await self._sealed.fill(tx, Block(*row)) for row in rows]
        for block in blocks:
            if offset in (offsets := offsets_of(block)):
                return placed(block, offsets.index(offset))
        return None

    async def frames(self, first: int, end: int) -> list[bytes]:
        """Return the frames of these leaves; see `Store.frames`."""
        async with self._database.transaction() as tx:
            rows = await tx.fetch(SQL["with_leaves"], first - BLOCK_ENTRIES, end)
            wanted = [block for block in (Block(*row) for row in rows) if block.first_leaf + block.count > first]
            blocks = [await self._sealed.fill(tx, block) for block in wanted]
        found = list(chain.from_iterable(map(frames_of, blocks)))
        return found[first - blocks[0].first_leaf :][: end - first]

    async def newest(self, topic: str, limit: int) -> list[Placed]:
        """Return the newest entries of a topic, the newest first."""
        found: list[Placed] = []
        async with self._database.transaction() as tx:
            async for row in tx.connection.cursor(SQL["newest"], topic, prefetch=2):
                block = await self._sealed.fill(tx, Block(*row))
                found += _all(block)[::-1]
                if len(found) >= limit:
                    break
        return found[:limit]


class Snapshot:
    """The archive at one moment, for reading all of it; made by `PostgresStore.snapshot`."""

    def __init__(self, tx: Transaction, sealed: "Sealed") -> None:
        self._tx = tx
        self._sealed = sealed

    async def state(self) -> State:
        """Return the tree."""
        return _state(await self._tx.fetch(SQL["read_tree"]))

    async def checkpoint(self) -> Note | None:
        """Return the newest checkpoint that was published; None before the first."""
        rows = await self._tx.fetch(SQL["newest_checkpoint"])
        return Note.parse(rows[0]["note"].encode()) if rows else None

    async def blocks(self, topics: Sequence[str] = ("*",)) -> AsyncIterator[Block]:
        """Yield the blocks of `topics` (`prefix*` stands for a family) in leaf order, fetched as they are asked for."""
        async for row in self._tx.connection.cursor(SQL["blocks"], *_chosen(topics), prefetch=_BLOCKS_AHEAD):
            yield await self._sealed.fill(self._tx, Block(*row))

    async def blocks_behind(self, leaf: int) -> AsyncIterator[Block]:
        """Yield the blocks from a leaf on."""
        async for row in self._tx.connection.cursor(SQL["blocks_behind"], leaf, prefetch=_BLOCKS_AHEAD):
            yield await self._sealed.fill(self._tx, Block(*row))

    async def checkpoints(self) -> list[Row]:
        """Return the checkpoints that were published, by size."""
        return [Row(*row) for row in await self._tx.fetch(SQL["checkpoints"])]

    async def first_offsets(self, topic: str, part: int) -> list[int]:
        """Return at which offset each block of a partition begins, in order."""
        return [row["first_offset"] for row in await self._tx.fetch(SQL["first_offsets"], topic, part)]

    async def blocks_from(self, topic: str, part: int, offset: int) -> AsyncIterator[Block]:
        """Yield the blocks of a partition that begin at an offset or behind it, in order."""
        async for row in self._tx.connection.cursor(SQL["blocks_from"], topic, part, offset, prefetch=_BLOCKS_AHEAD):
            yield await self._sealed.fill(self._tx, Block(*row))

    async def count(self, topics: Sequence[str]) -> int:
        """Return the number of entries of `topics`, chosen as for `blocks`."""
        return int((await self._tx.fetch(SQL["count"], *_chosen(topics)))[0]["entries"])

    async def tree(self) -> Frontier:
        """Return the tree over all stored leaf hashes."""
        tree = Frontier()
        async for hashes in self.hashes():
            tree = tree.append(hashes)
        return tree

    async def hashes(self) -> AsyncIterator[bytes]:
        """Yield all stored leaf hashes in their order, those of a block at a time."""
        async for row in self._tx.connection.cursor(SQL["hashes"], prefetch=_BLOCKS_AHEAD):
            yield row["hashes"]


class Sealed:
    """Gives blocks the entries that were sealed; keeps the segment read last."""

    def __init__(self, artifacts: Artifacts | None) -> None:
        self._artifacts = artifacts
        self._first = 0
        self._frames: list[bytes] = []

    async def fill(self, tx: Transaction, block: Block) -> Block:
        """Return a block with its entries; in the place of those that cannot be had stands why."""
        if block.frames:
            return block
        if not self._first <= block.first_leaf < self._first + len(self._frames):
            rows = await tx.fetch(SQL["sealed_at"], block.first_leaf)
            if not rows:
                return without_entries(block, "nothing says that they were sealed")
            try:
                self._first, self._frames = await asyncio.to_thread(self._read, rows[0]["address"])
            except (ArtifactMissing, ArtifactCorrupt, Damaged) as fault:
                return without_entries(block, str(fault))
        at = block.first_leaf - self._first
        return replace(block, frames=pack_frames(self._frames[at : at + block.count]))

    def _read(self, address: str) -> tuple[int, list[bytes]]:
        if self._artifacts is None:
            raise ArtifactMissing(f"no artifacts are known here, so none is {address}")
        return read_segment(self._artifacts.get(address))


def _all(block: Block) -> list[Placed]:
    return [Placed(block.first_leaf + place, entry) for place, entry in enumerate(entries_of(block))]


def _told(fact: Fact, scope: str, recorded_us: int) -> Event:
    """Return the event that tells of a checkpoint, or of a receipt to it."""
    about = f"{scope}/{fact.leaf}" if isinstance(fact, ReceiptIssued) else scope
    return begin(fact, command_id=about, source=SOURCE, actor=SOURCE, recorded_us=recorded_us)


def _chosen(topics: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the topics by name, and the prefixes of the families."""
    names = [topic for topic in topics if not topic.endswith("*")]
    return names, [topic[:-1] for topic in topics if topic.endswith("*")]


def _by_topic(blocks: Sequence[Block]) -> Counter[str]:
    entries: Counter[str] = Counter()
    for block in blocks:
        entries[block.topic] += block.count
    return entries


def _state(rows: Sequence[asyncpg.Record]) -> State:
    (row,) = rows
    return State(Frontier.from_bytes(row["frontier"]), row["recorded"], row["unpublished"])


async def _save_state(tx: Transaction, state: State) -> None:
    await tx.execute(SQL["save_tree"], state.frontier.to_bytes(), state.recorded, state.unpublished)


async def _fence(tx: Transaction, records: Sequence[Record]) -> Fence:
    places = sorted({(record.topic, record.partition) for record in records})
    rows = await tx.fetch(SQL["positions"], [topic for topic, _ in places], [part for _, part in places])
    return Fence({(row["topic"], row["part"]): Position(row["next_offset"], row["origins"]) for row in rows})


async def _add_redelivered(tx: Transaction, copies: Mapping[Partition, int]) -> None:
    if copies:
        topics, parts = zip(*copies, strict=True)
        await tx.execute(SQL["add_redelivered"], topics, parts, list(copies.values()))
