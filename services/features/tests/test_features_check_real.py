"""The check on the real broker and database: what the fold publishes agrees, and a forged row is found."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest

from mainstem.events.catalogue import decode, encode
from mainstem.events.data import ProgressReached, RecordAccepted
from mainstem.events.envelope import Envelope, Event, Message
from mainstem.events.fact import Fact
from mainstem.events.features import RowComputed, VectorsChecked
from mainstem.events.instants import render
from mainstem.events.topics import member
from mainstem.features.check import check_rows
from mainstem.features.handlers import Computing
from mainstem.features.settings import Settings
from mainstem.features.store import PostgresStore, apply_records
from mainstem.fold.fold import Fold
from mainstem.project import ProjectDefinition
from mainstem.runtime import Resources, open_resources
from mainstem.testkit.bus_contract import Reader
from mainstem.testkit.clock import HOUR, MAY, MINUTE
from mainstem.testkit.databases import opened, tables
from mainstem.testkit.projects import storms
from mainstem.testkit.records import Log
from mainstem.testkit.waiting import running, until

pytestmark = pytest.mark.real

CHECKS = "evt.feature.check"
READINGS = 250


@pytest.fixture
async def resources(kafka: str, database_url: str, tmp_path: Path) -> AsyncIterator[Resources]:
    # Instances may have any name.
    settings = Settings(kafka=kafka, database_url=database_url, artifacts=tmp_path, http_port=0, instance="features-0")
    # A name of its own: consumer groups outlive the test.
    async with open_resources(f"trial_{uuid4().hex}", "mainstem.features", settings) as resources:
        yield resources


@pytest.fixture
async def others(resources: Resources) -> AsyncIterator[Resources]:
    """Return the resources of another process of the service."""
    settings = resources.settings.model_copy(update={"instance": "features-1"})
    async with open_resources(resources.name, "mainstem.features", settings) as others:
        yield others


@dataclass
class Weather:
    """A project with topics of its own, and the parts of the service that fold it."""

    resources: Resources
    definition: ProjectDefinition = field(
        default_factory=lambda: storms(mark=f"t{uuid4().hex[:8]}_", mean_over="1h", replay=True)
    )
    log: Log = field(default_factory=Log)
    hours: int = 0
    ends: list[int] = field(default_factory=lambda: [0, 0])

    def __post_init__(self) -> None:
        ((self.label, self.feature_set),) = self.definition.feature_sets.items()
        self.source = self.feature_set.compiled.spine
        fold = Fold(self.feature_set.compiled, self.definition.sources)
        self.computing = Computing(fold, 2, self.resources.tracer)

    async def create(self) -> None:
        """Create the topics that the registry would create."""
        families = [("evt.data.{source}", self.source), (RowComputed.TOPIC, self.label)]
        await self.resources.bus.create([member(family, name, 2) for family, name in families])

    async def hour(self, *, forged: bool = False) -> None:
        """Say an hour of readings and fold them; a forged row for the first of them may be there before its own."""
        start, publisher = MAY + self.hours * HOUR, self.resources.bus.publisher
        said = [self._reading(start, number) for number in range(READINGS)]
        until_us = start + HOUR - 1
        marks = [self._message(ProgressReached(until=render(until_us)), "m", until_us, part) for part in range(2)]
        taken = self.log.append([*said, *marks])
        await publisher.publish([*said, *marks])
        if forged:
            await publisher.publish([self._row(said[0])])
        await self.computing.on_records(taken, lag={}, publisher=publisher)
        self.hours += 1

    def _reading(self, start: int, number: int) -> Message:
        record = {"sensor": f"s{number % 3}", "wind": float(number % 40)}
        fact = RecordAccepted(source=self.source, contract="c", record=record)
        return self._message(fact, f"{self.label}-{start}-{number}", start + number * MINUTE // 5, number % 2)

    def _message(self, fact: Fact, name: str, at_us: int, part: int) -> Message:
        origin = f"src.{self.source}/{part}/{self.ends[part]}"
        self.ends[part] += 1
        envelope = Envelope(name, fact.TYPE, "/test", "s", at_us, at_us, "story", "cause", "/test", origin=origin)
        message = encode(Event(envelope, fact))
        value = fact.model_dump_json(exclude={"replaces"}).encode()
        return Message(f"evt.data.{self.source}", b"s", value, message.headers, part)

    def _row(self, reading: Message) -> Message:
        """Return a row of a reading that says something else."""
        headers = dict(reading.headers)
        fact = RowComputed(
            feature_set=self.label,
            definition=self.feature_set.id,
            entity="s",
            spine_id=headers["ce_id"].decode(),
            values=[1_000.0, None],
        )
        origin = f"features@{self.feature_set.id[7:19]}/{headers['ce_origin'].decode()}".encode()
        typed = {**headers, "ce_type": RowComputed.TYPE.encode(), "ce_origin": origin}
        return Message(fact.topic, b"s", fact.model_dump_json().encode(), tuple(typed.items()), reading.partition)


@pytest.fixture
async def weather(resources: Resources) -> Weather:
    weather = Weather(resources)
    await weather.create()
    return weather


def checks(records: Sequence[object], weather: Weather) -> list[VectorsChecked]:
    facts = [decode(record).fact for record in records]  # type: ignore[arg-type]
    return [f for f in facts if isinstance(f, VectorsChecked) and f.definition == weather.feature_set.id]


async def test_what_the_fold_publishes_agrees_and_a_forged_row_is_found_after_a_restart(
    resources: Resources, weather: Weather, database_url: str
) -> None:
    store, reader = PostgresStore(resources.database), Reader()
    listening = resources.bus.subscribe(f"listening-{weather.label}", [CHECKS], reader.positions)
    async with running(resources.relay()), running(listening.run(reader.on_batch)):
        async with running(check_rows(resources, store, weather.definition, weather.label, 1.0)):
            await weather.hour()
            await until(lambda: checks(reader.records, weather))
        await weather.hour(forged=True)
        async with running(check_rows(resources, store, weather.definition, weather.label, 1.0)):
            await until(lambda: len(checks(reader.records, weather)) == 2)
    first, second = checks(reader.records, weather)
    assert (first.number, first.rows, first.cells, first.differing) == (0, READINGS, 2 * READINGS, 0)
    assert (second.number, second.rows, second.differing) == (1, READINGS, 2)
    found = second.first_difference
    assert found is not None
    assert (found.spine_id, found.feature) == (f"{weather.label}-{MAY + HOUR}-0", "wind")
    assert (found.served, found.recomputed) == (1_000.0, 0.0)
    assert [(one.topic, one.value) for one in found.records] == [(f"src.{weather.source}", 0.0)]
    told = [record for record in reader.records if checks([record], weather)]
    async with opened(database_url, "replayed", "mainstem.features") as replayed:
        async with replayed.transaction() as tx:
            await apply_records(tx, [*told, *told])
        assert await tables(replayed, ["vector_check"]) == await tables(resources.database, ["vector_check"])


async def test_of_several_processes_one_checks_and_another_goes_on_when_it_is_gone(
    resources: Resources, others: Resources, weather: Weather, caplog: pytest.LogCaptureFixture
) -> None:
    reader = Reader()
    listening = resources.bus.subscribe(f"listening-{weather.label}", [CHECKS], reader.positions)
    async with (
        running(resources.relay()),
        running(listening.run(reader.on_batch)),
        AsyncExitStack() as first,
    ):
        caplog.set_level("INFO")
        await first.enter_async_context(running(check_all(resources, weather)))
        await weather.hour()
        await until(lambda: checks(reader.records, weather))
        async with running(check_all(others, weather)):
            await weather.hour()
            await until(lambda: len(checks(reader.records, weather)) == 2)
            await until(lambda: "instance features-0, another process" in caplog.text)
            await first.aclose()
            await weather.hour()
            await until(lambda: len(checks(reader.records, weather)) == 3, within_s=60)
    told = checks(reader.records, weather)
    assert [(fact.number, fact.rows, fact.differing) for fact in told] == [(n, READINGS, 0) for n in range(3)]
    turns = [message for message in caplog.messages if "is checked by" in message]
    assert turns == [
        f"{weather.label} is checked by instance {words}"
        for words in ("features-0, this process", "features-0, another process", "features-1, this process")
    ]


async def check_all(resources: Resources, weather: Weather) -> None:
    await check_rows(resources, PostgresStore(resources.database), weather.definition, weather.label, 1.0)
