"""Monitoring as a process on the real broker and database, killed on the way, and looked at from the command line."""

import asyncio
import json
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from services.monitoring.tests.monitoring_story import (
    Logs,
    World,
    activated,
    applied,
    drifting,
    promoted,
    records,
    registered,
)

from mainstem.bus.kafka import KafkaBus
from mainstem.bus.reader import LogReader
from mainstem.cli.local.platform import Platform
from mainstem.events.catalogue import decode, encode
from mainstem.events.envelope import Event, Message
from mainstem.events.topics import fixed, member
from mainstem.monitoring.memory import MemoryStore
from mainstem.storage import Artifacts

pytestmark = [pytest.mark.real, pytest.mark.fault]

DEADLINE_S = 60
TOPICS = ("evt.monitoring.window", "evt.monitoring.alert")
CACHE = Path(__file__).parents[3] / ".mainstem" / "cache"
MAINSTEM = Path(sys.executable).parent / "mainstem"
#: Six days, with a drift from the fourth on.
STORY = drifting(6, quiet=3)

Published = dict[str, list[Event]]


@pytest.fixture(scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    root = tmp_path_factory.mktemp("monitoring")
    async with Platform(root, fast=True, services=["monitoring"], cache=CACHE) as platform:
        yield platform


@pytest.fixture(scope="module")
async def calm(platform: Platform) -> World[MemoryStore]:
    """Return what follows from the story without a process."""
    artifacts = Artifacts(Path(platform.env["MAINSTEM_ARTIFACTS"]))
    return await (await World(MemoryStore(), artifacts).begun()).play(STORY)


@pytest.fixture(scope="module")
async def found(platform: Platform, calm: World[MemoryStore]) -> Published:
    """Return what the service published of the story, each event once, though it was killed on the way."""
    async with KafkaBus(platform.env["MAINSTEM_KAFKA"], "test") as bus:
        families = [("tel.prediction.{model}", "storm"), ("evt.data.{source}", "outcome")]
        await bus.create([*fixed(), *(member(pattern, name, 2) for pattern, name in families)])
        facts = [registered(1, calm.address), registered(2, calm.address), promoted(1), activated(1)]
        await bus.publisher.publish([encode(event) for event in (applied(calm.project), *facts)])
        await play(platform, bus, records(STORY))
    return await published(platform, len(calm.own))


async def play(platform: Platform, bus: KafkaBus, logs: Logs) -> None:
    """Publish stretch by stretch, and kill the service in between."""
    chance = random.Random(7)
    while any(logs.values()):
        stretch = {place: log[: chance.randint(1, 150)] for place, log in logs.items()}
        logs = {place: log[len(stretch[place]) :] for place, log in logs.items()}
        said = [record for log in stretch.values() for record in log]
        await bus.publisher.publish([Message(r.topic, r.key, r.value, r.headers, r.partition) for r in said])
        if chance.random() < 0.25:
            platform.kill("monitoring")
            await platform.ready("monitoring")


async def published(platform: Platform, count: int) -> Published:
    """Return the events of each topic once there are so many different ones, without their origins."""
    found: dict[str, dict[str, Event]] = {topic: {} for topic in TOPICS}
    async with asyncio.timeout(DEADLINE_S), LogReader(platform.env["MAINSTEM_KAFKA"], TOPICS) as reader:
        await reader.start()
        while sum(map(len, found.values())) < count:
            for record in await reader.poll():
                event = decode(record)
                known = Event(replace(event.envelope, origin=None), event.fact)
                assert found[record.topic].setdefault(event.envelope.id, known) == known
    return {topic: list(events.values()) for topic, events in found.items()}


async def test_a_service_that_is_killed_again_and_again_publishes_what_an_undisturbed_one_would(
    calm: World[MemoryStore], found: Published
) -> None:
    assert found == {topic: [event for event in calm.own if event.fact.topic == topic] for topic in TOPICS}
    assert all(found.values())


def mainstem(platform: Platform, *arguments: object) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAINSTEM_")}
    command = (MAINSTEM, *map(str, arguments))
    done = subprocess.run(command, env=environment | dict(platform.env), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def answer(platform: Platform, *arguments: object) -> Any:
    return json.loads(mainstem(platform, *arguments, "-o", "json"))


def test_the_command_line_shows_what_is_watched(platform: Platform, found: Published) -> None:
    (monitor,) = answer(platform, "monitor", "list")
    assert (monitor["model"], monitor["version"], monitor["windows"]) == ("storm", 1, len(found[TOPICS[0]]))
    assert "wind" in mainstem(platform, "monitor", "list")


def test_the_command_line_shows_windows(platform: Platform, found: Published) -> None:
    windows = answer(platform, "monitor", "show", "storm", "-n", 3)
    assert [row["end_time"] for row in windows] == [event.fact.end for event in found[TOPICS[0]][:-4:-1]]
    assert "feature_drift" in mainstem(platform, "monitor", "show", "storm")


def test_the_command_line_lists_shows_and_closes_alerts(platform: Platform, found: Published) -> None:
    alert = found[TOPICS[1]][0].fact.alert
    assert alert in {row["alert"] for row in answer(platform, "alert", "list", "--status", "open")}
    assert "higher values" in mainstem(platform, "alert", "show", alert[:8])
    (closed,) = answer(platform, "alert", "close", alert, "-m", "a known storm")
    assert (closed["open"], closed["closed_by"]) == (False, "operator")
    assert alert in mainstem(platform, "alert", "list", "--status", "closed", "--model", "storm")
