"""The registry's store on PostgreSQL."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from mainstem.events.envelope import Event
from mainstem.events.instants import render
from mainstem.events.ledger import ReceiptIssued
from mainstem.events.registry import (
    ChangeRefused,
    DeploymentSet,
    ProjectApplied,
    VersionApproved,
    VersionPromoted,
    VersionRegistered,
)
from mainstem.events.training import DatasetBuilt
from mainstem.registry.ports import Book, Definition, Project, Registered
from mainstem.storage import Database, Transaction, load

SQL = load("mainstem.registry")

#: Tables that are folds of the log; `audit replay` rebuilds and compares them.
PROJECTIONS = ("project", "definition", "version", "approval", "refusal", "deployment", "dataset", "receipt")
#: The topics whose facts they fold.
TOPICS = ("evt.registry.project", "evt.registry.model", "state.deployment", "evt.training.run", ReceiptIssued.TOPIC)
#: Those whose events are answered, each once however often it is read.
ANSWERED = ("evt.training.run",)


class PostgresStore:
    """Keeps `Store`'s promises in one schema."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Book]:
        """Open the book in one transaction."""
        async with self._database.transaction() as tx:
            yield PostgresBook(tx)


class PostgresBook:
    """Keeps `Book`'s promises in one transaction."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def lock(self, name: str) -> None:
        """Take the advisory lock of `name`."""
        await self._tx.execute(SQL["lock"], name)

    async def find(self, event_id: str) -> Event | None:
        """Look into the service's own log."""
        return await self._tx.find(event_id)

    async def record(self, event: Event) -> None:
        """Append and fold what a reader of the log will decode."""
        published = Event(event.envelope, type(event.fact).model_validate_json(event.fact.model_dump_json()))
        await self._tx.append([published])
        await apply(self._tx, published)

    async def note(self, event: Event) -> None:
        """Fold."""
        await apply(self._tx, event)

    async def projects(self) -> list[Project]:
        """Read `project`."""
        return [Project(**row) for row in await self._tx.fetch(SQL["projects"])]

    async def definitions(self, definition_id: str | None = None) -> list[Definition]:
        """Read `definition`."""
        return [Definition.of(dict(row)) for row in await self._tx.fetch(SQL["definitions"], definition_id)]

    async def versions(self, model: str | None = None) -> list[Registered]:
        """Read `version` with who applied its definition and who approved its digest."""
        return [Registered.of(dict(row)) for row in await self._tx.fetch(SQL["versions"], model)]

    async def datasets(self, feature_set: str) -> list[str]:
        """Read `dataset`."""
        return [row["dataset"] for row in await self._tx.fetch(SQL["datasets"], feature_set)]

    async def receipts(self, event_ids: Sequence[str]) -> list[ReceiptIssued]:
        """Read `receipt`."""
        return [ReceiptIssued(**dict(row)) for row in await self._tx.fetch(SQL["receipts"], list(event_ids))]

    async def approvals(self, model: str) -> list[dict[str, object]]:
        """Read `approval`."""
        return [dict(row) for row in await self._tx.fetch(SQL["approvals"], model)]

    async def refusals(self, model: str) -> list[dict[str, object]]:
        """Read `refusal`."""
        return [dict(row) for row in await self._tx.fetch(SQL["refusals"], model)]

    async def deployment(self, model: str) -> DeploymentSet | None:
        """Read `deployment`."""
        rows = await self._tx.fetch(SQL["deployment"], model)
        return DeploymentSet.model_validate(rows[0]["fact"]) if rows else None


async def apply(tx: Transaction, event: Event) -> None:
    """Fold one event of TOPICS; those of one model or project must come in the order of the log."""
    match event.fact:
        case ProjectApplied() as fact:
            await fold_applied(tx, event, fact)
        case VersionRegistered() as fact:
            await fold_registered(tx, event, fact)
        case VersionApproved() as fact:
            await fold_approved(tx, event, fact)
        case VersionPromoted() as fact:
            await tx.execute(SQL["set_production"], fact.model, fact.version)
        case ChangeRefused() as fact:
            await fold_refused(tx, event, fact)
        case DeploymentSet() as fact:
            document = fact.model_dump(mode="json")
            await tx.execute(SQL["set_deployment"], fact.model, document, event.envelope.id, _recorded(event))
        case DatasetBuilt() as fact:
            await tx.execute(SQL["add_dataset"], fact.dataset, fact.feature_set)
        case ReceiptIssued() as fact:
            place = (fact.event_id, fact.leaf)
            await tx.execute(SQL["add_receipt"], event.envelope.id, *place, fact.entry, fact.receipt)
        case _:
            return


async def fold_applied(tx: Transaction, event: Event, fact: ProjectApplied) -> None:
    """Put a definition in force and remember who did."""
    await tx.execute(SQL["add_definition"], fact.definition_id, fact.project, fact.definition, fact.applied_by)
    await tx.execute(
        SQL["set_project"], fact.project, fact.definition_id, fact.applied_by, event.envelope.id, _recorded(event)
    )


async def fold_registered(tx: Transaction, event: Event, fact: VersionRegistered) -> None:
    """Add a version, judged against what is in production at this point of the log."""
    await tx.execute(
        SQL["add_version"],
        fact.model,
        fact.version,
        fact.run,
        fact.stage,
        fact.model_dump(mode="json"),
        event.envelope.id,
        event.envelope.correlation,
        _recorded(event),
    )


async def fold_approved(tx: Transaction, event: Event, fact: VersionApproved) -> None:
    """Add an approval."""
    await tx.execute(
        SQL["add_approval"],
        fact.model,
        fact.version,
        fact.approved_by,
        fact.onnx,
        fact.comment,
        event.envelope.id,
        _recorded(event),
    )


async def fold_refused(tx: Transaction, event: Event, fact: ChangeRefused) -> None:
    """Add a refusal."""
    await tx.execute(
        SQL["add_refusal"],
        event.envelope.id,
        fact.model,
        fact.version,
        fact.request,
        fact.requested_by,
        fact.rule,
        fact.reason,
        _recorded(event),
    )


def _recorded(event: Event) -> str:
    return render(event.envelope.recorded_us)
