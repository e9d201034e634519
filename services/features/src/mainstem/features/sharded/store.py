"""Where the stages keep their states, one for each partition, whoever works on it."""

from dataclasses import dataclass

from mainstem.features.sharded.plan import Plan
from mainstem.features.sharded.unit import Outcome
from mainstem.features.store import SQL, add_journal, add_rows
from mainstem.storage import Database


@dataclass(frozen=True, slots=True)
class Place:
    """What is stored of a partition: the version of its state, and the offset from which the topic is read again."""

    version: int = 0
    next_offset: int = 0


@dataclass(frozen=True, slots=True)
class Saved:
    """A state in place of that of a version, what to read after it, and what came of the work since then.

    `definition` is the identity of the feature set.
    """

    instead_of: int
    next_offset: int
    state: bytes
    outcome: Outcome
    definition: str


class TakenOver(Exception):
    """Somebody else has gone on with a partition: whatever this process knows of it is old."""

    def __init__(self, name: str, part: int, version: int) -> None:
        super().__init__(f"{name}/{part}: somebody else has gone on from version {version}")


class ShardStore:
    """States of stages in the schema of the feature service."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def places(self, name: str) -> dict[int, Place]:
        """Return what is stored of a stage, by partition."""
        async with self._database.transaction() as tx:
            rows = await tx.fetch(SQL["shards"], name)
        return {row["part"]: Place(row["version"], row["next"]) for row in rows}

    async def state(self, name: str, part: int, version: int) -> bytes:
        """Return the state of a version; raise TakenOver when by now another is stored."""
        async with self._database.transaction() as tx:
            for row in await tx.fetch(SQL["shard"], name, part, version):
                return bytes(row["state"])
        raise TakenOver(name, part, version)

    async def save(self, name: str, part: int, saved: Saved) -> Place:
        """Store a state; raise TakenOver, with nothing stored, when another was stored instead of that version."""
        async with self._database.transaction() as tx:
            new = name, part, saved.instead_of, saved.next_offset, saved.state
            if not await tx.fetch(SQL["save_shard"], *new):
                raise TakenOver(name, part, saved.instead_of)
            await add_rows(tx, saved.outcome.rows)
            await add_journal(tx, saved.outcome.journal)
            for parked in saved.outcome.parked:
                await tx.park(parked.record, parked.reason, saved.definition)
        return Place(saved.instead_of + 1, saved.next_offset)

    async def begin(self, plan: Plan) -> int | None:
        """Begin the set with as many shards as planned, unless it was begun before.

        Return None, or another number with which it was begun; of several that begin it at once the first decides.
        """
        async with self._database.transaction() as tx:
            await tx.execute(SQL["begin_set"], plan.compiled.id, plan.shards)
            (begun,) = await tx.fetch(SQL["begun"], plan.compiled.id)
        return None if begun["shards"] == plan.shards else int(begun["shards"])
