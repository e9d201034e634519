"""What the registry asks of the world."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol, Self

from mainstem.events.envelope import Event
from mainstem.events.ledger import ReceiptIssued
from mainstem.events.registry import DeploymentSet, VersionRegistered
from mainstem.events.topics import ConcreteTopic
from mainstem.project.definition import ProjectDefinition, parse
from mainstem.registry.domain import GateResult, Lineage, Stage, Version

#: Creates the topics that do not exist yet; raises Unavailable when the broker does not.
CreateTopics = Callable[[Sequence[ConcreteTopic]], Awaitable[None]]
#: Returns for each topic the consumer groups with committed offsets in it; raises Unavailable.
ListGroups = Callable[[Sequence[str]], Awaitable[Mapping[str, Sequence[str]]]]
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Proved:
    """An event that is in the log: its leaf, and the size of the tree that was cosigned over it."""

    event_id: str
    leaf: int
    size: int


#: Waits until events are proved to be in the log; raises Problem 503 when that takes too long.
Prove = Callable[[Sequence[Event]], Awaitable[list[Proved]]]


@dataclass(frozen=True, slots=True)
class Broker:
    """What the registry asks of the broker."""

    create: CreateTopics
    groups: ListGroups


@dataclass(frozen=True, slots=True)
class Project:
    """Which definition of a project is in force, since when (RFC 3339), and by whom."""

    name: str
    definition_id: str
    applied_by: str
    event_id: str
    recorded_time: str


@dataclass(frozen=True, slots=True)
class Definition:
    """A definition that is or was in force, and everybody who applied it."""

    definition_id: str
    project: str
    content: ProjectDefinition
    applied_by: frozenset[str]

    @classmethod
    def of(cls, row: Row) -> Self:
        """Read a row of `definition`."""
        return cls(row["definition_id"], row["project"], parse(row["definition"]), frozenset(row["applied_by"]))


@dataclass(frozen=True, slots=True)
class Registered:
    """A version as it stands, the fact that registered it, and the story it belongs to."""

    version: Version
    fact: VersionRegistered
    event_id: str
    correlation: str
    recorded_time: str

    @classmethod
    def of(cls, row: Row) -> Self:
        """Read a row of `version` with `applied_by` of its definition and `approved_by` of its digest."""
        fact = VersionRegistered.model_validate(row["fact"])
        builders, appliers = frozenset(fact.builders), frozenset(row["applied_by"])
        version = Version(
            model=fact.model,
            number=fact.version,
            onnx=fact.onnx,
            stage=Stage(row["stage"]),
            lineage=Lineage(data=frozenset(), definition=builders & appliers, run=builders - appliers),
            gates=tuple(GateResult(**gate.model_dump()) for gate in fact.gates),
            judged_against=row["judged_against"],
            approved_by=tuple(row["approved_by"]),
        )
        return cls(version, fact, row["event_id"], row["correlation"], row["recorded_time"])


class Book(Protocol):
    """What the registry knows, inside one transaction: all that is recorded holds together or not at all."""

    async def lock(self, name: str) -> None:
        """Wait until nobody else decides about `name`, and keep others waiting until the transaction ends."""

    async def find(self, event_id: str) -> Event | None:
        """Return an event recorded earlier, or None."""

    async def record(self, event: Event) -> None:
        """Append an event for publication and fold it as every reader of the log will."""

    async def note(self, event: Event) -> None:
        """Fold an event that another service published."""

    async def projects(self) -> list[Project]:
        """Return what is in force, by name."""

    async def definitions(self, definition_id: str | None = None) -> list[Definition]:
        """Return all definitions that ever were in force, or the one of this id."""

    async def versions(self, model: str | None = None) -> list[Registered]:
        """Return the versions of a model, or of all, by model and number."""

    async def datasets(self, feature_set: str) -> list[str]:
        """Return the content addresses of the datasets built on the feature set of this id, sorted."""

    async def receipts(self, event_ids: Sequence[str]) -> list[ReceiptIssued]:
        """Return what the ledger issued for these events, unchecked: of one event there may be several or none."""

    async def approvals(self, model: str) -> list[dict[str, object]]:
        """Return number, approved_by, onnx, comment, event_id, recorded_time of each approval in order of time."""

    async def refusals(self, model: str) -> list[dict[str, object]]:
        """Return number, request, requested_by, rule, reason, event_id, recorded_time of each, in order of time."""

    async def deployment(self, model: str) -> DeploymentSet | None:
        """Return what may serve the model, or None."""


class Store(Protocol):
    """Keeps the book."""

    def transaction(self) -> AbstractAsyncContextManager[Book]:
        """Open the book; commit at the end, undo everything on any error. Raises Unavailable."""
