"""The fence: which records of a batch are new. See docs/adr/0001-origin-fence.md."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from mainstem.events.envelope import named
from mainstem.events.record import Record

Partition = tuple[str, int]

#: Topics that others write: an origin there is hearsay, and a record is known by its offset alone.
_FOREIGN: Final = "src."
#: Digits of the largest number of an origin.
_DIGITS: Final = 19


@dataclass(slots=True)
class Position:
    """How far a partition was applied: the next offset, and per origin stream the highest number seen."""

    next_offset: int = 0
    origins: dict[str, int] = field(default_factory=dict)


def read_origin(origin: bytes) -> tuple[str, int] | None:
    """Return the stream of an origin and the number in it; None for what is no origin of ours."""
    stream, _, number = origin.decode(errors="replace").rpartition("/")
    if not (stream.isprintable() and number.isdecimal() and len(number) <= _DIGITS):
        return None
    return stream, int(number)


class Fence:
    """Admits each event once, whatever was written twice or is read twice.

    Promise: of all records ever offered, each partition's in order, the first copy of each event is admitted and
    no second one, as long as writers keep the rule of ADR 1.
    A record that a source wrote, or without an origin of ours, is admitted once by its offset.
    """

    def __init__(self, positions: Mapping[Partition, Position] | None = None) -> None:
        self.positions: dict[Partition, Position] = dict(positions or {})
        self.dropped = 0

    def admit(self, records: Sequence[Record]) -> tuple[list[Record], list[dict[str, bytes]]]:
        """Return the new records among `records`, and their headers; move the positions past all of them."""
        fresh: list[Record] = []
        headers: list[dict[str, bytes]] = []
        for record in records:
            found = named(record.headers)
            if self._is_new(record, found.get("ce_origin")):
                fresh.append(record)
                headers.append(found)
            else:
                self.dropped += 1
        return fresh, headers

    def _is_new(self, record: Record, origin: bytes | None) -> bool:
        partition = (record.topic, record.partition)
        position = self.positions.get(partition)
        if position is None:
            position = self.positions[partition] = Position()
        if record.offset < position.next_offset:
            return False
        position.next_offset = record.offset + 1
        if origin is None or record.topic.startswith(_FOREIGN):
            return True
        known = read_origin(origin)
        if known is None:
            return True
        stream, number = known
        if number <= position.origins.get(stream, -1):
            return False
        position.origins[stream] = number
        return True

    def offsets(self, partitions: Iterable[Partition] | None = None) -> dict[Partition, int]:
        """Return the next offset of each partition."""
        chosen = self.positions if partitions is None else partitions
        return {p: self.positions[p].next_offset for p in chosen if p in self.positions}
