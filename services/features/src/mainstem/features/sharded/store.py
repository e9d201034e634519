"""Where the stages keep their states, one for each partition, whoever works on it."""

from dataclasses import dataclass

from mainstem.features.sharded.unit import Outcome
from mainstem.features.store import SQL, add_journal, add_rows
from mainstem.storage import Database


@dataclass(frozen=True, slots=True)
class Stored:
    """A state as it was stored: its version, and the offset from which the topic is read again."""

    version: int = 0
    next_offset: int = 0
    state: bytes | None = None


@dataclass(frozen=True, slots=True)
class Saved:
    """A state with the version that it was loaded as, and what came of the work since then."""

    stored: Stored
    outcome: Outcome


class TakenOver(Exception):
    """Somebody else has gone on with a partition: whatever this process knows of it is old."""


class ShardStore:
    """States of stages in the schema of the feature service."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, name: str) -> dict[int, Stored]:
        """Return the states of a stage by partition."""
        async with self._database.transaction() as tx:
            rows = await tx.fetch(SQL["shards"], name)
        return {row["part"]: Stored(row["version"], row["next"], row["state"]) for row in rows}

    async def save(self, name: str, part: int, saved: Saved) -> Stored:
        """Store a state in place of the version that it was loaded as; return it with its new version.

        Raises TakenOver, with nothing stored, when somebody else has stored another meanwhile: the partition is theirs.
        """
        was = saved.stored
        async with self._database.transaction() as tx:
            if not await tx.fetch(SQL["save_shard"], name, part, was.version, was.next_offset, was.state):
                raise TakenOver(f"{name}/{part}: somebody else has gone on from version {was.version}")
            await add_rows(tx, saved.outcome.rows)
            await add_journal(tx, saved.outcome.journal)
            for parked in saved.outcome.parked:
                await tx.park(parked.record, parked.reason)
        return Stored(was.version + 1, was.next_offset, was.state)
