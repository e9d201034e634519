"""What the feature service asks of the world."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mainstem.events.envelope import Event
from mainstem.events.features import OrderJournalled
from mainstem.events.ids import fingerprint
from mainstem.fold.accepted import Parked
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
class Left:
    """A record that was parked, as it is found again: where it stands, by which id, and why; `id` None for none."""

    topic: str
    partition: int
    offset: int
    id: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Progress:
    """What happened since the last checkpoint, all of it already acknowledged by the bus."""

    feature_set: str
    definition: str
    state: bytes
    tallies: Mapping[int, RowTally]
    journal: Sequence[OrderJournalled]
    parked: Sequence[Parked] = ()


class Parking(Protocol):
    """Knows what was parked."""

    async def parked(self, definition: str, limit: int) -> list[Left]:
        """Return the records parked last for the feature set of this identity, newest first. Raises Unavailable."""


class Store(Protocol):
    """Keeps the state of the fold and what is told of it."""

    async def save(self, progress: Progress) -> None:
        """Store all of it or nothing; saving the same once more changes nothing. Raises Unavailable."""

    async def state(self, definition: str) -> bytes | None:
        """Return the state stored last for the feature set of this identity; one that was changed begins anew."""

    async def definitions(self) -> list[ProjectDefinition]:
        """Return the definitions in force."""

    async def topics(self, definition: str, seen: Mapping[str, str]) -> Mapping[str, str]:
        """Remember the ids of topics, seen now, and return those known: of each topic the one that was seen first."""


@dataclass(frozen=True, slots=True)
class Since:
    """Which VectorsChecked was stored last, and up to which entry of the journal it tells; -1 before the first."""

    number: int = -1
    entry: int = -1
    #: The recorded time up to which it tells, µs since 1970; None before the first.
    until_us: int | None = None


class Checks(Protocol):
    """Keeps what the standing check tells."""

    async def last_check(self, definition: str) -> Since:
        """Return how far the feature set of this identity was checked."""

    async def add_check(self, event: Event) -> None:
        """Store a VectorsChecked, and have it published: both or neither. Once more changes nothing.

        Raises Unavailable.
        """


class Turns(Checks, Protocol):
    """Keeps also which process checks a feature set: one at a time, while there may be several."""

    async def turn(self, definition: str, instance: str) -> str:
        """Return the instance whose turn it is to check the feature set of this identity.

        It is this one for ten seconds from now if no other has said so within the last ten. Raises Unavailable.
        """
