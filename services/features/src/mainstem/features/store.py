"""The feature service's store on PostgreSQL."""

from collections.abc import Mapping, Sequence

from mainstem.events.catalogue import decode
from mainstem.events.data import ProgressReached
from mainstem.events.envelope import Event
from mainstem.events.features import OrderJournalled, RowComputed, VectorsChecked
from mainstem.events.instants import parse as instant
from mainstem.events.record import Record, header
from mainstem.events.registry import ProjectApplied
from mainstem.features.ports import Left, Progress, RowTally, Since
from mainstem.project.definition import ProjectDefinition, parse
from mainstem.storage import Database, Transaction, load, load_snapshot

SQL = load("mainstem.features")

#: Tables that are folds of the log; `audit replay` rebuilds and compares them.
PROJECTIONS = ("project", "row_tally", "journal", "vector_check")
#: The topics whose facts they fold.
TOPICS = ("evt.registry.project", "evt.feature.*")

_ROW = RowComputed.TYPE.encode()
_PROGRESS = ProgressReached.TYPE.encode()


class PostgresStore:
    """Keeps `Store`'s promises in one schema."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, progress: Progress) -> None:
        """Store state, tallies and journal in one transaction."""
        async with self._database.transaction() as tx:
            if not await tx.save_snapshot(progress.definition, progress.state):
                return
            await add_rows(tx, {(progress.feature_set, part): tally for part, tally in progress.tallies.items()})
            await add_journal(tx, progress.journal)
            for parked in progress.parked:
                await tx.park(parked.record, parked.reason, progress.definition)

    async def state(self, definition: str) -> bytes | None:
        """Return the state stored last for the feature set of this identity."""
        return await load_snapshot(self._database, definition)

    async def definitions(self) -> list[ProjectDefinition]:
        """Return the definitions in force."""
        async with self._database.transaction() as tx:
            return [parse(row["definition"]) for row in await tx.fetch(SQL["definitions"])]

    async def last_check(self, definition: str) -> Since:
        """Return how far the feature set of this identity was checked."""
        async with self._database.transaction() as tx:
            rows = await tx.fetch(SQL["last_check"], definition)
        return Since(rows[0]["number"], rows[0]["entry"], instant(rows[0]["until"])) if rows else Since()

    async def parked(self, definition: str, limit: int) -> list[Left]:
        """Return the records parked last for the feature set of this identity, newest first."""
        async with self._database.transaction() as tx:
            rows = await tx.fetch(SQL["parked"], definition, limit)
        return [
            Left(row["topic"], row["part"], row["offset"], dict(row["headers"]).get("ce_id"), row["reason"])
            for row in rows
        ]

    async def add_check(self, event: Event) -> None:
        """Append and fold a VectorsChecked in one transaction."""
        async with self._database.transaction() as tx:
            await tx.append([event])
            await add_check(tx, event)

    async def topics(self, definition: str, seen: Mapping[str, str]) -> dict[str, str]:
        """Return the ids by which the topics of the feature set of this identity are known, those seen first."""
        async with self._database.transaction() as tx:
            await tx.execute(SQL["know_topics"], definition, list(seen), list(seen.values()))
            return {row["topic"]: row["id"] for row in await tx.fetch(SQL["topics"], definition)}

    async def turn(self, definition: str, instance: str) -> str:
        """Return the instance whose turn it is to check the feature set of this identity: this one if it can be."""
        async with self._database.transaction() as tx:
            claimed = await tx.fetch(SQL["claim_check"], definition, instance)
            (found,) = claimed or await tx.fetch(SQL["checker"], definition)
        return str(found["instance"])


async def apply_records(tx: Transaction, records: Sequence[Record]) -> None:
    """Fold records of TOPICS, as a replay of the log meets them."""
    tallies: dict[tuple[str, int], RowTally] = {}
    journal: list[OrderJournalled] = []
    for record in records:
        kind = header(record, "ce_type")
        if kind == _ROW:
            place = (record.topic.removeprefix("evt.feature."), record.partition)
            tallies.setdefault(place, RowTally()).count(record.value or b"")
        elif kind != _PROGRESS:
            event = decode(record)
            if isinstance(event.fact, OrderJournalled):
                journal.append(event.fact)
            await set_project(tx, event)
            await add_check(tx, event)
    await add_rows(tx, tallies)
    await add_journal(tx, journal)


async def set_project(tx: Transaction, event: Event) -> None:
    """Fold ProjectApplied."""
    if isinstance(event.fact, ProjectApplied):
        fact = event.fact
        parse(fact.definition)  # whoever wrote it: a definition or nothing
        await tx.execute(SQL["set_project"], fact.project, fact.definition_id, fact.definition)


async def add_rows(tx: Transaction, tallies: Mapping[tuple[str, int], RowTally]) -> None:
    """Fold counts and fingerprints of rows."""
    for (feature_set, part), tally in sorted(tallies.items()):
        await tx.execute(SQL["add_rows"], feature_set, part, tally.rows, tally.fingerprint)


async def add_journal(tx: Transaction, entries: Sequence[OrderJournalled]) -> None:
    """Fold OrderJournalled."""
    for entry in entries:
        runs = [list(run) for run in entry.runs]
        place = (entry.definition, entry.feature_set, entry.number)
        await tx.execute(SQL["add_journal"], *place, entry.until, entry.applied, entry.topics, runs)


async def add_check(tx: Transaction, event: Event) -> None:
    """Fold VectorsChecked."""
    if isinstance(event.fact, VectorsChecked):
        fact = event.fact
        first = fact.first_difference and fact.first_difference.model_dump(mode="json")
        place = (fact.definition, fact.number, fact.feature_set, fact.until, fact.entry, fact.fraction)
        await tx.execute(SQL["add_check"], *place, fact.rows, fact.cells, fact.differing, first)
