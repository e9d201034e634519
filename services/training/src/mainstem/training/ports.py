"""What training asks of the world."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from mainstem.events.envelope import Envelope, Event
from mainstem.events.errors import Unavailable
from mainstem.project.definition import ProjectDefinition
from mainstem.training.domain import StepResult

#: Hears how many records were read so far, and how many there are at most.
Told = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Run:
    """A run as far as it is known; `request` is the envelope of the event that asked for it.

    `imported` is the address of the model made elsewhere that it brings in, if it does.
    """

    run: str
    model: str
    project: str
    cut_us: int
    cause: str
    requested_by: str
    request: Envelope
    completed: tuple[StepResult, ...]
    imported: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for a dataset; `definition` is the identity of the project definition in force when it was made."""

    request: str
    model: str
    definition: str
    cut_us: int
    requested_by: str
    envelope: Envelope


@dataclass(frozen=True, slots=True)
class Incumbent:
    """The version in production."""

    version: int
    onnx: str
    feature_set: str


class NotReached(Unavailable):
    """The log has not shown yet that nothing before the cut is still to come."""


class Store(Protocol):
    """Keeps runs, their steps, datasets, and what is in production."""

    async def next_run(self, passed_over: Collection[str] = ()) -> Run | None:
        """Return the unfinished run with the earliest cut that is not among `passed_over`, or None."""

    async def next_request(self, passed_over: Collection[str] = ()) -> Asked | None:
        """Return the open request for a dataset with the earliest cut that is not among `passed_over`, or None."""

    async def record(self, events: Sequence[Event]) -> None:
        """Append events to the outbox and fold them, all or nothing; an event that is there already changes nothing."""

    async def definition(self, project: str) -> ProjectDefinition:
        """Return the definition in force; raise Rejected when there is none."""

    async def definition_by_id(self, definition: str) -> ProjectDefinition:
        """Return a definition that is or was in force; raise Rejected when there was none of this identity."""

    async def owner(self, model: str) -> tuple[str, str] | None:
        """Return the project that declares the model and the identity of its definition in force, or None."""

    async def incumbent(self, model: str) -> Incumbent | None:
        """Return the version in production, or None."""
