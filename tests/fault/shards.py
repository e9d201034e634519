"""Two weeks of real flights, folded by processes that share a feature set out among themselves."""

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import LiteralString

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError
from libs.bus.tests.bus_expiry import expire
from projects.flights.data import DAY_US, Events
from projects.flights.demo.player import Player
from tests.fault.scenario import CHECKOUT, FIRST_DAY_US

from mainstem.bus.kafka import KafkaBus
from mainstem.bus.reader import LogReader, read_ends
from mainstem.cli.local.platform import Platform
from mainstem.cli.local.ports import Reservation, anywhere
from mainstem.cli.local.process import leashed
from mainstem.events.catalogue import encode
from mainstem.events.envelope import Message
from mainstem.events.features import RowComputed
from mainstem.events.fence import Fence
from mainstem.events.record import Record, header
from mainstem.events.topics import fixed
from mainstem.features.handlers import Computing
from mainstem.features.ports import RowTally
from mainstem.features.sharded.plan import Plan
from mainstem.features.sharded.stages import stages
from mainstem.fold.fold import Fold
from mainstem.ingestion.engine import Judge
from mainstem.ingestion.handlers import Intake
from mainstem.project import ProjectDefinition, load_folder
from mainstem.registry.handlers import implied_topics
from mainstem.runtime import steadily
from mainstem.telemetry import Tracer
from mainstem.testkit.projects import applied
from mainstem.testkit.records import Log

DAYS = 14
LABEL = "flight_delay"
ROWS, JOURNAL = RowComputed.topic_of(LABEL), "evt.feature.journal"
#: The columns of the table of the journal.
ENTRY = ("definition", "feature_set", "number", "until", "applied", "topics", "runs")
MOST = 4
PATIENCE_S = 60
TRACER = Tracer("test", None)

Partition = tuple[str, int]
#: A published record: key, payload and headers; a traced one has a span of its own each time.
Line = tuple[bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]
Lines = dict[Partition, list[Line]]


@dataclass(frozen=True)
class Story:
    """What ingestion accepted on each day, and what one worker in memory makes of it."""

    definition: ProjectDefinition
    days: Sequence[Sequence[Record]]
    #: What is published, by partition, and how much of it after each day.
    lines: Lines = field(repr=False)
    after: Sequence[Mapping[Partition, int]]

    def tallies(self, day: int = DAYS - 1) -> dict[int, tuple[int, int]]:
        """Return rows and fingerprint by partition, as the table has them after a day."""
        found = {0: RowTally(), 1: RowTally()}
        for part, tally in found.items():
            for _, value, headers in self.lines[ROWS, part][: self.after[day][ROWS, part]]:
                if dict(headers)["ce_type"] == RowComputed.TYPE.encode():
                    tally.count(value or b"")
        return {part: (tally.rows, tally.fingerprint) for part, tally in found.items()}

    def journal(self) -> list[dict[str, object]]:
        """Return the entries, as the table has them."""
        entries = [json.loads(value or b"") for _, value, _ in self.lines[JOURNAL, 0]]
        return [{column: entry[column] for column in ENTRY} for entry in entries]


async def tell(events: Mapping[str, Events]) -> Story:
    """Let ingestion judge two weeks in memory, and one worker compute over what it accepts."""
    definition = load_folder(CHECKOUT / "projects" / "flights")
    sent, accepted = Log(), Log()
    intake = Intake({f"src.{name}": Judge(of, TRACER) for name, of in definition.sources.items()}, Fence(), {})
    player = Player(sent, events, dict.fromkeys(events, 2))
    days = []
    for day in range(DAYS):
        told = len(sent.records), len(accepted.records)
        await player.play(FIRST_DAY_US + day * DAY_US, FIRST_DAY_US + (day + 1) * DAY_US)
        await intake.on_records(sent.records[told[0] :], publisher=accepted)
        days.append([record for record in accepted.records[told[1] :] if record.topic != "evt.data.quarantine"])
    lines, after = await computed(definition, LABEL, days)
    return Story(definition, days, lines, after)


async def computed(
    definition: ProjectDefinition, label: str, days: Sequence[Sequence[Record]]
) -> tuple[Lines, list[Counter[Partition]]]:
    """Return what one worker publishes, and how much of it after each day."""
    fold, rows, after = Fold(definition.feature_sets[label].compiled, definition.sources), Log(), []
    computing = Computing(fold, 2, TRACER)
    for day in days:
        theirs = [record for record in day if record.topic in fold.topics]
        await computing.on_records(theirs, lag={}, publisher=rows)
        after.append(Counter((record.topic, record.partition) for record in rows.records))
    return by_partition(rows.records), after


def by_partition(records: Iterable[Record]) -> Lines:
    """Return records by partition, as far as two runs can agree on them."""
    lines: Lines = {}
    for r in records:
        headers = tuple(header for header in r.headers if header[0] != "traceparent")
        lines.setdefault((r.topic, r.partition), []).append((r.key, r.value, headers))
    return lines


def is_of(record: Record, definition: str) -> bool:
    """Tell whether a row or a marker is of a definition."""
    return definition.encode() in (record.value or b"") or f"@{definition[7:19]}#".encode() in (
        header(record, "ce_origin") or b""
    )


class Workers:
    """Processes of the feature service, each with a number of its own below `MOST`."""

    def __init__(self, env: Mapping[str, str], folder: Path, shards: int) -> None:
        self._env = {**os.environ, **env, "MAINSTEM_FEATURES_SHARDS": str(shards), "MAINSTEM_FEATURES_CHECK": "0"}
        self._folder = folder
        self._ports = Reservation(anywhere([f"{number}" for number in range(MOST)]))
        self._running: dict[int, asyncio.subprocess.Process] = {}

    @property
    def numbers(self) -> list[int]:
        """Return which run."""
        return sorted(self._running)

    async def start(self, *numbers: int) -> None:
        """Start processes that do not run."""
        argv = leashed((sys.executable, "-m", "mainstem.features.app"))
        for number in numbers:
            port = self._ports[f"{number}"]
            env = {**self._env, "MAINSTEM_INSTANCE": f"{number}", "MAINSTEM_HTTP_PORT": f"{port}"}
            with self._log(number).open("ab") as log:
                self._running[number] = await asyncio.create_subprocess_exec(
                    *argv, env=env, stdout=log, stderr=log, cwd=CHECKOUT
                )

    def signal(self, number: int, what: signal.Signals) -> None:
        """Send a signal to a process."""
        self._running[number].send_signal(what)

    async def kill(self, number: int) -> None:
        """End a process at once."""
        self.signal(number, signal.SIGKILL)
        await self._running.pop(number).wait()

    async def stop(self) -> list[int]:
        """Ask all that run to end, and return how they did."""
        for number in self.numbers:
            self.signal(number, signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            return [await self._running.pop(number).wait() for number in self.numbers]

    async def close(self) -> None:
        """End all that still run."""
        for number in self.numbers:
            with suppress(ProcessLookupError):
                await self.kill(number)
        self._ports.close()

    def said(self, number: int) -> str:
        """Return what a process has logged."""
        return self._log(number).read_text()

    def _log(self, number: int) -> Path:
        return self._folder / f"features-{number}.log"


@dataclass
class Run:
    """Workers on servers of their own, the log that they read, and what they have published."""

    story: Story
    plan: Plan
    env: Mapping[str, str]
    bus: KafkaBus
    admin: AIOKafkaAdminClient
    reader: LogReader
    workers: Workers
    lines: Lines = field(default_factory=dict)
    _fence: Fence = field(default_factory=Fence)
    _published: Counter[Line] = field(default_factory=Counter)

    @property
    def kafka(self) -> str:
        """Return the broker's address."""
        return self.env["MAINSTEM_KAFKA"]

    async def apply(self, definition: ProjectDefinition) -> None:
        """Bring a definition into force, as the registry does."""
        await self.bus.create(implied_topics(definition))
        await self.bus.publisher.publish([encode(applied(definition, definition.id))])

    async def shared(self) -> None:
        """Return when all processes that run are members of all groups, and the partitions are given out."""
        groups = [f"features-{stage.name}" for stage in stages(self.plan, TRACER)]
        wanted = dict.fromkeys(groups, ("Stable", len(self.workers.numbers)))
        async with asyncio.timeout(PATIENCE_S):
            while await self._members(groups) != wanted:  # noqa: ASYNC110  # the condition is in the broker
                await asyncio.sleep(0.1)

    async def _members(self, groups: Sequence[str]) -> dict[str, tuple[str, int]]:
        """Return the state of each group, and how many members it has; nothing while there is no place for groups."""
        found = {}
        try:
            for name in groups:  # of an answer about several groups the client can read the first alone
                (answer,) = await self.admin.describe_consumer_groups([name])
                ((_, _, state, _, _, members, *_),) = answer.groups
                found[name] = (state, len(members))
        except GroupCoordinatorNotAvailableError:
            return {}
        return found

    async def play(self, *days: int) -> None:
        """Publish what was accepted on some days."""
        for day in days:
            records = self.story.days[day]
            messages = [Message(r.topic, r.key, r.value, tuple(r.headers), r.partition) for r in records]
            await self.bus.publisher.publish(messages)

    async def published(self, day: int) -> None:
        """Return when all that follows from the days up to `day` stands behind the fence."""
        async with asyncio.timeout(PATIENCE_S):
            while any(len(self.lines.get(place, ())) < n for place, n in self.story.after[day].items()):
                await self._look()

    def copies(self, day: int) -> Counter[Line]:
        """Return how often each line of the days up to `day` was published."""
        first = [line for place, n in self.story.after[day].items() for line in self.story.lines[place][:n]]
        return Counter({line: self._published[line] for line in first})

    async def begun(self) -> None:
        """Return when more is published than was known."""
        known = sum(map(len, self.lines.values()))
        async with asyncio.timeout(PATIENCE_S):
            while sum(map(len, self.lines.values())) == known:
                await self._look()

    async def _look(self) -> None:
        polled = [r for r in await self.reader.poll() if r.topic == ROWS or r.key == LABEL.encode()]
        self._published.update(chain.from_iterable(by_partition(polled).values()))
        fresh, _ = self._fence.admit(polled)
        for place, lines in by_partition(fresh).items():
            self.lines.setdefault(place, []).extend(lines)

    async def counted(self, day: int) -> None:
        """Return when the tables count every row of the days up to `day`."""
        wanted = self.story.tallies(day)
        async with asyncio.timeout(PATIENCE_S):
            while await self._tallies() != wanted:  # noqa: ASYNC110  # the database
                await asyncio.sleep(0.1)

    async def stored(self) -> None:
        """Return when the tables tell what was published."""
        wanted = self.story.tallies(), self.story.journal()
        async with asyncio.timeout(PATIENCE_S):
            while (await self._tallies(), await self._journal()) != wanted:  # noqa: ASYNC110  # the database
                await asyncio.sleep(0.1)

    async def stored_since(self, before: Mapping[Partition, int]) -> None:
        """Return when every stage has stored another state of every partition than it had before."""
        partitions = {
            topic.name: topic.partitions for topic in (*self.plan.topics, *implied_topics(self.story.definition))
        }
        count = sum(partitions[stage.topic] for stage in stages(self.plan, TRACER))
        async with asyncio.timeout(PATIENCE_S):
            while len((await self.versions()).items() - before.items()) < count:  # noqa: ASYNC110  # the database
                await asyncio.sleep(0.1)

    async def settled(self) -> None:
        """Return when every stage has stored that nothing in its topics is left to do."""
        topics = {stage.name: stage.topic for stage in stages(self.plan, TRACER)}
        ends = await read_ends(self.kafka, list(topics.values()))
        wanted = {
            (name, part): end for name, of in topics.items() for (topic, part), end in ends.items() if topic == of
        }
        async with asyncio.timeout(PATIENCE_S):
            while (await self._stored("next")).items() & wanted.items() != wanted.items():  # noqa: ASYNC110  # as above
                await asyncio.sleep(0.1)

    async def versions(self) -> dict[Partition, int]:
        """Return the version of each state by stage and partition."""
        return await self._stored("version")

    async def _stored(self, column: str) -> dict[Partition, int]:
        rows = await self._fetch("select name, part, version, next from features.shard")
        return {(row["name"], row["part"]): row[column] for row in rows}

    async def lines_of(self, label: str, definition: str, count: int) -> Lines:
        """Return the first so many lines of one definition of a set, as soon as they stand behind a fence."""
        fence, lines = Fence(), Lines()
        async with asyncio.timeout(PATIENCE_S), LogReader(self.kafka, [RowComputed.topic_of(label)]) as reader:
            await reader.start()
            while sum(map(len, lines.values())) < count:
                theirs = [record for record in await reader.poll() if is_of(record, definition)]
                for place, more in by_partition(fence.admit(theirs)[0]).items():
                    lines.setdefault(place, []).extend(more)
        return lines

    async def expire(self, topic: str) -> None:
        """Drop all that stands in a topic, as the broker does when it has stood there for long enough."""
        await expire(self.kafka, await read_ends(self.kafka, [topic]))

    async def _tallies(self) -> dict[int, tuple[int, int]]:
        rows = await self._fetch("select part, rows, fingerprint from features.row_tally")
        return {row["part"]: (row["rows"], row["fingerprint"]) for row in rows}

    async def _journal(self) -> list[dict[str, object]]:
        rows = await self._fetch("select to_jsonb(t)::text as entry from features.journal t order by number")
        return [json.loads(row["entry"]) for row in rows]

    async def _fetch(self, query: LiteralString) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.env["MAINSTEM_DATABASE_URL"])
        try:
            return await connection.fetch(query)
        finally:
            await connection.close()


@asynccontextmanager
async def running(story: Story, folder: Path, shards: int) -> AsyncIterator[Run]:
    """Give servers of their own, the project applied and its topics made, and no worker yet."""
    plan = Plan(story.definition.feature_sets[LABEL].compiled, story.definition.sources, shards)
    cache = CHECKOUT / ".mainstem" / "cache"
    async with Platform(folder, fast=True, services=[], cache=cache) as platform:
        kafka = platform.env["MAINSTEM_KAFKA"]
        async with KafkaBus(kafka, "test") as bus, LogReader(kafka, [ROWS, JOURNAL]) as reader:
            admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
            workers = Workers(platform.env, folder, shards)
            run = Run(story, plan, platform.env, bus, admin, reader, workers)
            try:
                await admin.start()
                await bus.create(fixed())
                await run.apply(story.definition)
                await steadily(reader.start)  # the broker may not know yet what it has just made
                yield run
            finally:
                await workers.close()
                await admin.close()
