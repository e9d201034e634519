"""Training's store on PostgreSQL: every table is a fold of events."""

from collections.abc import Collection, Sequence
from dataclasses import asdict

import asyncpg

from mainstem.events.envelope import Envelope, Event
from mainstem.events.errors import Rejected
from mainstem.events.instants import parse as parse_instant
from mainstem.events.registry import ProjectApplied, VersionPromoted, VersionRegistered
from mainstem.events.training import (
    DatasetBuilt,
    DatasetFailed,
    DatasetRequested,
    RunCompleted,
    RunFailed,
    StepCompleted,
    TrainingRequested,
)
from mainstem.project.definition import ProjectDefinition, parse
from mainstem.storage import Database, Transaction, load
from mainstem.training.domain import PLAN, Step, StepResult
from mainstem.training.ports import Asked, Incumbent, Run

SQL = load("mainstem.training")

#: Tables that are folds of the log; `audit replay` rebuilds and compares them.
PROJECTIONS = ("project", "definition", "run", "import", "step", "version", "production", "dataset", "dataset_request")
#: The topics whose facts they fold.
TOPICS = ("evt.registry.project", "evt.registry.model", "evt.training.run")
#: A topic whose events are answered, each once however often it is read.
ANSWERED = ("evt.monitoring.alert",)


class PostgresStore:
    """Keeps `Store`'s promises in one schema."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def next_run(self, passed_over: Collection[str] = ()) -> Run | None:
        """Return the unfinished run with the earliest cut, or None."""
        async with self._database.transaction() as tx:
            rows = await tx.fetch(SQL["next_run"], list(passed_over))
            if not rows:
                return None
            steps = {row["step"]: row for row in await tx.fetch(SQL["steps"], rows[0]["run"])}
        row = rows[0]
        return Run(
            row["run"],
            row["model"],
            row["project"],
            parse_instant(row["cut"]),
            row["cause"],
            row["requested_by"],
            Envelope(**row["request"]),
            tuple(_result(steps[step]) for step in PLAN if step in steps),
            row["imported"],
        )

    async def next_request(self, passed_over: Collection[str] = ()) -> Asked | None:
        """Return the open request for a dataset with the earliest cut, or None."""
        async with self._database.transaction() as tx:
            rows = await tx.fetch(SQL["next_request"], list(passed_over))
        if not rows:
            return None
        row = rows[0]
        envelope = Envelope(**row["envelope"])
        cut_us = parse_instant(row["cut"])
        return Asked(row["request"], row["model"], row["definition"], cut_us, row["requested_by"], envelope)

    async def record(self, events: Sequence[Event]) -> None:
        """Append events and fold them."""
        async with self._database.transaction() as tx:
            await tx.append(events)
            for event in events:
                await apply(tx, event)

    async def definition(self, project: str) -> ProjectDefinition:
        """Return the definition in force; raise Rejected when there is none."""
        async with self._database.transaction() as tx:
            rows = await tx.fetch(SQL["definition"], project)
        if not rows:
            raise Rejected(f"project {project!r} is not applied; run `mainstem project apply` first")
        return parse(rows[0]["definition"])

    async def definition_by_id(self, definition: str) -> ProjectDefinition:
        """Return a definition that is or was in force; raise Rejected when there was none of this identity."""
        async with self._database.transaction() as tx:
            rows = await tx.fetch(SQL["definition_by_id"], definition)
        if not rows:
            raise Rejected(f"no definition {definition} was ever applied; ask for another dataset")
        return parse(rows[0]["definition"])

    async def owner(self, model: str) -> tuple[str, str] | None:
        """Return the project that declares the model and the identity of its definition in force, or None."""
        async with self._database.transaction() as tx:
            rows = await tx.fetch(SQL["owner"], model)
        return (rows[0]["name"], rows[0]["definition_id"]) if rows else None

    async def incumbent(self, model: str) -> Incumbent | None:
        """Return the version in production, or None."""
        async with self._database.transaction() as tx:
            rows = await tx.fetch(SQL["incumbent"], model)
        return Incumbent(*rows[0].values()) if rows else None

    async def runs(self) -> list[dict[str, object]]:
        """Return all runs, the earliest cut first."""
        async with self._database.transaction() as tx:
            return [dict(row) for row in await tx.fetch(SQL["runs"])]

    async def steps(self, run: str) -> list[dict[str, object]]:
        """Return the completed steps of a run in the order of the plan."""
        async with self._database.transaction() as tx:
            found = {row["step"]: dict(row) for row in await tx.fetch(SQL["steps"], run)}
        return [found[step] for step in PLAN if step in found]

    async def datasets(self) -> list[dict[str, object]]:
        """Return all datasets, the earliest cut first."""
        async with self._database.transaction() as tx:
            return [dict(row) for row in await tx.fetch(SQL["datasets"])]

    async def requests(self) -> list[dict[str, object]]:
        """Return all requests for datasets, the earliest cut first."""
        async with self._database.transaction() as tx:
            return [dict(row) for row in await tx.fetch(SQL["requests"])]


def _result(row: asyncpg.Record) -> StepResult:
    return StepResult(Step(row["step"]), row["inputs"], row["outputs"], row["code"], row["environment"], row["figures"])


def _born(envelope: Envelope) -> dict[str, object]:
    """Return an envelope without the origin: it is the outbox's business and not known when an event is born."""
    return {**asdict(envelope), "origin": None}


async def apply(tx: Transaction, event: Event) -> None:
    """Fold one event of TOPICS."""
    match event.fact:
        case ProjectApplied() as fact:
            parse(fact.definition)  # whoever wrote it: a definition or nothing
            await tx.execute(SQL["set_project"], fact.project, fact.definition_id, fact.definition)
            await tx.execute(SQL["add_definition"], fact.definition_id, fact.definition)
        case TrainingRequested() as fact:
            asked = (fact.run, fact.model, fact.project, fact.cut, fact.cause, fact.requested_by)
            await tx.execute(SQL["add_run"], *asked, _born(event.envelope))
            if fact.imported is not None:
                await tx.execute(SQL["add_import"], fact.run, fact.imported)
        case StepCompleted() as fact:
            step = (fact.run, fact.step, fact.inputs, fact.outputs, fact.figures, fact.code, fact.environment)
            await tx.execute(SQL["add_step"], *step)
        case RunCompleted() as fact:
            await tx.execute(SQL["end_run"], fact.run, "completed", None)
        case RunFailed() as fact:
            await tx.execute(SQL["end_run"], fact.run, "failed", f"{fact.step}: {fact.reason}")
        case DatasetRequested() | DatasetBuilt() | DatasetFailed():
            await _apply_dataset(tx, event)
        case VersionRegistered() as fact:
            await tx.execute(SQL["add_version"], fact.model, fact.version, fact.onnx, fact.feature_set)
        case VersionPromoted() as fact:
            await tx.execute(SQL["set_production"], fact.model, fact.version)
        case _:
            return


async def _apply_dataset(tx: Transaction, event: Event) -> None:
    match event.fact:
        case DatasetRequested() as fact:
            asked = (fact.request, fact.model, fact.project, fact.definition, fact.cut, fact.requested_by)
            await tx.execute(SQL["add_request"], *asked, _born(event.envelope))
        case DatasetBuilt() as fact:
            built = (fact.dataset, fact.table, fact.request, fact.model, fact.project, fact.definition)
            of = (fact.feature_set, fact.feature_set_label, fact.cut, fact.rows, fact.held_out, fact.unlabelled)
            await tx.execute(SQL["add_dataset"], *built, *of, fact.content, fact.requested_by)
            await tx.execute(SQL["end_request"], fact.request, "built", fact.dataset, None)
        case DatasetFailed() as fact:
            await tx.execute(SQL["end_request"], fact.request, "failed", None, fact.reason)
        case _:
            return
