"""Topics come back as they were: every record at its offset and under its time, with nothing between that counts."""

from collections.abc import Sequence
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from mainstem.bus.reader import LogReader
from mainstem.bus.restoring import Restoring
from mainstem.events.errors import Rejected
from mainstem.events.fence import Fence
from mainstem.events.frames import Entry
from mainstem.events.record import Record
from mainstem.events.topics import ConcreteTopic
from mainstem.testkit.bus_contract import APPEND_TIME

pytestmark = pytest.mark.real

#: Long before the retention of any topic.
THEN_MS = 1_367_366_400_000


@pytest.fixture
def topic() -> ConcreteTopic:
    return ConcreteTopic(f"restored.{uuid4().hex}", 2, APPEND_TIME)


def entry(topic: ConcreteTopic, offset: int, part: int = 0, value: bytes | None = None) -> Entry:
    headers = (("ce_origin", f"writer/{offset}".encode()), ("empty", None))
    return Entry(topic.name, part, offset, THEN_MS + offset, b"key", value or b"%d" % offset, headers)


async def restored(kafka: str, topic: ConcreteTopic, *batches: Sequence[Entry]) -> None:
    async with Restoring(kafka) as restoring:
        await restoring.create([topic])
        for batch in batches:
            await restoring.write(batch)
        await restoring.finish()


async def read(kafka: str, topic: ConcreteTopic) -> list[Record]:
    async with LogReader(kafka, [topic.name]) as reader:
        await reader.start()
        return [record async for records in reader.to_end() for record in records]


async def test_records_stand_where_they_stood_under_the_time_that_they_had(kafka: str, topic: ConcreteTopic) -> None:
    first = [entry(topic, offset) for offset in range(500)]
    second = [entry(topic, 0, 1, bytes(300_000)), entry(topic, 1, 1, bytes(400_000)), entry(topic, 500)]
    await restored(kafka, topic, first, second)
    found = {(record.partition, record.offset): record for record in await read(kafka, topic)}
    assert len(found) == 503
    for sent in (*first, *second):
        record = found[sent.partition, sent.offset]
        given = (record.timestamp, record.key, record.value, tuple(record.headers))
        assert given == (sent.timestamp, sent.key, sent.value, sent.headers)


async def test_a_gap_is_filled_by_what_every_reader_drops(kafka: str, topic: ConcreteTopic) -> None:
    sent = [entry(topic, offset) for offset in (0, 1, 5, 6, 20)]
    await restored(kafka, topic, sent[:3], sent[3:])
    records = await read(kafka, topic)
    assert [record.offset for record in records] == list(range(21))
    assert [record.offset for record in Fence().admit(records)[0]] == [0, 1, 5, 6, 20]


async def test_what_was_gone_before_the_first_record_is_gone_again(kafka: str, topic: ConcreteTopic) -> None:
    await restored(kafka, topic, [entry(topic, 7), entry(topic, 8)])
    async with AIOKafkaConsumer(bootstrap_servers=kafka) as consumer:
        places = [TopicPartition(topic.name, part) for part in (0, 1)]
        assert await consumer.beginning_offsets(places) == dict(zip(places, (7, 0), strict=True))
        assert await consumer.end_offsets(places) == dict(zip(places, (9, 0), strict=True))


async def test_offsets_that_were_given_away_are_not_given_again(kafka: str, topic: ConcreteTopic) -> None:
    async with Restoring(kafka) as restoring:
        await restoring.create([topic])
        await restoring.write([entry(topic, 0)])
        await restoring.pad((topic.name, 0), 4)
        await restoring.pad((topic.name, 0), 2)
        await restoring.pad((topic.name, 1), 3)
        await restoring.finish()
    async with AIOKafkaConsumer(bootstrap_servers=kafka) as consumer:
        places = [TopicPartition(topic.name, part) for part in (0, 1)]
        assert await consumer.end_offsets(places) == dict(zip(places, (4, 3), strict=True))


async def test_records_are_not_mixed_with_others(kafka: str, topic: ConcreteTopic) -> None:
    await restored(kafka, topic, [entry(topic, 0)])
    with pytest.raises(Rejected, match="exists with message"):
        await restored(kafka, topic, [entry(topic, 0)])


async def test_what_no_crash_leaves_is_not_filled(kafka: str, topic: ConcreteTopic) -> None:
    async with Restoring(kafka) as restoring:
        await restoring.create([topic])
        await restoring.write([entry(topic, 0)])
        for offset in (0, 5_000_000):
            with pytest.raises(Rejected, match=f"goes on at offset {offset}, 1 is due"):
                await restoring.write([entry(topic, offset)])
