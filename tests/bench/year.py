"""The year end to end: which process took how much. The last demo says it; without one, the year is played."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from projects.flights.data import DAY_US, honest_events
from projects.flights.demo.backlog import rest
from projects.flights.demo.crash import Processes
from projects.flights.demo.people import People
from projects.flights.demo.player import Player
from projects.flights.demo.proof import archived
from projects.flights.demo.usage import Usage
from projects.flights.demo.watcher import Watcher
from tests.bench.clock import OTHERS, OWN
from tests.bench.stage import CHECKOUT, FEATURES, MODEL, START_US

from mainstem.bus.kafka import KafkaBus
from mainstem.cli.local.platform import Platform
from mainstem.events.features import RowComputed
from mainstem.events.registry import VersionRegistered
from mainstem.events.serving import DeploymentActivated
from mainstem.project import load_folder

#: A month to learn from, and all that are left to answer.
LEARNT_DAYS, YEAR_DAYS = 30, 365


async def year() -> dict[str, Any]:
    """Return what was played, the seconds it took, and the CPU seconds of each process."""
    summary = CHECKOUT / ".mainstem" / "demo" / "summary.json"
    if summary.exists() and "cpu_seconds" in (demo := json.loads(summary.read_text())):
        events = sum(demo["events"]["sent"].values())
        return {"played": "the last demo", "events": events, **_shares(demo["seconds"]["replay"], demo["cpu_seconds"])}
    os.sched_setaffinity(0, {*OTHERS, *OWN})
    with TemporaryDirectory() as folder:
        async with Platform(Path(folder), fast=True, cache=CHECKOUT / ".mainstem" / "cache") as platform:
            usage, wall, cpu = Usage(), time.monotonic(), time.process_time()
            events = await _play_year(platform.env)
            usage.look(Processes(platform.env).pids())
            taken = usage.cpu_seconds() | {"player": time.process_time() - cpu}
            seconds = time.monotonic() - wall
    return {"played": f"{YEAR_DAYS} days", "events": events, **_shares(seconds, taken)}


async def _play_year(env: Mapping[str, str]) -> int:
    """Play the year with a version in service from February; return the number of events once all is archived."""
    project = load_folder(CHECKOUT / "projects" / "flights")
    partitions = {name: contract.partitions for name, contract in project.sources.items()}
    learnt_us, end_us = START_US + LEARNT_DAYS * DAY_US, START_US + YEAR_DAYS * DAY_US
    async with KafkaBus(env["MAINSTEM_KAFKA"], "bench") as bus, People(env) as people:
        await people.apply(project.model_dump(mode="json"), START_US)
        player = Player(bus.publisher, honest_events(), partitions)
        async with Watcher(env["MAINSTEM_KAFKA"], lambda _: None) as watcher:
            events = await _play(player, START_US, learnt_us)
            run = await people.request_training(MODEL, learnt_us)
            await watcher.wait_for(f"the version of run {run}", lambda event: isinstance(event.fact, VersionRegistered))
            await people.approve(MODEL, 1, learnt_us)
            await watcher.wait_for("version 1 to answer", lambda event: isinstance(event.fact, DeploymentActivated))
        events += await _play(player, learnt_us, end_us)
        taken_in = [f"evt.data.{name}" for name in partitions]
        await rest(
            env["MAINSTEM_KAFKA"], [*taken_in, RowComputed.topic_of(FEATURES), f"tel.prediction.{MODEL}"], end_us
        )
        await archived(env)
    return events


async def _play(player: Player, start_us: int, end_us: int) -> int:
    return sum([await player.play(day, day + DAY_US) for day in range(start_us, end_us, DAY_US)])


def _shares(seconds: float, cpu: dict[str, float]) -> dict[str, Any]:
    total = sum(cpu.values())
    return {
        "seconds": round(seconds, 1),
        "processes": {
            name: {"cpu_s": taken, "share": taken / total}
            for name, taken in sorted(cpu.items(), key=lambda item: -item[1])
        },
    }
