"""What a stage does with one partition, and what it must know to go on after a restart or in another process."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mainstem.events.envelope import Message
from mainstem.events.features import OrderJournalled
from mainstem.events.record import Record
from mainstem.features.ports import RowTally
from mainstem.features.sharded.frames import Frame, read
from mainstem.fold.accepted import Parked


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is stored besides a state."""

    parked: Sequence[Parked] = ()
    rows: Mapping[tuple[str, int], RowTally] = field(default_factory=dict)
    journal: Sequence[OrderJournalled] = ()


class Unit(Protocol):
    """The work on one partition of a stage's topic.

    What follows from the records is a function of what the partition holds: read again from `next_offset` on, after
    `restore`, the same follows, and what followed before may follow once more.
    """

    @property
    def next_offset(self) -> int:
        """Return from which offset on the partition must be read again to go on from `snapshot`."""

    def take(self, records: Sequence[Record]) -> list[Message]:
        """Take records of the partition, in order, and return what follows from them."""

    def snapshot(self) -> bytes:
        """Return the state."""

    def restore(self, state: bytes) -> None:
        """Go on from a state."""

    def outcome(self) -> Outcome:
        """Return what came of it since the last call."""


class Inbox:
    """The frames that a unit takes; from the first of them that it still needs it reads again."""

    def __init__(self) -> None:
        self._frames: deque[tuple[int, int]] = deque()
        self._following = 0
        self._parked: list[Parked] = []

    def open(self, records: Sequence[Record]) -> Iterator[Frame]:
        """Yield the frames in records; park what is none."""
        for record in records:
            self._following = record.offset + 1
            frame = read(record.value)
            if frame is None:
                self._parked.append(Parked(record, "this is no frame of the feature service; find out who wrote it"))
            else:
                self._frames.append((record.offset, frame.newest))
                yield frame

    def passed(self, instant: int) -> None:
        """Forget the frames in which nothing is newer than an instant that was passed."""
        while self._frames and self._frames[0][1] <= instant:
            self._frames.popleft()

    @property
    def next_offset(self) -> int:
        """Return where to begin to read."""
        return self._frames[0][0] if self._frames else self._following

    def parked(self) -> list[Parked]:
        """Return what was parked since the last call."""
        parked, self._parked = self._parked, []
        return parked
