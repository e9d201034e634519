"""Records that go from the log: the broker lets them go when they have stood there for long enough, or people do."""

import asyncio
from collections.abc import Mapping

from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.structs import TopicPartition

from mainstem.bus import Partition

_EXISTS = 36


async def expire(kafka: str, ends: Mapping[Partition, int]) -> None:
    """Drop from partitions all that stands before an offset."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    try:
        await admin.start()
        await admin.delete_records({TopicPartition(*place): RecordsToDelete(end) for place, end in ends.items()})
    finally:
        await admin.close()


async def make_anew(kafka: str, topic: str) -> None:
    """Delete a topic and create it under the same name, with as many partitions and the same settings."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    try:
        await admin.start()
        (found,) = await admin.describe_topics([topic])
        await admin.delete_topics([topic])
        anew = NewTopic(topic, len(found["partitions"]), 1, topic_configs={"message.timestamp.type": "LogAppendTime"})
        async with asyncio.timeout(15):
            while (await admin.create_topics([anew])).topic_errors[0][1] == _EXISTS:  # noqa: ASYNC110  # the broker
                await asyncio.sleep(0.05)
    finally:
        await admin.close()
