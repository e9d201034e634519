"""The store in memory, for unit tests: tables are dictionaries of rows. Same battery as PostgreSQL's."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

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

_BY_TIME = itemgetter("recorded_time", "event_id")


@dataclass
class _Tables:
    log: list[Event] = field(default_factory=list)
    project: dict[str, Project] = field(default_factory=dict)
    definition: dict[str, dict[str, Any]] = field(default_factory=dict)
    version: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    approval: dict[tuple[str, int, str], dict[str, Any]] = field(default_factory=dict)
    refusal: dict[str, dict[str, Any]] = field(default_factory=dict)
    deployment: dict[str, DeploymentSet] = field(default_factory=dict)
    receipt: dict[str, ReceiptIssued] = field(default_factory=dict)
    #: Id of the feature set by the address of the dataset.
    dataset: dict[str, str] = field(default_factory=dict)


class MemoryStore:
    """Keeps `Store`'s promises for one process; transactions stand in line."""

    def __init__(self) -> None:
        self._tables = _Tables()
        self._one_at_a_time = asyncio.Lock()

    @property
    def log(self) -> list[Event]:
        """Return every event recorded, in order."""
        return self._tables.log

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Book]:
        """Open the book on a copy that takes the place of the tables at the end."""
        async with self._one_at_a_time:
            tables = deepcopy(self._tables)
            yield MemoryBook(tables)
            self._tables = tables


class MemoryBook:
    """Keeps `Book`'s promises on dictionaries."""

    def __init__(self, tables: _Tables) -> None:
        self._tables = tables

    async def lock(self, name: str) -> None:
        """Do nothing: there is no other transaction."""

    async def find(self, event_id: str) -> Event | None:
        """Look through the log."""
        return next((event for event in self._tables.log if event.envelope.id == event_id), None)

    async def record(self, event: Event) -> None:
        """Append and fold."""
        if await self.find(event.envelope.id) is None:
            published = Event(event.envelope, type(event.fact).model_validate_json(event.fact.model_dump_json()))
            self._tables.log.append(published)
            _fold(self._tables, published)

    async def note(self, event: Event) -> None:
        """Fold."""
        _fold(self._tables, event)

    async def projects(self) -> list[Project]:
        """Return the projects by name."""
        return [project for _, project in sorted(self._tables.project.items())]

    async def definitions(self, definition_id: str | None = None) -> list[Definition]:
        """Return the definitions by id."""
        rows = sorted(self._tables.definition.items())
        return [Definition.of(row) for key, row in rows if definition_id in (None, key)]

    async def versions(self, model: str | None = None) -> list[Registered]:
        """Join the versions with their definitions and approvals."""
        found = [row for key, row in sorted(self._tables.version.items()) if model in (None, key[0])]
        return [Registered.of({**row, **self._people(row)}) for row in found]

    async def datasets(self, feature_set: str) -> list[str]:
        """Return the datasets built on the set."""
        return sorted(dataset for dataset, reads in self._tables.dataset.items() if reads == feature_set)

    def _people(self, row: dict[str, Any]) -> dict[str, list[str]]:
        fact = row["fact"]
        definition = self._tables.definition.get(fact["definition"], {"applied_by": []})
        approvals = sorted(
            (
                approval
                for (model, number, _), approval in self._tables.approval.items()
                if (model, number, approval["onnx"]) == (fact["model"], fact["version"], fact["onnx"])
            ),
            key=_BY_TIME,
        )
        return {"applied_by": definition["applied_by"], "approved_by": [a["approved_by"] for a in approvals]}

    async def receipts(self, event_ids: Sequence[str]) -> list[ReceiptIssued]:
        """Return the receipts of these events."""
        return [fact for _, fact in sorted(self._tables.receipt.items()) if fact.event_id in event_ids]

    async def approvals(self, model: str) -> list[dict[str, object]]:
        """Return the approvals in order of time."""
        return sorted((row for key, row in self._tables.approval.items() if key[0] == model), key=_BY_TIME)

    async def refusals(self, model: str) -> list[dict[str, object]]:
        """Return the refusals in order of time."""
        found = sorted((row for row in self._tables.refusal.values() if row["model"] == model), key=_BY_TIME)
        return [{name: value for name, value in row.items() if name != "model"} for row in found]

    async def deployment(self, model: str) -> DeploymentSet | None:
        """Return the deployment."""
        return self._tables.deployment.get(model)


def _fold(tables: _Tables, event: Event) -> None:
    when = {"event_id": event.envelope.id, "recorded_time": render(event.envelope.recorded_us)}
    match event.fact:
        case ProjectApplied() as fact:
            _fold_applied(tables, fact, when)
        case VersionRegistered() as fact:
            incumbents = [v for v in tables.version.values() if (v["model"], v["stage"]) == (fact.model, "production")]
            tables.version[fact.model, fact.version] = {
                "model": fact.model,
                "stage": fact.stage,
                "judged_against": incumbents[0]["fact"]["onnx"] if incumbents else None,
                "fact": fact.model_dump(mode="json"),
                "correlation": event.envelope.correlation,
                **when,
            }
        case VersionApproved() as fact:
            row = {"number": fact.version, "approved_by": fact.approved_by, "onnx": fact.onnx, "comment": fact.comment}
            tables.approval[fact.model, fact.version, fact.approved_by] = row | when
        case VersionPromoted() as fact:
            for (model, number), version in tables.version.items():
                if model == fact.model and (number == fact.version or version["stage"] == "production"):
                    version["stage"] = "production" if number == fact.version else "archived"
        case ChangeRefused() as fact:
            row = fact.model_dump(exclude={"version"}) | {"number": fact.version}
            tables.refusal[event.envelope.id] = row | when
        case DeploymentSet() as fact:
            tables.deployment[fact.model] = fact
        case _:
            _fold_others(tables, event)


def _fold_others(tables: _Tables, event: Event) -> None:
    """Fold what other services said."""
    match event.fact:
        case DatasetBuilt() as fact:
            tables.dataset.setdefault(fact.dataset, fact.feature_set)
        case ReceiptIssued() as fact:
            tables.receipt.setdefault(event.envelope.id, fact)
        case _:
            return


def _fold_applied(tables: _Tables, fact: ProjectApplied, when: dict[str, str]) -> None:
    tables.project[fact.project] = Project(fact.project, fact.definition_id, fact.applied_by, **when)
    known = tables.definition.get(fact.definition_id, {"applied_by": []})
    tables.definition[fact.definition_id] = {
        "definition_id": fact.definition_id,
        "project": fact.project,
        "definition": fact.definition,
        "applied_by": sorted({*known["applied_by"], fact.applied_by}),
    }
