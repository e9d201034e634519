"""The archive from a copy of the log, and the published log from the archive (ADR 17)."""

import asyncio
from collections.abc import AsyncIterator, Container, Iterable, Sequence

from mainstem.events.catalogue import decode
from mainstem.events.errors import Undecodable
from mainstem.events.ledger import CheckpointPublished
from mainstem.events.record import Record
from mainstem.ledger.checkpoint import Checkpoint
from mainstem.ledger.keys import LogKey
from mainstem.ledger.note import Note, NoteError
from mainstem.ledger.tiles import Edge
from mainstem.ledger_service.domain import Partition, Row
from mainstem.ledger_service.folder import Folder, Forked
from mainstem.ledger_service.store import PostgresStore

#: Entries archived in one transaction, at most.
_BATCH = 5_000


def told_checkpoints(entries: Iterable[Record], key: LogKey) -> list[Row]:
    """Return the checkpoints that a log tells of and signed; what else stands on their topic is no checkpoint."""
    found = {row.size: row for row in (_checkpoint(entry, key) for entry in entries) if row is not None}
    return list(found.values())


async def refill(
    store: PostgresStore, entries: AsyncIterator[Sequence[Record]], sizes: Container[int]
) -> AsyncIterator[int]:
    """Archive entries, which come in the order of the leaves, in that order; yield after each batch how many it had.

    Blocks end where they ended under a checkpoint: at these `sizes`. The archive puts the entries of one partition in
    a batch together, so none may come back after another.
    """
    batch: list[Record] = []
    over, place, size = set[Partition](), None, 0
    async for some in entries:
        for entry in some:
            if (entry.topic, entry.partition) != place:
                over |= set() if place is None else {place}
                place = entry.topic, entry.partition
            if place in over or len(batch) >= _BATCH or size in sizes:
                await store.archive(batch)
                yield len(batch)
                batch, over = [], set()
            batch.append(entry)
            size += 1
    await store.archive(batch)
    yield len(batch)


async def republish(store: PostgresStore, folder: Folder, note: Note) -> None:
    """Publish what is archived: the tiles that its hashes make, and then the checkpoint that was signed over them.

    Raises Forked, with no checkpoint written, when they make another root than was signed.
    """
    edge, signed = Edge(), Checkpoint.parse(note.text)
    async with store.snapshot() as archive:
        async for hashes in archive.hashes():
            edge, full = edge.append(hashes)
            await asyncio.to_thread(folder.write_tiles, full)
    if (edge.size, edge.frontier().root()) != (signed.size, signed.root):
        raise Forked(f"the archive of {edge.size} entries makes another root than the checkpoint over {signed.size}")
    await asyncio.to_thread(folder.write_tiles, edge.partial())
    await asyncio.to_thread(folder.write_checkpoint, note)


def _checkpoint(record: Record, key: LogKey) -> Row | None:
    try:
        fact = decode(record).fact
        if not isinstance(fact, CheckpointPublished) or fact.note is None:
            return None
        note = Note.parse(fact.note.encode())
        note.signed_by([key])
        checkpoint = Checkpoint.parse(note.text)
    except (Undecodable, NoteError):
        return None
    return Row(checkpoint.size, checkpoint.root, fact.note)
