"""Closed ranges of the archive, written as files and taken out of the database (ADR 18)."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from mainstem.cli.archive import open_archive
from mainstem.cli.connection import setting
from mainstem.cli.progress import bar
from mainstem.events.errors import Conflict, Rejected
from mainstem.events.ledger import RangeSealed
from mainstem.ledger import leaf_hashes
from mainstem.ledger.checkpoint import Checkpoint
from mainstem.ledger.entry import entry_of
from mainstem.ledger.keys import read_log_key, read_witness_key
from mainstem.ledger.note import Note
from mainstem.ledger_service.attested import Published
from mainstem.ledger_service.domain import Placed, entries_of
from mainstem.ledger_service.segment import read_segment, write_segment
from mainstem.ledger_service.store import PostgresStore
from mainstem.storage import Artifacts

#: Entries of a segment, about.
_SEGMENT: Final = 50_000


@dataclass(frozen=True, slots=True)
class Sealed:
    """What was sealed: leaves from `first_leaf` to before `end_leaf`, and the bytes of the files."""

    first_leaf: int
    end_leaf: int
    segments: int
    bytes: int


async def seal(before: datetime) -> Sealed:
    """Seal what the broker took before a moment, from where the last range ended.

    Raises Rejected, with the ranges sealed until then, when an entry is not the one that was published.
    """
    key = read_log_key(Path(setting("MAINSTEM_LOG_VKEY")).read_text())  # noqa: ASYNC240  (nothing else runs)
    witness = read_witness_key(Path(setting("MAINSTEM_WITNESS_VKEY")).read_text())  # noqa: ASYNC240
    artifacts = Artifacts(Path(setting("MAINSTEM_ARTIFACTS")))
    async with open_archive() as store:
        note = await _newest(store)
        note.signed_by([key])
        note.signed_by([witness])
        closing = Checkpoint.parse(note.text)
        published = Published(Path(setting("MAINSTEM_LOG")), closing.size)
        first = end = await store.sealed_end()
        segments = size = 0
        with bar("sealing", closing.size - first) as advance:
            async for placed in _segments(store, end, closing.size, int(before.timestamp() * 1_000)):
                begin, end = placed[0].leaf, placed[-1].leaf + 1
                content = write_segment(placed)
                segment = artifacts.put(content)
                _verify(artifacts.get(segment), range(begin, end), published)
                sealed = RangeSealed(
                    ledger=closing.origin,
                    first_leaf=begin,
                    end_leaf=end,
                    segment=segment,
                    closing_size=closing.size,
                    closing_root=closing.root.hex(),
                )
                try:
                    await store.seal(sealed)
                except Conflict as fault:
                    raise Rejected(
                        f"another command seals from leaf {begin} on; let it end, then run this again"
                    ) from fault
                segments, size = segments + 1, size + len(content)
                advance(len(placed))
    return Sealed(first, end, segments, size)


async def _newest(store: PostgresStore) -> Note:
    async with store.snapshot() as archive:
        note = await archive.checkpoint()
    if note is None:
        raise Rejected("the log has no checkpoint yet; wait until the ledger and the witness run")
    return note


async def _segments(store: PostgresStore, first: int, closed: int, before_ms: int) -> AsyncIterator[list[Placed]]:
    """Yield the entries of whole blocks, some blocks at a time, up to one that is not closed or has a later entry."""
    found: list[Placed] = []
    async with store.snapshot() as archive:
        async for block in archive.blocks_behind(first):
            entries = entries_of(block)
            over = block.first_leaf + block.count > closed or any(entry.timestamp >= before_ms for entry in entries)
            if found and (over or len(found) + block.count > _SEGMENT):
                yield found
                found = []
            if over:
                return
            found += [Placed(block.first_leaf + at, entry) for at, entry in enumerate(entries)]
    if found:
        yield found


def _verify(content: bytes, leaves: range, published: Published) -> None:
    """Raise Rejected when a file does not hold the entries that were published as these leaves."""
    first, frames = read_segment(content)
    hashes = leaf_hashes([entry_of(frame) for frame in frames])
    if range(first, first + len(frames)) != leaves or hashes != published.hashes(leaves.start, leaves.stop):
        raise Rejected(
            f"leaves {leaves.start} to {leaves.stop - 1} are not as they were published, so they stay where they are; "
            "run `mainstem audit verify`"
        )
