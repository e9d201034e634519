"""Ingestion's store on PostgreSQL."""

from collections.abc import Mapping, Sequence

from mainstem.events.data import RecordQuarantined
from mainstem.events.envelope import Event
from mainstem.events.registry import ProjectApplied
from mainstem.ingestion.ports import Progress, Tally
from mainstem.project.definition import ProjectDefinition, parse
from mainstem.storage import Database, Transaction, load

SQL = load("mainstem.ingestion")

#: Tables that are folds of the log; `audit replay` rebuilds and compares them.
PROJECTIONS = ("project", "quarantined", "tally")


class PostgresStore:
    """Keeps `Store`'s promises in one schema."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, progress: Progress) -> None:
        """Store positions, states, quarantine and tallies in one transaction."""
        async with self._database.transaction() as tx:
            await add_quarantined(tx, progress.quarantined)
            for redriven in progress.redriven:
                await tx.execute(SQL["set_redriven"], redriven.quarantine_id, redriven.accepted_id)
            await add_tallies(tx, progress.tallies)
            await tx.save_positions(progress.positions, progress.states)

    async def quarantined(
        self, *, source: str | None, reason: str | None, status: str | None, limit: int
    ) -> list[dict[str, object]]:
        """Return quarantined records, the newest first, without their payloads."""
        async with self._database.transaction() as tx:
            return [dict(row) for row in await tx.fetch(SQL["list_quarantined"], source, reason, status, limit)]

    async def find(self, quarantine_id: str) -> dict[str, object] | None:
        """Return one quarantined record, or None when none or several begin like that."""
        async with self._database.transaction() as tx:
            rows = await tx.fetch(SQL["find_quarantined"], quarantine_id)
        return dict(rows[0]) if len(rows) == 1 else None

    async def definitions(self) -> list[ProjectDefinition]:
        """Return the definitions in force."""
        async with self._database.transaction() as tx:
            return [parse(row["definition"]) for row in await tx.fetch(SQL["definitions"])]


async def set_project(tx: Transaction, event: Event) -> None:
    """Fold ProjectApplied."""
    if isinstance(event.fact, ProjectApplied):
        fact = event.fact
        await tx.execute(SQL["set_project"], fact.project, fact.definition_id, fact.definition)


async def add_quarantined(tx: Transaction, facts: Sequence[RecordQuarantined]) -> None:
    """Fold RecordQuarantined."""
    rows = [
        {
            **fact.model_dump(exclude={"contract", "column", "partition"}),
            "column_name": fact.column,
            "part": fact.partition,
        }
        for fact in facts
    ]
    if rows:
        await tx.execute(SQL["add_quarantined"], rows)


async def add_tallies(tx: Transaction, tallies: Mapping[tuple[str, int], Tally]) -> None:
    """Fold counts and fingerprints of accepted and quarantined records."""
    for (topic, part), tally in tallies.items():
        source = topic.removeprefix("src.")
        await tx.execute(SQL["add_tally"], source, part, tally.accepted, tally.quarantined, tally.fingerprint)
