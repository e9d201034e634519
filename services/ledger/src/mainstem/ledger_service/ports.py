"""What the ledger asks of the world."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mainstem.events.fact import Fact
from mainstem.events.record import Record
from mainstem.ledger import Frontier
from mainstem.ledger.checkpoint import Checkpoint
from mainstem.ledger.note import Note
from mainstem.ledger_service.domain import Partition, Placed, State


@dataclass(frozen=True, slots=True)
class Archived:
    """What a batch added."""

    #: New entries by topic.
    entries: Mapping[str, int]
    second_copies: int


@dataclass(frozen=True, slots=True)
class News:
    """What was added to the tree since a size."""

    #: Of the leaves, in their order.
    hashes: bytes
    #: The tree with them.
    frontier: Frontier
    #: How many of the entries since the last checkpoint are not the ledger's own.
    entries: int
    #: Those of which receipts are due.
    decided: Sequence[Placed] = ()


class Store(Protocol):
    """Keeps entries, the tree over them and how far each partition was read."""

    async def archive(self, records: Sequence[Record]) -> Archived:
        """Append what is new among the records, in one transaction: entries, positions and tree, or nothing.

        Offering the same records again adds nothing. Raises Unavailable or Conflict; then try again.
        """

    async def unpublished(self, size: int) -> News | None:
        """Return what was added behind the first `size` entries; None when that is nothing but checkpoints.

        Also None before the first entry with a recorded time of ours: that is when a checkpoint is recorded.
        """

    async def publish_checkpoint(self, note: Note, checkpoint: Checkpoint, news: News, facts: Sequence[Fact]) -> None:
        """Keep a checkpoint over `news` and append the facts that tell of it, once.

        They are recorded at the highest recorded time archived.
        """

    async def positions(self) -> Mapping[Partition, int]:
        """Return the next offset of each partition."""

    async def state(self) -> State:
        """Return the tree."""

    async def counts(self) -> list[dict[str, object]]:
        """Return entries and dropped second copies by topic."""

    async def with_id(self, event_id: str) -> list[Placed]:
        """Return the entries with this event id, the first first."""

    async def newest(self, topic: str, limit: int) -> list[Placed]:
        """Return the newest entries of a topic, the newest first."""

    async def frames(self, first: int, end: int) -> list[bytes]:
        """Return the frames of these leaves, which must all be there."""
