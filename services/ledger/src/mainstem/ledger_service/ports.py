"""What the ledger asks of the world."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mainstem.events.catalogue import Record
from mainstem.ledger_service.domain import Partition, Placed, State


@dataclass(frozen=True, slots=True)
class Archived:
    """What a batch added."""

    #: New entries by topic.
    entries: Mapping[str, int]
    second_copies: int


class Store(Protocol):
    """Keeps entries, the tree over them and how far each partition was read."""

    async def archive(self, records: Sequence[Record]) -> Archived:
        """Append what is new among the records, in one transaction: entries, positions and tree, or nothing.

        Offering the same records again adds nothing. Raises Unavailable or Conflict; then try again.
        """

    async def publish_checkpoint(self) -> None:
        """Append CheckpointPublished, unless nothing but checkpoints was added since the last one.

        It is recorded at the highest recorded time archived. Before the first entry with such a time there is none.
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
