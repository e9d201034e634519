"""The year of honest events, read once for all tests; and its first days, played through the real engines in memory."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pytest
from projects.flights.damage import Damage, damaged_events
from projects.flights.data import DAY_US, Events, honest_events, read_flights
from projects.flights.demo.books import Sent
from projects.flights.demo.player import Player
from projects.flights.demo.reading import Log, Reading
from projects.flights.tests.year import Year, accepted

from mainstem.events.fence import Fence
from mainstem.events.instants import parse
from mainstem.features.handlers import Computing
from mainstem.fold.fold import Fold
from mainstem.ingestion.engine import Judge
from mainstem.ingestion.handlers import Intake
from mainstem.project import ProjectDefinition, load_folder
from mainstem.telemetry import Tracer
from mainstem.testkit.records import Log as Broker

START_US, DAYS = parse("2012-12-31T00:00:00Z"), 12
END_US = START_US + DAYS * DAY_US


@dataclass(frozen=True)
class World:
    """What was sent in some days, and what stands in the log after them; nothing was predicted."""

    sent: Sent
    log: Log


def early(events: Events) -> Events:
    """Return what became known before the end of the days."""
    n = int(np.searchsorted(events.arrival_us, END_US))
    times = events.event_time_us[:n], events.arrival_us[:n]
    return Events(events.source, events.ids[:n], events.keys[:n], *times, events.payloads[:n])


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "year: reads the year of flights, which takes some seconds")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark whoever asks for the year, at whatever distance."""
    for item in items:
        if {"honest", "flights"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("year")


@pytest.fixture(scope="session")
def flights() -> pd.DataFrame:
    return read_flights()


@pytest.fixture(scope="session")
def honest() -> dict[str, Events]:
    return honest_events()


@pytest.fixture(scope="session")
def project() -> ProjectDefinition:
    return load_folder(Path(__file__).parents[1])


@pytest.fixture(scope="session")
def year(honest: dict[str, Events], project: ProjectDefinition) -> Year:
    """The year as the feature set takes it."""
    compiled = project.feature_sets["flight_delay"].compiled
    return Year.of(compiled, {name: accepted(project, honest[name]) for name in compiled.streams})


@pytest.fixture(scope="session")
def damage(honest: dict[str, Events], project: ProjectDefinition) -> Damage:
    return damaged_events(honest, project.sources)


@pytest.fixture(scope="session")
async def world(honest: dict[str, Events], project: ProjectDefinition, damage: Damage) -> World:
    """Play day after day through intake and features; there is no broker and no database in between."""
    source, out = Broker(), Broker()
    tracer = Tracer("test", None)
    judges = {f"src.{name}": Judge(contract, tracer) for name, contract in project.sources.items()}
    intake = Intake(judges, Fence(), {})
    fold = Fold(project.feature_sets["flight_delay"].compiled, project.sources)
    computing = Computing(fold, 2, tracer)
    played = {name: early(events).merged(early(damage.events[name])) for name, events in honest.items()}
    player = Player(source, played, dict.fromkeys(honest, 2))
    for day in range(DAYS):
        told = len(source.records), len(out.records)
        await player.play(START_US + day * DAY_US, START_US + (day + 1) * DAY_US)
        await intake.on_records(source.records[told[0] :], publisher=out)
        accepted = [record for record in out.records[told[1] :] if record.topic in fold.topics]
        await computing.on_records(accepted, lag={}, publisher=out)
    reading = Reading("flight_delay", "arrival_delay")
    reading.take([record for record in out.records if record.topic in reading.topics])
    return World(Sent.of(played, damage, END_US), reading.log())
