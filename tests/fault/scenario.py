"""Two weeks of real flights through the whole platform, alone or with something loose in it that kills processes."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from random import Random

import asyncpg
import httpx
from projects.flights.data import DAY_US, Events
from projects.flights.demo.people import People
from projects.flights.demo.player import Player
from projects.flights.demo.watcher import Watcher

from mainstem.bus.admin import topic_names
from mainstem.bus.kafka import KafkaBus
from mainstem.bus.reader import LogReader
from mainstem.cli.local.errors import NotRunning
from mainstem.cli.local.platform import Platform
from mainstem.events.instants import parse
from mainstem.events.monitoring import WindowJudged
from mainstem.events.record import header
from mainstem.events.registry import VersionRegistered
from mainstem.events.serving import DeploymentActivated
from mainstem.project import ProjectDefinition, load_folder

CHECKOUT = Path(__file__).parents[2]
FIRST_DAY_US = parse("2012-12-31T00:00:00Z")
DAYS, LEARNT_DAYS = 15, 10
MODEL = "arrival_delay"
SEED = 2013
#: What hangs on how often or when something was delivered, and on nothing that was decided.
ACCIDENTAL = {
    ("serving", "activation"): {"from_offsets"},
    ("serving", "deployment"): {"place", "envelope"},
    ("registry", "receipt"): {"issued", "leaf", "entry", "receipt"},
}
#: Checkpoints are taken by the clock, and receipts lead to them.
BY_THE_CLOCK = {"evt.ledger.checkpoint", "evt.ledger.receipt"}
LONGEST_WAIT_S = 150


@dataclass(frozen=True)
class Outcome:
    """What a run leaves behind: rows of every projection, entries in the ledger by topic, ids in the log."""

    tables: Mapping[str, tuple[str, ...]]
    entries: Mapping[str, int]
    ids: Mapping[str, frozenset[str]] = field(repr=False)


@dataclass
class Killer:
    """Kills the processes of a pack in random order at random moments, always the same for a seed."""

    platform: Platform
    pack: list[str]
    kills: list[str] = field(default_factory=list)
    random: Random = field(default_factory=lambda: Random(SEED))

    def __post_init__(self) -> None:
        self.random.shuffle(self.pack)

    async def strike(self, times: int) -> None:
        """Kill so many times, a moment apart."""
        for _ in range(times):
            await asyncio.sleep(self.random.uniform(0.05, 0.8))
            self._kill_one()

    def _kill_one(self) -> None:
        """Kill the first of the pack that runs; one that is on its way back keeps its place."""
        for place, name in enumerate(self.pack):
            with suppress(NotRunning):
                self.platform.pid(name)
                self.platform.kill(name)
                self.kills.append(self.pack.pop(place))
                return


def fortnight() -> ProjectDefinition:
    """Return the flights project with windows that fit into two weeks."""
    document = json.loads(load_folder(CHECKOUT / "projects" / "flights").canonical())
    document["models"][MODEL] |= {"training_window": "10d", "evaluation_window": "3d"}
    document["models"][MODEL]["gates"] |= {"min_auc": 0.6, "max_calibration_error": 0.5}
    document["models"][MODEL]["estimator"]["params"] |= {"max_iter": 40}
    document["monitoring"] |= {"window": "1d", "min_labelled": 100}
    return ProjectDefinition.model_validate(document)


@dataclass
class Run:
    """One run of the scenario on one platform."""

    platform: Platform
    events: Mapping[str, Events]
    killer: Killer | None = None
    kills: int = 0

    async def play(self, until: int = DAYS) -> None:
        """Learn from ten days, train, approve, predict the rest; with a killer, something dies all the time."""
        definition, env = fortnight(), self.platform.env
        partitions = {name: contract.partitions for name, contract in definition.sources.items()}
        async with (
            People(env) as people,
            KafkaBus(env["MAINSTEM_KAFKA"], "player") as bus,
            Watcher(env["MAINSTEM_KAFKA"], lambda _: None) as watcher,
        ):
            await self._insist(lambda: people.apply(json.loads(definition.canonical()), FIRST_DAY_US))
            player = Player(bus.publisher, self.events, partitions)
            await self._days(player, 0, LEARNT_DAYS)
            now_us = FIRST_DAY_US + LEARNT_DAYS * DAY_US
            await self._insist(lambda: people.request_training(MODEL, now_us))
            await self._strike(4)
            await watcher.wait_for("a version", lambda event: isinstance(event.fact, VersionRegistered))
            await self._insist(lambda: people.approve(MODEL, 1, now_us))
            await self._strike(2)
            await watcher.wait_for("version 1 to answer", lambda event: isinstance(event.fact, DeploymentActivated))
            await self._days(player, LEARNT_DAYS, until)
            await _last_verdict(watcher, until)

    async def go_on(self, since: int) -> None:
        """Play the days from one on, on a platform that has those before."""
        partitions = {name: contract.partitions for name, contract in fortnight().sources.items()}
        kafka = self.platform.env["MAINSTEM_KAFKA"]
        async with KafkaBus(kafka, "player") as bus, Watcher(kafka, lambda _: None) as watcher:
            await self._days(Player(bus.publisher, self.events, partitions), since, DAYS)
            await _last_verdict(watcher, DAYS)

    async def _days(self, player: Player, first: int, last: int) -> None:
        for day in range(first, last):
            await player.play(FIRST_DAY_US + day * DAY_US, FIRST_DAY_US + (day + 1) * DAY_US)
            await self._strike(self.kills // DAYS)

    async def _strike(self, times: int) -> None:
        if self.killer:
            await self.killer.strike(times)

    async def _insist(self, call: Callable[[], Awaitable[object]]) -> None:
        """Repeat a command until it is answered, as a caller does whose server was killed; it has one id."""
        async with asyncio.timeout(LONGEST_WAIT_S):
            while True:
                try:
                    await call()
                except (OSError, RuntimeError, httpx.HTTPError):
                    await asyncio.sleep(0.1)
                else:
                    return

    async def settled(self, wanted: Outcome | None = None) -> Outcome:
        """Return the outcome once it is `wanted`, or once it stands still; give up after a while with what is there."""
        before = None
        async with asyncio.timeout(LONGEST_WAIT_S) as limit:
            while True:
                tables = await self._tables()
                calm = tables == before if wanted is None else tables == wanted.tables
                before = tables
                entries = await self._entries()
                calm = calm and (wanted is None or entries == wanted.entries)
                late = asyncio.get_running_loop().time() > (limit.when() or 0) - 20
                if calm or late:
                    return Outcome(tables, entries, await self._ids())
                await asyncio.sleep(2.5 if wanted is None else 0.5)

    async def _tables(self) -> dict[str, tuple[str, ...]]:
        connection = await asyncpg.connect(self.platform.env["MAINSTEM_DATABASE_URL"])
        found = {}
        # The address of a dataset names the log that it was read from, its content does not.
        built = await connection.fetch("select dataset, content from training.dataset")
        contents = {row["dataset"]: row["content"] for row in built}
        for service in ("ingestion", "features", "training", "registry", "serving", "monitoring"):
            for table in import_module(f"mainstem.{service}.store").PROJECTIONS:
                dropped = sorted(ACCIDENTAL.get((service, table), ()))
                rows = await connection.fetch(
                    f"select (to_jsonb(t) - $1::text[])::text as line from {service}.{table} t", dropped
                )
                found[f"{service}.{table}"] = tuple(sorted(_by_content(row["line"], contents) for row in rows))
        await connection.close()
        return found

    async def _entries(self) -> dict[str, int]:
        connection = await asyncpg.connect(self.platform.env["MAINSTEM_DATABASE_URL"])
        rows = await connection.fetch("select topic, sum(count)::int as n from ledger.block group by topic")
        await connection.close()
        return {row["topic"]: row["n"] for row in rows if row["topic"] not in BY_THE_CLOCK}

    async def _ids(self) -> dict[str, frozenset[str]]:
        bootstrap = self.platform.env["MAINSTEM_KAFKA"]
        topics = [name for name in await topic_names(bootstrap) if name not in BY_THE_CLOCK]
        found: dict[str, set[str]] = {topic: set() for topic in topics}
        async with LogReader(bootstrap, topics) as reader:
            await reader.start()
            async for records in reader.to_end():
                for record in records:
                    found[record.topic].add((header(record, "ce_id") or b"").decode())
        return {topic: frozenset(ids) for topic, ids in found.items()}


async def _last_verdict(watcher: Watcher, until: int) -> None:
    """Wait for the last one that so many days lead to.

    The last marker is a microsecond short of midnight, and labels are waited for a day.
    """
    last = FIRST_DAY_US + (until - 2) * DAY_US
    await watcher.wait_for(
        "the last verdict",
        lambda event: isinstance(event.fact, WindowJudged) and parse(event.fact.end) == last,
    )


def _by_content(line: str, contents: Mapping[str, str]) -> str:
    """Return a row with each dataset named by its content, which two platforms can have in common."""
    for address, content in contents.items():
        line = line.replace(address, content)
    return line
