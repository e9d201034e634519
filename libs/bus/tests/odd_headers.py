"""Records whose headers have names that are no text, as a writer of any other language may send them."""

from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from typing_extensions import override

#: The name of the header, and what becomes of it.
NAME, TEXT = b"odd\xff\xfe", "odd\\xff\\xfe"


class OddName(str):
    """A name that is written as `NAME`."""

    __slots__ = ()

    @override
    def encode(self, *_: object) -> bytes:
        return NAME


def odd_batch(*values: bytes | None, codec: int = 0) -> bytes:
    """Return a batch of records, each with a header of an odd name and one without a value."""
    builder = _DefaultRecordBatchBuilderPy(2, codec, 0, -1, -1, -1, 1 << 20)
    for offset, value in enumerate(values):
        builder.append(offset, 1_000 + offset, b"odd", value, [(OddName(), b"held"), ("empty", None)])
    return bytes(builder.build())


async def send_odd(bootstrap: str, topic: str, partition: int, *values: bytes | None) -> int:
    """Write records with such headers as one batch and return the offset of the first."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        batch = producer.create_batch()
        for value in values:
            batch.append(timestamp=None, key=None, value=value)
        batch.close()
        batch._buffer = odd_batch(*values)
        acknowledged = await producer.send_batch(batch, topic, partition=partition)
        offset: int = (await acknowledged).offset
        return offset
