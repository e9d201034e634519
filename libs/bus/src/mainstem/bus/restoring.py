"""Topics put back as they were: every record at its offset, under the broker's time that it had (ADR 17)."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from types import TracebackType
from typing import Any, Final, Self

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, for_code

from mainstem.bus.admin import create_topics
from mainstem.bus.port import Partition
from mainstem.events.errors import Rejected, Unavailable
from mainstem.events.frames import Entry
from mainstem.events.record import Record
from mainstem.events.topics import LARGEST_SOURCE_MESSAGE, ConcreteTopic

_BATCH_BYTES: Final = 512 << 10
#: More offsets in a row that no record stands at were not left by a crash.
_WIDEST_GAP: Final = 1_000_000
#: While records are put back the broker takes their times, and forgets nothing.
_MEANWHILE: Final = {
    "message.timestamp.type": "CreateTime",
    "cleanup.policy": "delete",
    "retention.ms": "-1",
}


class Restoring:
    """Puts topics back into a broker that has none of them. Use `async with`, then `finish`."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._topics: list[ConcreteTopic] = []
        self._next: dict[Partition, int] = {}
        self._last: dict[Partition, Record] = {}
        self._begins: dict[Partition, int] = {}
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            client_id="mainstem-restore",
            acks="all",
            enable_idempotence=True,
            max_batch_size=_BATCH_BYTES,
            max_request_size=LARGEST_SOURCE_MESSAGE,
            compression_type="zstd",
        )

    async def __aenter__(self) -> Self:
        """Connect; raise Unavailable when the broker is away."""
        try:
            await self._producer.start()
        except KafkaError as fault:
            raise Unavailable(f"Kafka at {self._bootstrap} does not answer: {fault}") from fault
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        await self._producer.stop()

    async def create(self, topics: Sequence[ConcreteTopic]) -> None:
        """Make topics, for records to be put back into."""
        self._topics += topics
        meanwhile = [replace(topic, config={**topic.config, **_MEANWHILE}) for topic in topics]
        await create_topics(self._bootstrap, meanwhile)

    async def write(self, records: Sequence[Record]) -> None:
        """Put records back, each partition's in order; return when the broker has them.

        Raises Rejected when a record would come to stand elsewhere, or too many offsets before it are empty.
        """
        expected: list[tuple[Partition, int, Any]] = []
        try:
            for place, run in groupby(records, key=_place):
                for first, batch in self._batches(place, list(run)):
                    sent = await self._producer.send_batch(batch, place[0], partition=place[1])
                    expected.append((place, first, sent))
            for place, first, sent in expected:
                _check(place, first, (await sent).offset)
        except KafkaError as fault:
            raise Unavailable(f"Kafka at {self._bootstrap} did not take a record: {fault!r}") from fault

    async def pad(self, place: Partition, end: int) -> None:
        """Let a partition go on at `end` at the earliest: offsets before it were those of records that are gone."""
        last = self._last.get(place) or Entry(*place, 0, 0, None, None, ())
        if end > self._next.get(place, 0):
            again = Entry(*place, end - 1, last.timestamp, last.key, last.value, last.headers)
            await self.write([again])

    async def finish(self) -> None:
        """Delete what filled offsets before the first record of a partition, and give the topics their settings."""
        client = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
        try:
            await client.start()
            if self._begins:
                await client.delete_records(
                    {TopicPartition(*place): RecordsToDelete(first) for place, first in self._begins.items()}
                )
            wanted = [ConfigResource(ConfigResourceType.TOPIC, topic.name, topic.config) for topic in self._topics]
            answers = await client.alter_configs(wanted)
        except (KafkaError, OSError) as fault:
            raise Unavailable(f"Kafka at {self._bootstrap} did not finish: {fault!r}") from fault
        finally:
            await client.close()
        for code, message, _, name, *_ in (resource for answer in answers for resource in answer.resources):
            if code:
                raise Unavailable(f"Kafka does not give topic {name} its settings: {for_code(code).__name__} {message}")

    def _batches(self, place: Partition, run: Sequence[Record]) -> list[tuple[int, Any]]:
        """Return the batches that put a run of records back, each with the offset that it begins at."""
        first = self._next.get(place, 0)
        found = [(first, self._producer.create_batch())]
        for offset, record in self._filled(place, run):
            if not _added(found[-1][1], record):
                found.append((offset, self._producer.create_batch()))
                _added(found[-1][1], record)  # whatever its size: an empty batch takes any record
        return found

    def _filled(self, place: Partition, run: Sequence[Record]) -> list[tuple[int, Record]]:
        """Return what is to stand at each offset up to the last record of a run."""
        found: list[tuple[int, Record]] = []
        for record in run:
            due = self._next.get(place, 0)
            if not 0 <= record.offset - due <= _WIDEST_GAP:
                raise Rejected(f"{place[0]}/{place[1]} goes on at offset {record.offset}, {due} is due: cannot fill it")
            if record.offset > due and place not in self._last:
                self._begins[place] = record.offset
            filler = self._last.get(place) or Entry(*place, due, record.timestamp, None, None, ())
            found += [(offset, filler) for offset in range(due, record.offset)]
            found.append((record.offset, record))
            self._last[place], self._next[place] = record, record.offset + 1
        return found


def _added(batch: Any, record: Record) -> bool:
    found = batch.append(key=record.key, value=record.value, timestamp=record.timestamp, headers=list(record.headers))
    return found is not None


def _check(place: Partition, wanted: int, found: int) -> None:
    if found != wanted:
        raise Rejected(f"{place[0]}/{place[1]} was not empty: offset {wanted} was written at {found}; begin anew")


def _place(record: Record) -> Partition:
    return record.topic, record.partition
