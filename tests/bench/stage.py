"""A real Kafka and a real PostgreSQL, the flights of some weeks on their way, and services that take them in turn."""

import os
from asyncio import Event
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from projects.flights.data import DAY_US, honest_events
from projects.flights.demo.player import Player
from tests.bench.clock import OTHERS, OWN, Figure, Spent, Stopwatch

from mainstem.bus.kafka import KafkaBus
from mainstem.bus.port import OnBatch, Partition
from mainstem.bus.reader import LogReader
from mainstem.cli.local.platform import Platform
from mainstem.direct import collect_seldom
from mainstem.events.instants import parse
from mainstem.events.record import Record
from mainstem.events.topics import fixed
from mainstem.project import ProjectDefinition, load_folder
from mainstem.registry.handlers import implied_topics
from mainstem.serving.handlers import forever
from mainstem.storage import Artifacts, Database, open_database
from mainstem.telemetry import Tracer
from mainstem.testkit.waiting import running

CHECKOUT = Path(__file__).parents[2]
START_US = parse("2013-01-01T00:00:00Z")
#: Days that are learnt from, and days of each run after them.
FIRST_DAYS, RUN_DAYS = 30, 10
MODEL, FEATURES, LABELS, SPINE = "arrival_delay", "flight_delay", "flight_arrived", "flight_departed"
ON_SERVERS = "Kafka, PostgreSQL"


@dataclass(frozen=True, slots=True)
class Turn:
    """A service whose turn it is: what it reads, what it does with a batch, and how it saves how far it is."""

    figure: Figure
    topics: Sequence[str]
    take: OnBatch
    save: Callable[[], Awaitable[None]]


@dataclass
class Stage:
    """The servers, what stands in the log, and how far each service has read."""

    definition: ProjectDefinition
    env: Mapping[str, str]
    bus: KafkaBus
    player: Player
    artifacts: Artifacts
    closing: AsyncExitStack
    tracer: Tracer = field(default_factory=lambda: Tracer("bench", None))
    played_us: int = START_US
    _read: dict[str, dict[Partition, int]] = field(default_factory=dict)

    @property
    def kafka(self) -> str:
        """Return the broker's address."""
        return self.env["MAINSTEM_KAFKA"]

    async def play(self, days: int) -> None:
        """Send what became known on the next days."""
        for _ in range(days):
            await self.player.play(self.played_us, self.played_us + DAY_US)
            self.played_us += DAY_US

    async def ends(self, topics: Sequence[str]) -> dict[Partition, int]:
        """Return the end of each partition."""
        async with LogReader(self.kafka, topics) as reader:
            await reader.start()
            return await reader.ends()

    async def database(self, service: str, package: str) -> Database:
        """Open the schema of a service."""
        database = await open_database(self.env["MAINSTEM_DATABASE_URL"], service, package)
        self.closing.push_async_callback(database.close)
        return database

    async def skip(self, turn: Turn) -> None:
        """Let a service begin at the present end."""
        self._read[turn.figure.service] = await self.ends(turn.topics)

    async def drain(self, turn: Turn) -> Spent:
        """Hand a service what it has not read of its topics, as its process would; return what a record took.

        It saves once a second and at the end, which counts; so does fetching, but for the first batch.
        """
        ends, read = await self.ends(turn.topics), self._read.setdefault(turn.figure.service, {})
        count = sum(end - read.get(place, 0) for place, end in ends.items())
        over, watches = Event(), list[Stopwatch]()

        async def on_batch(records: Sequence[Record]) -> None:
            watches.append(Stopwatch())
            await turn.take(records)
            read.update({(record.topic, record.partition): record.offset + 1 for record in records})
            if all(read.get(place, 0) >= end for place, end in ends.items()):
                over.set()

        async def positions() -> Mapping[Partition, int]:
            return dict(read)

        subscription = self.bus.subscribe(f"bench-{turn.figure.service}", turn.topics, positions)
        async with running(subscription.run(on_batch)) as reading, running(forever(1.0, turn.save)):
            reading.add_done_callback(lambda _: over.set())
            await over.wait()
            await turn.save()
            return watches[0].each(count)


@asynccontextmanager
async def open_stage() -> AsyncIterator[Stage]:
    """Start the servers beside the core that is measured, and set the project's topics up."""
    definition = load_folder(CHECKOUT / "projects" / "flights")
    partitions = {name: contract.partitions for name, contract in definition.sources.items()}
    os.sched_setaffinity(0, OTHERS)
    async with AsyncExitStack() as closing:
        folder = Path(closing.enter_context(TemporaryDirectory()))
        platform = Platform(folder, fast=True, services=[], cache=CHECKOUT / ".mainstem" / "cache")
        env = (await closing.enter_async_context(platform)).env
        bus = await closing.enter_async_context(KafkaBus(env["MAINSTEM_KAFKA"], "bench"))
        os.sched_setaffinity(0, OWN)
        await bus.create([*fixed(), *implied_topics(definition)])
        player = Player(bus.publisher, honest_events(), partitions)
        # As a service does; what the source system holds here is no part of one.
        collect_seldom()
        yield Stage(definition, env, bus, player, Artifacts(Path(env["MAINSTEM_ARTIFACTS"])), closing)
