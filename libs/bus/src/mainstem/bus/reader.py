"""Reading a stretch of the log from beginning to end, without a consumer group: backfill, datasets, audits, tests."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from mainstem.bus.port import Partition
from mainstem.bus.records import read_every_record
from mainstem.events.errors import Unavailable
from mainstem.events.record import Record

_FETCH_BYTES = 8 << 20
_MOMENT_S = 0.1


class LogReader:
    """Reads topics from given offsets. Use `async with`."""

    def __init__(self, bootstrap: str, topics: Sequence[str], fetch_bytes: int = _FETCH_BYTES) -> None:
        """Read so much of a partition at once, or one batch that is larger: less is slower, and takes less memory."""
        self._topics = topics
        #: By partition the offset after the last record that was given, or where reading began.
        self._given: dict[TopicPartition, int] = {}
        read_every_record()
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            max_partition_fetch_bytes=fetch_bytes,
            fetch_max_wait_ms=50,
        )

    async def __aenter__(self) -> "LogReader":
        try:
            await self._consumer.start()
        except KafkaError as fault:
            await self._consumer.stop()
            raise Unavailable(f"Kafka does not answer: {fault}") from fault
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def start(self, offsets: Mapping[Partition, int] | None = None) -> None:
        """Stand at `offsets`, else at the beginning. Raises Unavailable for a topic that is not there."""
        # The consumer knows the partitions of assigned topics only; these are not assigned yet.
        cluster = await self._consumer._client.fetch_all_metadata()
        partitions = []
        for topic in self._topics:
            found = cluster.partitions_for_topic(topic)
            if not found:
                raise Unavailable(f"topic {topic} does not exist; apply the project that declares it")
            partitions += [TopicPartition(topic, number) for number in sorted(found)]
        self._consumer.assign(partitions)
        self._given = {tp: (offsets or {}).get((tp.topic, tp.partition), 0) for tp in partitions}
        for tp, offset in self._given.items():
            self._consumer.seek(tp, offset)

    async def begins(self) -> dict[Partition, int]:
        """Return the offset of the first record that each partition still holds, or would. Raises Unavailable."""
        return await self._offsets(self._consumer.beginning_offsets)

    async def ends(self) -> dict[Partition, int]:
        """Return the offset after the last record of each partition, now. Raises Unavailable."""
        return await self._offsets(self._consumer.end_offsets)

    async def _offsets(
        self, ask: Callable[[list[TopicPartition]], Awaitable[Mapping[TopicPartition, int]]]
    ) -> dict[Partition, int]:
        try:
            found = await ask(list(self._consumer.assignment()))
        except KafkaError as fault:
            raise Unavailable(f"Kafka does not answer: {fault!r}") from fault
        return {(tp.topic, tp.partition): offset for tp, offset in found.items()}

    async def poll(self, max_records: int = 5_000, timeout_s: float = 0.2) -> list[Record]:
        """Return the next records, in order within a partition; empty when none came in time."""
        batches = await self._consumer.getmany(timeout_ms=int(timeout_s * 1000), max_records=max_records)
        self._given |= {tp: batch[-1].offset + 1 for tp, batch in batches.items() if batch}
        return [record for batch in batches.values() for record in batch]

    async def emptied(self) -> dict[Partition, int]:
        """Return where partitions go on that hold no record, though not all before it was given. Raises Unavailable.

        The client passes over what is gone; the broker is asked only when it has done so.
        """
        places = {tp: await self._position(tp) for tp in self._given}
        passed = {(tp.topic, tp.partition): place for tp, place in places.items() if place != self._given[tp]}
        ends = await self.ends() if passed else {}
        return {place: offset for place, offset in passed.items() if offset == ends[place]}

    async def _position(self, tp: TopicPartition) -> int:
        """Return where the client stands; where it was, while it looks for its place."""
        with suppress(TimeoutError, KafkaError):
            async with asyncio.timeout(_MOMENT_S):
                return int(await self._consumer.position(tp))
        return self._given[tp]

    def hold_off(self, places: Collection[Partition]) -> None:
        """Read nothing more of these partitions and go on with all others, until the next call."""
        for tp in self._consumer.assignment():
            held = (tp.topic, tp.partition) in places
            if held != (tp in self._consumer.paused()):
                (self._consumer.pause if held else self._consumer.resume)(tp)

    async def to_end(self) -> AsyncIterator[list[Record]]:
        """Yield batches until every partition was read to the end it had when this was called."""
        ends = await self.ends()
        left = {tp for tp in self._consumer.assignment() if ends[tp.topic, tp.partition] > 0}
        while left:
            records = await self.poll()
            if records:
                yield records
            positions = {tp: await self._consumer.position(tp) for tp in left}
            left = {tp for tp, position in positions.items() if position < ends[tp.topic, tp.partition]}


async def read_ends(bootstrap: str, topics: Sequence[str]) -> dict[Partition, int]:
    """Return the offset after the last record of each partition of `topics`, now. Raises Unavailable."""
    async with LogReader(bootstrap, topics) as reader:
        await reader.start()
        return await reader.ends()
