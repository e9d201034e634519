"""The year: January to April are learnt from, a first version answers from May on, the rest follows from events."""

import asyncio
import random
from dataclasses import dataclass
from typing import Final, Protocol

from projects.flights.data import DAY_US
from projects.flights.demo.calls import Calls
from projects.flights.demo.crash import Processes
from projects.flights.demo.people import People
from projects.flights.demo.player import Player
from projects.flights.demo.watcher import Watcher

from mainstem.events.envelope import Event
from mainstem.events.instants import parse, render
from mainstem.events.monitoring import RetrainingAsked, WindowJudged
from mainstem.events.registry import VersionRegistered
from mainstem.events.serving import DeploymentActivated, DeploymentRefused
from mainstem.events.training import RunFailed, TrainingRequested
from mainstem.project import ModelDefinition, Monitoring

FIRST_TRAINING_US: Final = parse("2013-05-01T00:00:00Z")
AUGUST_US: Final = parse("2013-08-01T00:00:00Z")
SEED: Final = 2013
#: Services of which one is killed; any of them must recover alone.
VICTIMS: Final = ("ingestion", "features", "serving", "monitoring", "registry", "training", "ledger")


@dataclass(frozen=True, slots=True)
class Kill:
    """The crash of the story."""

    service: str
    at: str
    recovered_s: float


class Teller(Protocol):
    """Is told how the journey goes."""

    def day(self, day_us: int, events: int) -> None:
        """Hear of a day that was played: its start, and how many events there were."""

    def crash(self, service: str, recovered_s: float) -> None:
        """Hear of a service that was killed and is back."""


@dataclass(frozen=True, slots=True)
class Cast:
    """Everybody who acts."""

    player: Player
    watcher: Watcher
    people: People
    calls: Calls
    processes: Processes


def verdicts_due(day_us: int, model: ModelDefinition, monitoring: Monitoring) -> list[int]:
    """Return the ends of the windows that can be judged once the day is played, and not a day earlier.

    A window is complete when progress has passed its end by the wait for labels; progress is announced once a day, up
    to the last microsecond of it. Before the first version there is nothing to judge.
    """
    width, wait = monitoring.window, model.label.wait
    first, last = (day_us - 1 - wait) // width + 1, (day_us + DAY_US - 1 - wait) // width
    return [number * width for number in range(first, last + 1) if number * width > FIRST_TRAINING_US]


class Journey:
    """Plays day after day, and waits where a decision is due."""

    def __init__(self, cast: Cast, model: ModelDefinition, monitoring: Monitoring, teller: Teller) -> None:
        self.kill: Kill | None = None
        self._cast, self._model, self._monitoring, self._teller = cast, model, monitoring, teller
        self._handled: set[str] = set()
        chance = random.Random(SEED)
        self._victim, self._kill_day = chance.choice(VICTIMS), AUGUST_US + chance.randrange(31) * DAY_US

    async def travel(self, start_us: int, end_us: int) -> None:
        """Play from `start_us` to `end_us`, both at midnight.

        Raises TimeoutError when a decision that is due does not come, RuntimeError when the first version is refused.
        """
        for today in range(start_us, end_us, DAY_US):
            if today == FIRST_TRAINING_US:
                await self._first_version(today)
            played = await self._play(today)
            await self._cast.watcher.look()
            self._teller.day(today, played)
            for window_end in verdicts_due(today, self._model, self._monitoring):
                await self._decide(window_end, today + DAY_US)

    async def _play(self, today: int) -> int:
        if today != self._kill_day:
            return await self._cast.player.play(today, today + DAY_US)
        playing = asyncio.create_task(self._cast.player.play(today, today + DAY_US))
        recovered_s = await self._cast.processes.kill(self._victim)
        self.kill = Kill(self._victim, render(today)[:10], round(recovered_s, 2))
        self._teller.crash(self._victim, recovered_s)
        return await playing

    async def _first_version(self, now_us: int) -> None:
        run = await self._cast.people.request_training(self._model.name, now_us)
        if not await self._see_through(run, now_us):
            raise RuntimeError(f"run {run} made no version that may answer; see `mainstem training show {run}`")

    async def _decide(self, window_end_us: int, now_us: int) -> None:
        """Wait for the verdict on a window, make some calls, and see the response through if there is one."""
        end = render(window_end_us)
        await self._cast.watcher.wait_for(
            f"the verdict on the window until {end}",
            lambda event: isinstance(event.fact, WindowJudged) and event.fact.end == end,
        )
        # Alerts stand in the log before the verdict they belong to, but on another topic.
        await self._cast.watcher.catch_up()
        await self._cast.calls.some()
        for asked in [event for event in self._cast.watcher.seen if isinstance(event.fact, RetrainingAsked)]:
            if asked.envelope.id not in self._handled:
                self._handled.add(asked.envelope.id)
                await self._see_through(await self._run_of(asked), now_us)

    async def _run_of(self, asked: Event) -> str:
        requested = await self._cast.watcher.wait_for(
            "the run that was asked for",
            lambda event: isinstance(event.fact, TrainingRequested) and event.envelope.causation == asked.envelope.id,
        )
        assert isinstance(requested.fact, TrainingRequested)  # noqa: S101  (that is what was waited for)
        return requested.fact.run

    async def _see_through(self, run: str, now_us: int) -> bool:
        """Wait for a run; approve what the gates let through, and wait until it answers. Tell whether it does."""
        ended = await self._cast.watcher.wait_for(
            f"the end of run {run}",
            lambda event: isinstance(event.fact, VersionRegistered | RunFailed) and event.fact.run == run,
        )
        if not isinstance(ended.fact, VersionRegistered) or ended.fact.stage != "candidate":
            return False
        version = ended.fact.version
        await self._cast.people.approve(self._model.name, version, now_us)
        answers = await self._cast.watcher.wait_for(
            f"version {version} to answer",
            lambda event: (
                isinstance(event.fact, DeploymentActivated | DeploymentRefused) and event.fact.version == version
            ),
        )
        return isinstance(answers.fact, DeploymentActivated)
