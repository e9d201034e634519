"""What the feature service asks of the world."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mainstem.events.catalogue import Record
from mainstem.events.features import OrderJournalled
from mainstem.events.fence import Position
from mainstem.events.ids import fingerprint
from mainstem.project.definition import ProjectDefinition

Partition = tuple[str, int]

_MOD = 2**63


@dataclass(slots=True)
class RowTally:
    """Rows of one partition: how many, and the sum of the fingerprints of their payloads (mod 2^63)."""

    rows: int = 0
    fingerprint: int = 0

    def count(self, payload: bytes) -> None:
        """Count a row by its payload: values, entity and definition."""
        self.rows += 1
        self.fingerprint = (self.fingerprint + fingerprint(payload)) % _MOD


@dataclass(frozen=True, slots=True)
class Parked:
    """A record that could not be applied, and why."""

    record: Record
    reason: str


@dataclass(frozen=True, slots=True)
class Progress:
    """What happened since the last checkpoint, all of it already acknowledged by the bus."""

    feature_set: str
    definition: str
    state: bytes
    positions: Mapping[Partition, Position]
    tallies: Mapping[int, RowTally]
    journal: Sequence[OrderJournalled]
    parked: Sequence[Parked] = ()


class Store(Protocol):
    """Keeps the state of the fold and what is told of it."""

    async def save(self, progress: Progress) -> None:
        """Store all of it or nothing; saving the same once more changes nothing. Raises Unavailable."""

    async def state(self, definition: str) -> bytes | None:
        """Return the state stored last for the feature set of this identity; one that was changed begins anew."""

    async def definitions(self) -> list[ProjectDefinition]:
        """Return the definitions in force."""
