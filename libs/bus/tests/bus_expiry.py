"""Records that go from the log: the broker lets them go when they have stood there for long enough, or people do."""

import asyncio
from collections.abc import Mapping

from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition

from mainstem.bus import Partition


async def expire(kafka: str, ends: Mapping[Partition, int]) -> None:
    """Drop from partitions all that stands before an offset."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    try:
        await admin.start()
        await admin.delete_records({TopicPartition(*place): RecordsToDelete(end) for place, end in ends.items()})
    finally:
        await admin.close()


async def delete(kafka: str, topic: str) -> None:
    """Delete a topic, and return when the broker knows it no more."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    try:
        await admin.start()
        await admin.delete_topics([topic])
        async with asyncio.timeout(15):
            while topic in await admin.list_topics():  # noqa: ASYNC110  # the broker knows
                await asyncio.sleep(0.05)
    finally:
        await admin.close()
