"""What ingestion asks of the world."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mainstem.events.data import RecordQuarantined, RecordRedriven
from mainstem.events.fence import Position
from mainstem.project.definition import ProjectDefinition

Partition = tuple[str, int]

_MOD = 2**63


@dataclass(slots=True)
class Tally:
    """What came out of a partition: counts, and the sum of the fingerprints of the accepted records' ids (mod 2^63)."""

    accepted: int = 0
    quarantined: int = 0
    fingerprint: int = 0

    def count_accepted(self, mark: int) -> None:
        """Count an accepted record by the fingerprint of what it is known by."""
        self.accepted += 1
        self.fingerprint = (self.fingerprint + mark) % _MOD


@dataclass(frozen=True, slots=True)
class Progress:
    """What happened since the last checkpoint, all of it already acknowledged by the bus."""

    positions: Mapping[Partition, Position]
    states: Mapping[Partition, bytes]
    quarantined: Sequence[RecordQuarantined]
    redriven: Sequence[RecordRedriven]
    tallies: Mapping[Partition, Tally]


class Store(Protocol):
    """Keeps positions, state and the quarantine."""

    async def save(self, progress: Progress) -> None:
        """Store all of it or nothing; saving the same once more changes nothing. Raises Unavailable."""

    async def quarantined(
        self, *, source: str | None, reason: str | None, status: str | None, limit: int
    ) -> list[dict[str, object]]:
        """Return quarantined records, the newest first, without their payloads."""

    async def find(self, quarantine_id: str) -> dict[str, object] | None:
        """Return one quarantined record with its payload; the id may be shortened to a unique prefix."""

    async def definitions(self) -> list[ProjectDefinition]:
        """Return the definitions in force."""
