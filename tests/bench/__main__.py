"""`make bench`: what an event costs, always beside a bare peer in the same run. Medians; the machine is noisy.

1. Consume and validate against a bare `getmany` over the same records on the same broker.
2. What each service's engine does alone on one core, on the records that the service before it made.
3. The share of each process in the last `make demo`, if there was one.
"""

import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Sequence
from pathlib import Path
from statistics import median
from zlib import crc32

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from projects.flights.data import DAY_US, honest_events
from projects.flights.demo.player import Player
from rich.console import Console
from rich.table import Table

from mainstem.bus.kafka import KafkaBus
from mainstem.bus.memory import MemoryRecord
from mainstem.bus.reader import LogReader
from mainstem.cli.local.platform import Platform
from mainstem.events.catalogue import Record
from mainstem.events.envelope import Message
from mainstem.events.fence import Fence
from mainstem.events.instants import parse
from mainstem.events.topics import member
from mainstem.features.engine import Fold
from mainstem.features.handlers import Computing
from mainstem.ingestion.domain import PartitionState
from mainstem.ingestion.engine import Judge
from mainstem.ledger import Frontier
from mainstem.ledger_service.domain import cut
from mainstem.project import ProjectDefinition, load_folder
from mainstem.telemetry import Tracer

CHECKOUT = Path(__file__).parents[2]
RUNS = 5
DAYS = 30
START_US = parse("2013-01-01T00:00:00Z")
SOURCE = "flight_departed"


async def main() -> None:
    """Run all benchmarks and print their tables."""
    console = Console()
    definition = load_folder(CHECKOUT / "projects" / "flights")
    messages = await _played(definition)
    with tempfile.TemporaryDirectory() as folder:
        async with Platform(Path(folder), fast=True, services=[], cache=CHECKOUT / ".mainstem" / "cache") as platform:
            console.print(await _consume_and_validate(platform.env["MAINSTEM_KAFKA"], definition, messages))
    console.print(await _engines(definition, messages))
    console.print(_year())


async def _played(definition: ProjectDefinition) -> list[Message]:
    """Return what the source systems send in a month."""
    taken: list[Message] = []

    class Taking:
        async def publish(self, messages: Sequence[Message]) -> None:
            taken.extend(messages)

    partitions = {name: contract.partitions for name, contract in definition.sources.items()}
    player = Player(Taking(), honest_events(), partitions)
    for day in range(DAYS):
        await player.play(START_US + day * DAY_US, START_US + (day + 1) * DAY_US)
    return taken


async def _consume_and_validate(bootstrap: str, definition: ProjectDefinition, messages: list[Message]) -> Table:
    """Read one source's topic with a bare consumer and with ours up to the verdict, in turn."""
    topic = f"src.{SOURCE}"
    wanted = [message for message in messages if message.topic == topic]
    async with KafkaBus(bootstrap, "bench") as bus:
        await bus.create([member("src.{source}", SOURCE, definition.sources[SOURCE].partitions)])
        await bus.publisher.publish(wanted)
    bare, ours = [], []
    for _ in range(RUNS):
        bare.append(await _cpu_us(lambda: _read_bare(bootstrap, topic, len(wanted)), len(wanted)))
        ours.append(await _cpu_us(_read_and_judge(bootstrap, topic, definition), len(wanted)))
    ratios = [b / a for a, b in zip(bare, ours, strict=True)]
    table = Table("", "µs CPU an event", "ratio", title=f"consume and validate, {len(wanted):,} events, {RUNS} runs")
    table.add_row("bare getmany", f"{median(bare):.1f}", "1")
    table.add_row("fence, decode, contract, ids, accepted event", f"{median(ours):.1f}", f"{median(ratios):.1f}")
    return table


async def _cpu_us(work: Awaitable[None], count: int) -> float:
    began = time.process_time()
    await work
    return (time.process_time() - began) / count * 1e6


async def _read_bare(bootstrap: str, topic: str, count: int) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False)
    await consumer.start()
    consumer.assign([TopicPartition(topic, number) for number in range(2)])
    seen = 0
    while seen < count:
        batches = await consumer.getmany(timeout_ms=200, max_records=2_000)
        seen += sum(map(len, batches.values()))
    await consumer.stop()


async def _read_and_judge(bootstrap: str, topic: str, definition: ProjectDefinition) -> None:
    judge, fence = Judge(definition.sources[SOURCE], Tracer("bench", None)), Fence()
    states = {part: PartitionState.load(judge.contract.unique_within, None) for part in range(2)}
    async with LogReader(bootstrap, [topic]) as reader:
        await reader.start()
        async for records in reader.to_end():
            fresh, headers = fence.admit(records)
            for part, state in states.items():
                rows = [i for i, record in enumerate(fresh) if record.partition == part]
                judge.judge([fresh[i] for i in rows], [headers[i] for i in rows], state)


async def _engines(definition: ProjectDefinition, messages: list[Message]) -> Table:
    """Run each engine alone over the month, in batches of 2,000."""
    costs: dict[str, list[float]] = {}
    for _ in range(RUNS):
        log = _Log()
        await log.publish(messages)
        accepted = _Log()
        sources = log.of("src.")
        costs.setdefault("ingestion", []).append(await _cpu_us(_ingest(definition, sources, accepted), len(sources)))
        (name, feature_set), *_ = definition.feature_sets.items()
        fold = Fold(feature_set.compiled, definition.sources)
        inputs = [record for record in accepted.of("evt.data.") if record.topic in fold.topics]
        rows = _Log()
        costs.setdefault("features", []).append(await _cpu_us(_compute(fold, inputs, rows), len(inputs)))
        everything = sources + accepted.of("") + rows.of("")
        costs.setdefault("ledger", []).append(await _cpu_us(_archive(everything), len(everything)))
    table = Table(
        "engine", "µs CPU a record", "records/s", title=f"each engine alone on one core, {DAYS} days, {RUNS} runs"
    )
    for name, figures in costs.items():
        table.add_row(name, f"{median(figures):.1f}", f"{1e6 / median(figures):,.0f}")
    return table


class _Log:
    """Topics in memory, in the order of publication."""

    def __init__(self) -> None:
        self._records: list[MemoryRecord] = []
        self._next: dict[tuple[str, int], int] = {}

    async def publish(self, messages: Sequence[Message]) -> None:
        for m in messages:
            part = crc32(m.key or b"") % 2 if m.partition is None else m.partition
            offset = self._next.get((m.topic, part), 0)
            self._next[m.topic, part] = offset + 1
            self._records.append(MemoryRecord(m.topic, part, offset, m.key, m.value, m.headers))

    def of(self, prefix: str) -> list[Record]:
        return [record for record in self._records if record.topic.startswith(prefix)]


async def _ingest(definition: ProjectDefinition, records: list[Record], out: _Log) -> None:
    judges = {f"src.{name}": Judge(contract, Tracer("bench", None)) for name, contract in definition.sources.items()}
    states: dict[tuple[str, int], PartitionState] = {}
    fence = Fence()
    for batch in _batches(records):
        fresh, headers = fence.admit(batch)
        for place in sorted({(r.topic, r.partition) for r in fresh}):
            rows = [i for i, r in enumerate(fresh) if (r.topic, r.partition) == place]
            state = states.setdefault(place, PartitionState.load(judges[place[0]].contract.unique_within, None))
            outcome = judges[place[0]].judge([fresh[i] for i in rows], [headers[i] for i in rows], state)
            await out.publish(outcome.messages)


async def _compute(fold: Fold, records: list[Record], out: _Log) -> None:
    computing = Computing(fold, 2, Tracer("bench", None))
    for batch in _batches(records):
        await computing.on_records(batch, lag={}, publisher=out)


async def _archive(records: list[Record]) -> None:
    frontier = Frontier()
    for batch in _batches(records):
        for block in cut(batch, [dict(record.headers).get("ce_id") for record in batch], frontier.size):
            frontier = frontier.append(block.hashes)


def _batches(records: list[Record]) -> list[list[Record]]:
    return [records[start : start + 2_000] for start in np.arange(0, len(records), 2_000).tolist()]


def _year() -> Table | str:
    """Return the share of each process in the last demo."""
    summary = CHECKOUT / ".mainstem" / "demo" / "summary.json"
    if not summary.exists():
        return "the year end to end: run `make demo` first"
    document = json.loads(summary.read_text())
    cpu = document.get("cpu_seconds", {})
    total = sum(cpu.values()) or 1
    table = Table(
        "process", "CPU s", "share", title=f"the year end to end: {document['seconds']['replay']} s of replay"
    )
    for name, seconds in sorted(cpu.items(), key=lambda item: -item[1]):
        table.add_row(name, f"{seconds:.0f}", f"{seconds / total:.0%}")
    return table


if __name__ == "__main__":
    asyncio.run(main())
