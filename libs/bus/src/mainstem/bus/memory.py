"""The bus in memory, for unit tests: topics are lists, one consumer a group. Same battery as Kafka's."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from zlib import crc32

from mainstem.bus.port import OnBatch, Partition, Positions
from mainstem.events.envelope import Headers, Message
from mainstem.events.errors import Unavailable
from mainstem.events.topics import ConcreteTopic


@dataclass(frozen=True, slots=True)
class MemoryRecord:
    """A record as the memory bus keeps it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp: int = 0


class MemoryBus:
    """Topics as lists."""

    def __init__(self) -> None:
        self.log: dict[Partition, list[MemoryRecord]] = {}
        self._topics: dict[str, ConcreteTopic] = {}
        #: Set by what may give a subscription something to hand over.
        self._news: list[asyncio.Event] = []

    @property
    def publisher(self) -> "MemoryBus":
        """Return the bus itself."""
        return self

    async def create(self, topics: Sequence[ConcreteTopic]) -> None:
        """Create what is missing."""
        for topic in topics:
            topic.accept(self._topics.setdefault(topic.name, topic))
            for number in range(topic.partitions):
                self.log.setdefault((topic.name, number), [])

    async def publish(self, messages: Sequence[Message]) -> None:
        """Append all messages."""
        for m in messages:
            if m.topic not in self._topics:
                raise Unavailable(f"topic {m.topic} does not exist; create it first")
            number = crc32(m.key or b"") % self._topics[m.topic].partitions if m.partition is None else m.partition
            place = self.log[m.topic, number]
            place.append(MemoryRecord(m.topic, number, len(place), m.key, m.value, m.headers))
        for news in self._news:
            news.set()

    def subscribe(self, group: str, topics: Sequence[str], positions: Positions) -> "MemorySubscription":
        """Return a subscription of all partitions of `topics`."""
        del group
        return MemorySubscription(self, topics, positions)


class MemorySubscription:
    """Reads the lists."""

    def __init__(self, bus: MemoryBus, topics: Sequence[str], positions: Positions) -> None:
        self._bus = bus
        self._topics = topics
        self._positions = positions
        self._next: dict[Partition, int] = {}
        self._held_off: set[Partition] = set()
        self._news = asyncio.Event()
        bus._news.append(self._news)

    async def run(self, on_batch: OnBatch) -> None:
        """Hand over what is there, then wait for more."""
        start = await self._positions()
        self._next = {p: start.get(p, 0) for p in self._bus.log if p[0] in self._topics}
        while True:
            records = [r for p in self._next.keys() - self._held_off for r in self._bus.log[p][self._next[p] :]]
            if not records:
                self._news.clear()
                await self._news.wait()
                continue
            self._next.update({(r.topic, r.partition): r.offset + 1 for r in records})
            await on_batch(records)

    def assigned(self) -> bool:
        """Tell whether it reads any list."""
        return bool(self._next)

    def lag(self) -> dict[Partition, int]:
        """Return records that lie ahead, by partition."""
        return {p: len(self._bus.log[p]) - offset for p, offset in self._next.items() if p not in self._held_off}

    def hold_off(self, places: Collection[Partition]) -> None:
        """Leave these lists alone."""
        self._held_off = set(places)
        self._news.set()

    async def emptied(self) -> dict[Partition, int]:
        """Return nothing: the lists forget nothing."""
        return {}
