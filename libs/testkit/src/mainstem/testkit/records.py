"""Records as a broker would hand them over, without one."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from mainstem.events.envelope import Headers, Message

#: 2100: whatever a test says of time was known when the broker took the record.
LATER_MS = 4_102_444_800_000


@dataclass(frozen=True, slots=True)
class Taken:
    """A record; only what a test cares about has to be said."""

    topic: str = "src.test"
    partition: int = 0
    offset: int = 0
    value: bytes | None = b"{}"
    key: bytes | None = None
    headers: Headers = ()
    timestamp: int = LATER_MS


class Log:
    """An append-only log by (topic, partition): what a broker would make of messages that were acknowledged."""

    def __init__(self) -> None:
        self._ends: defaultdict[tuple[str, int], int] = defaultdict(int)
        self.records: list[Taken] = []

    async def publish(self, messages: Sequence[Message]) -> None:
        """Append all messages; one without a partition goes to partition 0."""
        self.append(messages)

    def append(self, messages: Sequence[Message]) -> list[Taken]:
        """Append all messages and return them as records."""
        added = []
        for m in messages:
            place = (m.topic, m.partition or 0)
            added.append(Taken(*place, self._ends[place], m.value, m.key, m.headers))
            self._ends[place] += 1
        self.records += added
        return added

    def of(self, topic: str) -> list[Taken]:
        """Return the records of one topic in the order in which they were appended."""
        return [record for record in self.records if record.topic == topic]
