"""What monitoring asks of the world."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from mainstem.events.envelope import Event
from mainstem.events.monitoring import AlertOpened, FeatureAlertOpened, FeatureSetAlertOpened
from mainstem.events.record import Record
from mainstem.project.definition import ProjectDefinition


@dataclass(frozen=True, slots=True)
class Parked:
    """A record that is neither a prediction nor a label, and why."""

    record: Record
    reason: str


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of a model's fold, positions included, and the records it could not take since the last one."""

    model: str
    state: bytes
    parked: Sequence[Parked]


Alert = AlertOpened | FeatureAlertOpened | FeatureSetAlertOpened


def subject(fact: Alert) -> str:
    """Return what an alert is on: a model by its name, or a feature set by its identity."""
    return fact.definition if isinstance(fact, FeatureSetAlertOpened) else fact.model


@dataclass(frozen=True, slots=True)
class OpenAlert:
    """An alert that was not closed; `outcome` is what came of it so far."""

    fact: Alert
    outcome: str
    recorded_us: int


class Book(Protocol):
    """What is known, inside one transaction: all that is recorded and saved holds together or not at all."""

    async def lock(self, subject: str) -> None:
        """Wait until nobody else decides about a model or a set, and keep others waiting until the transaction ends."""

    async def record(self, event: Event) -> None:
        """Append an event and fold it; an event that is there already changes nothing."""

    async def has_judged(self, verdict: str) -> bool:
        """Tell whether a verdict of this event id was recorded."""

    async def profile(self, model: str, version: int) -> str | None:
        """Return the address of a version's profile; None until both its registration and a promotion are known."""

    async def definition(self, model: str, version: int) -> str | None:
        """Return the identity of the feature set that a version reads; None until its registration is known."""

    async def readers(self, definition: str) -> list[Event]:
        """Return the promotions in force (VersionPromoted) of versions that read a feature set, by model."""

    async def findings(self, definition: str) -> list[Event]:
        """Return the last finding of each type about a feature set (VectorsChecked with differences, FoldStopped)."""

    async def definitions(self) -> list[ProjectDefinition]:
        """Return the definitions in force."""

    async def promotions(self, model: str) -> list[Event]:
        """Return the promotions of a model (VersionPromoted), in the order of the log."""

    async def open_alerts(self, of: str, at_us: int | None = None) -> list[OpenAlert]:
        """Return the open alerts on a model or a set; with `at_us`, those not closed by that recorded time.

        Those recorded first come first; of two at once, the one with the lower id.
        """

    async def last_request_us(self, model: str) -> int | None:
        """Return when a retraining was last asked for, in recorded time."""

    async def save(self, progress: Progress) -> None:
        """Store the state of a fold in place of the one before."""


class Store(Protocol):
    """Keeps verdicts, alerts and the state of folds."""

    def transaction(self) -> AbstractAsyncContextManager[Book]:
        """Open the book; what is done to it is stored when the block ends well."""

    async def state(self, model: str) -> bytes | None:
        """Return the state stored last for a model."""

    async def definitions(self) -> list[ProjectDefinition]:
        """Return the definitions in force."""


class Artifacts(Protocol):
    """Reads artifacts."""

    def get(self, address: str) -> bytes:
        """Return the bytes at `address`; raise ArtifactMissing or ArtifactCorrupt."""
