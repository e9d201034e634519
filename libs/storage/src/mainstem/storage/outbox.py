"""The outbox as the relay reads it: sequenced once, in commit order within a stream, published by cursor."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from mainstem.events.envelope import Message
from mainstem.storage.database import Database
from mainstem.storage.transaction import SQL


class Outbox:
    """The source of one service's relay. A second relay of the same schema repeats messages, and reorders none."""

    def __init__(self, database: Database, service: str) -> None:
        self._database = database
        self._service = service
        self._last_positions: list[int] = []

    async def next_messages(self, limit: int) -> Sequence[Message]:
        """Give every new event its position, then return what stands behind the cursor."""
        async with self._database.transaction() as tx:
            # One sequencer: positions are in commit order within a stream because (stream, version) is unique.
            await tx.execute("select pg_advisory_xact_lock(hashtext(current_schema() || '.outbox'))")
            await tx.execute(SQL["sequence"], limit)
            (cursor,) = await tx.fetch(SQL["cursor"])
            rows = await tx.fetch(SQL["next_events"], cursor["pos"], limit)
        self._last_positions = [row["pos"] for row in rows]
        stream = f"{self._service}@{cursor['incarnation']}"
        return [
            Message(
                row["topic"],
                row["key"],
                row["payload"],
                (*((name, value.encode()) for name, value in row["headers"]), _origin(stream, row["pos"])),
                partition=None,
            )
            for row in rows
        ]

    async def advance(self, count: int) -> None:
        """Move the cursor past the first `count` messages last returned."""
        async with self._database.transaction() as tx:
            await tx.execute(SQL["advance"], self._last_positions[count - 1])

    async def wait(self, timeout_s: float) -> None:
        """Return when an event was appended or the time is over."""
        added = asyncio.Event()
        async with self._database.connection() as connection:

            def wake(*_: object) -> None:
                added.set()

            try:
                await connection.add_listener("outbox", wake)
                if not await connection.fetchval("select exists(select from outbox)"):
                    with suppress(TimeoutError):
                        async with asyncio.timeout(timeout_s):
                            await added.wait()
            except BaseException:
                # Interrupted in the middle of who knows what: this connection is lent to nobody again.
                connection.terminate()
                raise
            await connection.remove_listener("outbox", wake)


def _origin(stream: str, pos: int) -> tuple[str, bytes]:
    return "ce_origin", f"{stream}/{pos}".encode()
