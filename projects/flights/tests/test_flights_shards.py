"""The year of flights has one SHA-256, from one worker and from shards, whichever workers crash."""

import hashlib
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from random import Random

from projects.flights.data import DAY_US, Events
from projects.flights.demo.player import Player
from services.features.tests.sharded_cluster import Cluster, Topics

from mainstem.events.features import RowComputed
from mainstem.events.fence import Fence
from mainstem.events.instants import parse
from mainstem.events.record import Record, header
from mainstem.features.handlers import Computing
from mainstem.features.ports import Partition
from mainstem.features.sharded.plan import Plan
from mainstem.fold.fold import Fold
from mainstem.ingestion.engine import Judge
from mainstem.ingestion.handlers import Intake
from mainstem.project import ProjectDefinition
from mainstem.telemetry import Tracer
from mainstem.testkit.records import Taken

FIRST_DAY_US, DAYS = parse("2012-12-31T00:00:00Z"), 366
TRACER = Tracer("test", None)
WORKERS = 3
CRASHES_A_DAY, CHECKPOINTS_A_DAY = 0.15, 0.5


class Rows:
    """The payloads of rows as a reader behind a fence sees them, in order."""

    def __init__(self) -> None:
        self.count = 0
        self._fence = Fence()
        self._digests = defaultdict[Partition, "hashlib._Hash"](hashlib.sha256)

    def take(self, records: Sequence[Record]) -> None:
        for record in self._fence.admit(records)[0]:
            if header(record, "ce_type") == RowComputed.TYPE.encode():
                self.count += 1
                self._digests[record.topic, record.partition].update(record.value or b"")

    def digests(self) -> dict[Partition, str]:
        return {place: digest.hexdigest() for place, digest in self._digests.items()}


class Alone:
    """One worker."""

    def __init__(self, project: ProjectDefinition) -> None:
        self.rows, self._out = Rows(), Topics()
        compiled = project.feature_sets["flight_delay"].compiled
        self._computing = Computing(Fold(compiled, project.sources), project.sources[compiled.spine].partitions, TRACER)

    async def take(self, records: Sequence[Taken]) -> None:
        await self._computing.on_records(records, lag={}, publisher=self._out)
        self.rows.take(self._out.drain())


class Shared:
    """Workers that share the set out; now and then one stores where it stands, and now and then one crashes."""

    def __init__(self, project: ProjectDefinition, shards: int) -> None:
        self.rows, self.crashes = Rows(), 0
        self._random, self._topics = Random(shards), Topics()
        plan = Plan(project.feature_sets["flight_delay"].compiled, project.sources, shards)
        self._cluster = Cluster(plan, WORKERS, self._topics)

    async def begin(self) -> None:
        await self._cluster.share_out(0)

    async def take(self, records: Sequence[Taken]) -> None:
        self._topics.append(records)
        if self._random.random() < CRASHES_A_DAY:
            await self._crash()
        await self._cluster.catch_up(2_000)
        for number in range(WORKERS):
            if self._random.random() < CHECKPOINTS_A_DAY:
                await self._cluster.checkpoint(number)
        self.rows.take(self._topics.drain(self._topics.published()))
        self._forget()

    async def _crash(self) -> None:
        """Let some read a little of the day, and one of them crash."""
        for _ in range(self._random.randrange(12)):
            stage = self._random.choice(self._cluster.stages)
            await self._cluster.poll(stage, self._random.choice(self._cluster.partitions(stage)), 500)
        await self._cluster.crash(self._random.randrange(WORKERS), self._random.randrange(WORKERS))
        self.crashes += 1

    def _forget(self) -> None:
        """Let go of what nobody reads again."""
        topics = {stage.name: stage.topic for stage in self._cluster.stages}
        for (name, part), (stored, _) in self._cluster.store.states.items():
            self._topics.forget((topics[name], part), stored.next_offset)


async def days(honest: dict[str, Events], project: ProjectDefinition) -> AsyncIterator[list[Taken]]:
    """Yield what ingestion accepts on each day of the year, of what the feature set reads."""
    sent, accepted = Topics(), Topics()
    streams = project.feature_sets["flight_delay"].compiled.streams
    intake = Intake({f"src.{name}": Judge(project.sources[name], TRACER) for name in streams}, Fence(), {})
    player = Player(sent, {name: honest[name] for name in streams}, dict.fromkeys(streams, 2))
    for day in range(DAYS):
        await player.play(FIRST_DAY_US + day * DAY_US, FIRST_DAY_US + (day + 1) * DAY_US)
        await intake.on_records(sent.drain(), publisher=accepted)
        yield [record for record in accepted.drain() if record.topic != "evt.data.quarantine"]


async def test_the_year_has_the_same_bytes_from_two_and_from_four_shards_whose_workers_crash(
    honest: dict[str, Events], project: ProjectDefinition
) -> None:
    alone, shared = Alone(project), [Shared(project, shards) for shards in (2, 4)]
    for each in shared:
        await each.begin()
    async for accepted in days(honest, project):
        for each in (alone, *shared):
            await each.take(accepted)
    assert alone.rows.count == 328_432
    assert [each.rows.digests() for each in shared] == [alone.rows.digests()] * 2
    assert min(each.crashes for each in shared) > 30
