"""Positions and per-partition state as one process loads and saves them (the data plane's checkpoint)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mainstem.events.fence import Position
from mainstem.storage.database import Database
from mainstem.storage.transaction import SQL

Partition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a service stored last: how far each partition was applied, and the state that belongs to it."""

    positions: Mapping[Partition, Position] = field(default_factory=dict)
    states: Mapping[Partition, bytes] = field(default_factory=dict)


async def load_checkpoint(database: Database) -> Checkpoint:
    """Return the stored checkpoint; empty when nothing was stored yet."""
    async with database.transaction() as tx:
        rows = await tx.fetch(SQL["all_positions"])
    return Checkpoint(
        {(r["topic"], r["part"]): Position(r["next_offset"], r["origins"]) for r in rows},
        {(r["topic"], r["part"]): r["state"] for r in rows if r["state"] is not None},
    )


async def load_snapshot(database: Database, name: str) -> bytes | None:
    """Return the state stored under `name`, or None."""
    async with database.transaction() as tx:
        rows = await tx.fetch(SQL["load_snapshot"], name)
    return rows[0]["state"] if rows else None
