"""Ingestion that acknowledges before the effect, for the control: stored positions run ahead of what was published."""

import asyncio
import os
from collections.abc import Sequence

from typing_extensions import override

from mainstem.bus import Publisher
from mainstem.events.envelope import Message
from mainstem.events.record import Record
from mainstem.ingestion import app
from mainstem.ingestion.handlers import Intake
from mainstem.ingestion.store import PostgresStore
from mainstem.runtime import run
from mainstem.storage import open_database

#: Between acknowledgement and effect; any crash in between loses what was acknowledged.
GAP_S = 0.05


class CarelessIntake(Intake):
    """Stores positions first and publishes afterwards."""

    @override
    async def on_records(self, records: Sequence[Record], *, publisher: Publisher) -> None:
        """Judge, acknowledge, and only then publish."""
        held = _Held()
        await super().on_records(records, publisher=held)
        await self.checkpoint(await _store())
        await asyncio.sleep(GAP_S)
        await publisher.publish(held.messages)


class _Held:
    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def publish(self, messages: Sequence[Message]) -> None:
        self.messages += messages


async def _store() -> PostgresStore:
    database = await open_database(os.environ["MAINSTEM_DATABASE_URL"], "ingestion", "mainstem.ingestion")
    return PostgresStore(database)


if __name__ == "__main__":
    app.Intake = CarelessIntake  # type: ignore[attr-defined]
    run(app.main)
