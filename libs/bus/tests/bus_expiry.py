"""Records that go from the log, as the broker lets them go when they have stood there for long enough."""

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
