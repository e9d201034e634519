"""Ingestion's store on PostgreSQL."""

from collections.abc import Mapping, Sequence

from mainstem.events.catalogue import decode
from mainstem.events.data import ProgressReached, RecordAccepted, RecordQuarantined, RecordRedriven
from mainstem.events.envelope import Event
from mainstem.events.ids import fingerprint
from mainstem.events.record import Record, header
from mainstem.events.registry import ProjectApplied
from mainstem.ingestion.ports import Progress, Tally
from mainstem.project.definition import ProjectDefinition, parse
from mainstem.storage import Database, Transaction, load

SQL = load("mainstem.ingestion")

_ACCEPTED = RecordAccepted.TYPE.encode()
_PROGRESS = ProgressReached.TYPE.encode()

#: Tables that are folds of the log; `audit replay` rebuilds and compares them.
PROJECTIONS = ("project", "quarantined", "tally")
#: The topics whose facts they fold.
TOPICS = ("evt.registry.project", "evt.data.*")


class PostgresStore:
    """Keeps `Store`'s promises in one schema."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, progress: Progress) -> None:
        """Store positions, states, quarantine and tallies in one transaction."""
        async with self._database.transaction() as tx:
            if not await tx.save_positions(progress.positions, progress.states):
                return
            await add_quarantined(tx, progress.quarantined)
            await set_redriven(tx, progress.redriven)
            tallies = {(topic.removeprefix("src."), part): tally for (topic, part), tally in progress.tallies.items()}
            await add_tallies(tx, tallies)

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


async def apply_records(tx: Transaction, records: Sequence[Record]) -> None:
    """Fold records of TOPICS, as a replay of the log meets them."""
    tallies: dict[tuple[str, int], Tally] = {}
    quarantined: list[RecordQuarantined] = []
    redriven: list[RecordRedriven] = []
    for record in records:
        kind = header(record, "ce_type")
        if kind == _ACCEPTED:
            tally = tallies.setdefault((record.topic.removeprefix("evt.data."), record.partition), Tally())
            tally.count_accepted(fingerprint(header(record, "ce_causationid") or b""))
        elif kind != _PROGRESS:
            event = decode(record)
            match event.fact:
                case RecordQuarantined() as fact:
                    quarantined.append(fact)
                    tallies.setdefault((fact.source, fact.partition), Tally()).quarantined += 1
                case RecordRedriven() as fact:
                    redriven.append(fact)
                case _:
                    await set_project(tx, event)
    await add_quarantined(tx, quarantined)
    await set_redriven(tx, redriven)
    await add_tallies(tx, tallies)


async def set_project(tx: Transaction, event: Event) -> None:
    """Fold ProjectApplied."""
    if isinstance(event.fact, ProjectApplied):
        fact = event.fact
        parse(fact.definition)  # whoever wrote it: a definition or nothing
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


async def set_redriven(tx: Transaction, facts: Sequence[RecordRedriven]) -> None:
    """Fold RecordRedriven."""
    for fact in facts:
        await tx.execute(SQL["set_redriven"], fact.quarantine_id, fact.accepted_id)


async def add_tallies(tx: Transaction, tallies: Mapping[tuple[str, int], Tally]) -> None:
    """Fold counts and fingerprints of accepted and quarantined records, by source and partition."""
    for (source, part), tally in tallies.items():
        await tx.execute(SQL["add_tally"], source, part, tally.accepted, tally.quarantined, tally.fingerprint)
