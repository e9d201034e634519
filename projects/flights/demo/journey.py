"""The year: January to April are learnt from, the first version answers from May on, and the rest follows from events."""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from mainstem.events.envelope import Event
from mainstem.events.instants import parse, render
from mainstem.events.monitoring import RetrainingAsked, WindowJudged
from mainstem.events.registry import VersionRegistered
from mainstem.events.serving import DeploymentActivated, DeploymentRefused
from mainstem.events.training import RunFailed
from mainstem.project import ModelDefinition, Monitoring
from projects.flights.data import DAY_US
from projects.flights.demo.calls import Calls
from projects.flights.demo.people import People
from projects.flights.demo.player import Player
from projects.flights.demo.watcher import Watcher

FIRST_TRAINING_US: Final = parse("2013-05-01T00:00:00Z")
KILL_FROM_US: Final = parse("2013-08-01T00:00:00Z")
SEED: Final = 2013
#: Services that may be killed; any of them must recover alone.
VICTIMS: Final = ("ingestion", "features", "serving", "monitoring", "registry", "training", "ledger")
CALLS: Final = 1_000


@dataclass(slots=True)
class Kill:
    """The crash of the story."""

    service: str
    at: str
    recovered_s: float


@dataclass(slots=True)
class Diary:
    """What the client noted on the way."""

    kill: Kill | None = None
    promoted_us: int | None = None
    calls: list[dict[str, object]] = field(default_factory=list)


class Journey:
    """Plays day after day, and waits where a decision is due."""

    def __init__(  # noqa: PLR0913  # the client's own composition root calls it, once
        self,
        player: Player,
        watcher: Watcher,
        people: People,
        calls: Calls,
        model: ModelDefinition,
        monitoring: Monitoring,
        crash: Callable[[str], "asyncio.Future[float]"],
        tell: Callable[[str, int], None],
    ) -> None:
        self._player, self._watcher, self._people, self._calls = player, watcher, people, calls
        self._model, self._monitoring = model, monitoring
        self._crash, self._tell = crash, tell
        self._random = random.Random(SEED)
        self._handled: set[str] = set()
        self.diary = Diary()

    async def travel(self, start_us: int, end_us: int) -> None:
        """Play from `start_us` to `end_us`, both at midnight."""
        kill_at = KILL_FROM_US + self._random.randrange(31) * DAY_US
        for today in range(start_us, end_us, DAY_US):
            if today == FIRST_TRAINING_US:
                await self._first_version(today)
            if today == kill_at:
                await self._kill(today)
            count = await self._player.play(today, today + DAY_US)
            self._tell(render(today)[:10], count)
            await self._watcher.look()
            if self.diary.promoted_us is not None:
                await self._decisions(today, today + DAY_US)

    async def _first_version(self, now_us: int) -> None:
        run = await self._people.request_training(self._model.name, now_us)
        await self._see_through(run, now_us)
        self.diary.promoted_us = now_us

    async def _decisions(self, today: int, tomorrow: int) -> None:
        """When a window of monitoring falls due, wait for its verdict, make some calls, and see responses through."""
        for end_us in self._due(today, tomorrow):
            end = render(end_us)
            await self._watcher.wait_for(
                f"the verdict on the window until {end}",
                lambda event, end=end: isinstance(event.fact, WindowJudged) and event.fact.end == end,  # type: ignore[misc]
            )
            await self._calls.some()
            asked = [e for e in self._watcher.seen if isinstance(e.fact, RetrainingAsked)]
            for event in asked:
                if event.envelope.id not in self._handled:
                    self._handled.add(event.envelope.id)
                    await self._see_through(await self._run_of(event), tomorrow)

    def _due(self, today: int, tomorrow: int) -> list[int]:
        """Return the ends of the windows whose labels are complete with what was played today."""
        width, wait = self._monitoring.window, self._model.label.wait
        first = (today - wait) // width + 1
        return [number * width for number in range(first, (tomorrow - wait) // width + 1)]

    async def _run_of(self, asked: Event) -> str:
        requested = await self._watcher.wait_for(
            "the run that was asked for", lambda event: event.envelope.causation == asked.envelope.id
        )
        return str(requested.fact.run)  # type: ignore[attr-defined]

    async def _see_through(self, run: str, now_us: int) -> None:
        """Wait for a run; approve what the gates let through, and wait until it answers."""
        ended = await self._watcher.wait_for(
            f"the end of run {run}",
            lambda event: isinstance(event.fact, VersionRegistered | RunFailed) and event.fact.run == run,
        )
        if not isinstance(ended.fact, VersionRegistered) or ended.fact.stage != "candidate":
            return
        version = ended.fact.version
        await self._people.approve(self._model.name, version, now_us)
        await self._watcher.wait_for(
            f"version {version} to answer",
            lambda event: (
                isinstance(event.fact, DeploymentActivated | DeploymentRefused) and event.fact.version == version
            ),
        )

    async def _kill(self, today: int) -> None:
        service = self._random.choice(VICTIMS)
        recovered_s = await self._crash(service)
        self.diary.kill = Kill(service, render(today)[:10], round(recovered_s, 2))


async def stopwatch(done: Callable[[], bool], limit_s: float) -> float:
    """Return the seconds until `done` holds; raise TimeoutError after `limit_s`."""
    started = time.monotonic()
    async with asyncio.timeout(limit_s):
        while not done():
            await asyncio.sleep(0.02)
    return time.monotonic() - started
