"""Consuming and validating one source's records, against a bare `getmany` over the same records."""

from aiokafka import AIOKafkaConsumer, TopicPartition
from tests.bench.clock import RUNS, Figure, Stopwatch
from tests.bench.stage import SPINE, Stage

from mainstem.bus.reader import LogReader
from mainstem.events.fence import Fence
from mainstem.ingestion.domain import PartitionState
from mainstem.ingestion.engine import Judge

_TOPIC = f"src.{SPINE}"


async def consume(stage: Stage) -> Figure:
    """Read the topic with a bare consumer and with ours up to the verdict, in turn."""
    ends = await stage.ends([_TOPIC])
    count = sum(ends.values())
    figure = Figure("consume + validate", "a record, up to the accepted event", "Kafka", note=f"{count:,} records")
    for _ in range(RUNS):
        watch = Stopwatch()
        await _read_bare(stage.kafka, len(ends), count)
        bare, watch = watch.each(count), Stopwatch()
        await _read_and_judge(stage)
        figure.add(watch.each(count), {"bare getmany": bare})
    return figure


async def _read_bare(bootstrap: str, partitions: int, count: int) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False)
    await consumer.start()
    consumer.assign([TopicPartition(_TOPIC, number) for number in range(partitions)])
    seen = 0
    while seen < count:
        batches = await consumer.getmany(timeout_ms=200, max_records=2_000)
        seen += sum(map(len, batches.values()))
    await consumer.stop()


async def _read_and_judge(stage: Stage) -> None:
    judge, fence = Judge(stage.definition.sources[SPINE], stage.tracer), Fence()
    states: dict[int, PartitionState] = {}
    async with LogReader(stage.kafka, [_TOPIC]) as reader:
        await reader.start()
        async for records in reader.to_end():
            fresh, headers = fence.admit(records)
            for part in {record.partition for record in fresh}:
                rows = [i for i, record in enumerate(fresh) if record.partition == part]
                state = states.setdefault(part, PartitionState.load(judge.contract.unique_within, None))
                judge.judge([fresh[i] for i in rows], [headers[i] for i in rows], state)
