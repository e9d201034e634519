"""The ledger's database as an archive, beside services that run or not; what is not indexed there is searched."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import orjson

from mainstem.audit.log import Log
from mainstem.cli.connection import setting
from mainstem.cli.evidence.archive import HISTORY, PREDICTIONS, Chronicle, Found, ReadSet
from mainstem.cli.evidence.columns import Columns
from mainstem.cli.evidence.copied import LogProofs
from mainstem.cli.evidence.recent import Recent
from mainstem.cli.local.errors import LocalError
from mainstem.cli.signatures import keys_at_hand
from mainstem.events.data import RecordAccepted
from mainstem.events.errors import Rejected
from mainstem.events.frames import unframe
from mainstem.ledger_service.domain import Placed, entries_of, frames_of
from mainstem.ledger_service.store import PostgresStore


class Stored:
    """Keeps the promises of `Archive` by the blocks of the ledger, and proves by the log that it publishes."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store
        self._chronicle: Chronicle | None = None

    async def with_id(self, event_id: str) -> list[Placed]:
        """See `Archive`."""
        return await self._store.with_id(event_id)

    async def with_id_prefix(self, prefix: str, family: str) -> list[Placed]:
        """See `Archive`."""
        return await self._store.with_id_prefix(prefix, family)

    async def at(self, topic: str, part: int, offset: int) -> Placed | None:
        """See `Archive`."""
        return await self._store.at(topic, part, offset)

    async def chronicle(self) -> Chronicle:
        """See `Archive`."""
        if self._chronicle is None:
            self._chronicle = Chronicle([each async for batch in self._entries(HISTORY) for each in batch])
        return self._chronicle

    async def keyed(self, source: str, column: str, value: object) -> list[Placed]:
        """See `Archive`. Every record of the source is looked through; only those that hold the text are read."""
        needle, found = orjson.dumps(value), list[Placed]()
        async with self._store.snapshot() as archive:
            async for block in archive.blocks([RecordAccepted.TOPIC.format(source=source)]):
                found += [
                    Placed(block.first_leaf + place, unframe(frame))
                    for place, frame in enumerate(frames_of(block))
                    if needle in frame
                ]
        return found

    async def columns(self, read: ReadSet, spine: Found[RecordAccepted]) -> Columns:
        """See `Archive`. The log is read as far back as a value can reach."""
        async with self._store.snapshot() as archive:
            return await Recent(archive, read, spine).columns()

    async def frames(self, leaves: Sequence[int]) -> list[bytes]:
        """See `Archive`."""
        return [frame for leaf in leaves for frame in await self._store.frames(leaf, leaf + 1)]

    async def predictions(self) -> Sequence[int]:
        """See `Archive`."""
        async with self._store.snapshot() as archive:
            return [
                block.first_leaf + place
                async for block in archive.blocks([f"{PREDICTIONS}*"])
                for place in range(block.count)
            ]

    def proofs(self) -> LogProofs:
        """See `Archive`."""
        try:
            log = Log(Path(setting("MAINSTEM_LOG")))
        except LocalError as fault:
            raise Rejected(f"it is not known where the log is published: {fault}") from fault
        return LogProofs(log, keys_at_hand(log, None, ()))

    async def _entries(self, topics: Sequence[str]) -> AsyncIterator[list[Placed]]:
        async with self._store.snapshot() as archive:
            async for block in archive.blocks(topics):
                yield [Placed(block.first_leaf + place, entry) for place, entry in enumerate(entries_of(block))]
