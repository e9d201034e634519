"""The demo from beginning to end: play, count, prove, tell."""

import asyncio
import json
import random
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from mainstem.bus.kafka import KafkaBus
from mainstem.bus.reader import LogReader
from mainstem.events.envelope import Event
from mainstem.project import ModelDefinition, ProjectDefinition, load_folder
from mainstem.storage import Artifacts
from projects.flights.damage import Damage, damaged_events
from projects.flights.data import DAY_US, Events, honest_events
from projects.flights.demo import decisions
from projects.flights.demo.audit import Proof, prove
from projects.flights.demo.books import Books, Promises, Sent
from projects.flights.demo.calls import Answer, Calls
from projects.flights.demo.crash import Processes
from projects.flights.demo.journey import SEED, Cast, Journey, Kill, verdicts_due
from projects.flights.demo.oracle import Oracle, Verdict
from projects.flights.demo.peaks import watch_memory
from projects.flights.demo.people import People
from projects.flights.demo.player import Player
from projects.flights.demo.reading import read_log
from projects.flights.demo.report import Material, page
from projects.flights.demo.story import Telling, tell, verdict
from projects.flights.demo.watcher import Watcher

PROJECT: Final = Path(__file__).parents[1]
MODEL: Final = "arrival_delay"
#: Calls over each of the two protocols.
CALLS: Final = 1_000
#: Rows of which every value is computed again.
CHECKED_ROWS: Final = 7_000


@dataclass
class Year:
    """What the client knows after the journey."""

    events: Mapping[str, Events]
    damage: Damage
    kill: Kill | None
    answers: Sequence[Answer]
    seen: Sequence[Event]


@dataclass
class Clock:
    """Seconds that the parts of the demo took."""

    seconds: dict[str, float] = field(default_factory=dict)
    _since: float = field(default_factory=time.monotonic)

    def lap(self, name: str) -> None:
        """Note the time since the lap before."""
        now = time.monotonic()
        self.seconds[name], self._since = round(now - self._since, 2), now


async def play(console: Console, env: Mapping[str, str], until_us: int) -> int:
    """Play up to an instant (µs since 1970, a midnight); return 0 when every promise held, else 1."""
    clock, peaks = Clock({"install": _installed_s(), "start": float(env.get("MAINSTEM_STARTED_S", 0))}), dict[str, int]()
    processes = Processes(env)
    memory = asyncio.create_task(watch_memory(processes, peaks))
    try:
        project = load_folder(PROJECT)
        with Telling(console) as telling:
            year = await _travel(env, project, until_us, telling)
        clock.lap("replay")
        console.print("the year is over; counting, computing again, proving …", style="dim")
        promises = Promises()
        summary, books = await _audit(env, project, year, until_us, promises)
        proof = await prove(_some_prediction(books))
        promises.hold("the ledger is whole: every entry hashes to its root", proof.verified)
        promises.hold("every service's tables follow from the log alone", proof.replay_equal)
        clock.lap("audit")
    finally:
        memory.cancel()
    clock.seconds["total"] = round(sum(clock.seconds.values()), 2)
    summary |= {"ledger": proof.summary(), "seconds": clock.seconds, "peak_rss_mb": dict(sorted(peaks.items()))}
    _write(env, summary, books, year, project, promises)
    _tell(console, summary, proof, promises)
    return 1 if promises.broken else 0
