"""The demo from beginning to end: play, count, compute again, prove, tell."""

import asyncio
import gc
import json
import random
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from projects.flights.damage import damaged_events
from projects.flights.data import DAY_US, honest_events
from projects.flights.demo import decisions
from projects.flights.demo.backlog import checked, rest, watch_backlog
from projects.flights.demo.books import Books, Promises, Sent
from projects.flights.demo.callers import balanced, latencies
from projects.flights.demo.calls import Answer, Calls
from projects.flights.demo.crash import Processes
from projects.flights.demo.decisions import Activation
from projects.flights.demo.journey import SEED, Cast, Journey, Kill, verdicts_due
from projects.flights.demo.offline import backfill, compare
from projects.flights.demo.oracle import Oracle
from projects.flights.demo.people import People
from projects.flights.demo.player import Player
from projects.flights.demo.proof import archived, audit_ledger, examples, replayed
from projects.flights.demo.reading import read_log
from projects.flights.demo.report import Material, page
from projects.flights.demo.story import Telling, tell, verdict
from projects.flights.demo.threads import broken_stories, traced, untraced
from projects.flights.demo.usage import Usage
from projects.flights.demo.watcher import Watcher
from rich.console import Console

from mainstem.bus.kafka import KafkaBus
from mainstem.events.envelope import Event
from mainstem.events.features import RowComputed, VectorsChecked
from mainstem.project import ProjectDefinition, load_folder
from mainstem.storage import Artifacts

FOLDER: Final = Path(__file__).parents[1]
MODEL: Final = "arrival_delay"
#: Its records are what features are computed and predictions made for.
_SPINE: Final = "flight_departed"
#: Calls over each of the two protocols.
CALLS: Final = 1_000
#: Rows of which every value is computed again.
CHECKED_ROWS: Final = 7_000
#: Answers that are given again from the archive.
REPLAYED: Final = 1_000


@dataclass
class Clock:
    """Seconds that the parts of the demo took."""

    seconds: dict[str, float]
    _since: float = field(default_factory=time.monotonic)

    def lap(self, name: str) -> None:
        """Note the time since the lap before."""
        now = time.monotonic()
        self.seconds[name], self._since = round(now - self._since, 2), now


@dataclass(frozen=True)
class Year:
    """What the client knows when the year is over."""

    sent: Sent
    answers: Sequence[Answer]
    kill: Kill | None
    seen: Sequence[Event]


async def play(console: Console, env: Mapping[str, str], until_us: int) -> int:
    """Play up to an instant (µs since 1970, a midnight); return 0 when every promise held, else 1."""
    clock = Clock({"install": _installed_s(), "start": float(env.get("MAINSTEM_STARTED_S", 0))})
    usage = Usage()
    project = load_folder(FOLDER)
    async with alongside(usage.watch(Processes(env))):
        year = await _travel(console, env, project, until_us)
        clock.lap("replay")
        gc.collect()
        console.print("the year is over: counting, computing again, proving …", style="dim")
        promises = Promises()
        promises.hold("the ledger holds every record of every topic", await archived(env), [])
        clock.lap("archive")
        cpu_seconds = usage.cpu_seconds()
        folder = Path(env["MAINSTEM_HOME"], ".mainstem", "demo")
        (summary, books), ledger, table = await asyncio.gather(
            _audit(env, project, year, promises), audit_ledger(), backfill(FOLDER, folder / "offline.parquet")
        )
        summary["offline"] = _hold_offline(env, project, books, table, decisions.activations(year.seen))
        promises.hold("every entry of the ledger is as it was archived", ledger.verified)
        promises.hold("every table of the services follows from the ledger alone", ledger.replay_equal)
        sources, predictions = traced(books)
        missing = await untraced(Path(env["MAINSTEM_TRACES"]), sources, predictions)
        promises.hold(
            f"the traces of {len(predictions)} departures lead from the source to the prediction", missing, []
        )
        differing, said = await replayed(REPLAYED)
        promises.hold("the archived models give the archived inputs the scores that were served", differing, 0)
        quoted = {**ledger.quoted, **await examples(books.latest_prediction()), **said}
        clock.lap("audit")
    clock.seconds["total"] = round(sum(clock.seconds.values()), 2)
    summary |= {"ledger": ledger.summary(), "seconds": clock.seconds}
    summary |= {"cpu_seconds": cpu_seconds, "peak_rss_mb": dict(sorted(usage.peak_rss_mb.items()))}
    material = Material(
        summary,
        books.weeks(project.monitoring.window),
        decisions.windows(year.seen),
        decisions.activations(year.seen),
        project.feature_sets[project.models[MODEL].feature_set].compiled.names,
        promises.broken,
    )
    files = _write(folder, material)
    tell(console, summary, quoted, files)
    verdict(console, promises.kept, promises.broken)
    return 1 if promises.broken else 0


@asynccontextmanager
async def alongside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do endless work while the block runs; raise at its end what the work raised."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _travel(console: Console, env: Mapping[str, str], project: ProjectDefinition, until_us: int) -> Year:
    """Play the year."""
    honest, model = honest_events(), project.models[MODEL]
    damage = damaged_events(honest, project.sources)
    events = {name: of.merged(damage.events[name]) for name, of in honest.items()}
    del honest
    start_us = min(int(of.arrival_us[0]) for of in events.values()) // DAY_US * DAY_US
    occasions = sum(len(verdicts_due(day, model, project.monitoring)) for day in range(start_us, until_us, DAY_US))
    async with AsyncExitStack() as stack:
        telling = stack.enter_context(Telling(console))
        bus = await stack.enter_async_context(KafkaBus(env["MAINSTEM_KAFKA"], "flights"))
        people = await stack.enter_async_context(People(env))
        await people.apply(project.model_dump(mode="json"), start_us)
        watcher = await stack.enter_async_context(Watcher(env["MAINSTEM_KAFKA"], telling.event))
        calls = Calls(env, project, MODEL, CALLS, occasions)
        await stack.enter_async_context(calls)
        partitions = {name: contract.partitions for name, contract in project.sources.items()}
        cast = Cast(Player(bus.publisher, events, partitions), watcher, people, calls, Processes(env))
        journey = Journey(cast, model, project.monitoring, telling)
        damaged = damage.events[_SPINE].arrival_us

        def tell_backlog(records: int) -> None:
            telling.behind(records - int(np.searchsorted(damaged, telling.played_us)))

        topics = f"src.{_SPINE}", RowComputed.topic_of(model.feature_set)
        async with alongside(watch_backlog(env["MAINSTEM_KAFKA"], topics, tell_backlog)):
            await journey.travel(start_us, until_us)
            taken_in = [f"evt.data.{name}" for name in events]
            await rest(env["MAINSTEM_KAFKA"], [*taken_in, topics[1], f"tel.prediction.{MODEL}"], until_us)
            last = await checked(env, model.feature_set, until_us) - 1
            if last >= 0:
                await watcher.wait_for(f"check {last} of {model.feature_set}", lambda event: tells(event, last))
        await watcher.catch_up()
    return Year(Sent.of(events, damage, until_us), calls.answers, journey.kill, watcher.seen)


def tells(event: Event, number: int) -> bool:
    """Tell whether an event is the standing check of this number."""
    return isinstance(event.fact, VectorsChecked) and event.fact.number == number


async def _audit(
    env: Mapping[str, str], project: ProjectDefinition, year: Year, promises: Promises
) -> tuple[dict[str, Any], Books]:
    """Hold the log against what was sent and against the definitions; return the summary of it."""
    model = project.models[MODEL]
    log = await read_log(env["MAINSTEM_KAFKA"], model.feature_set, MODEL)
    in_service = decisions.activations(year.seen)
    books = Books(log, in_service, promises)
    summary: dict[str, Any] = {"events": books.check_records(year.sent)}
    rows = books.check_rows()
    chosen = sorted(random.Random(SEED).sample(range(rows), min(CHECKED_ROWS, rows)))
    oracle = Oracle(books.accepted, log.journal)
    again = oracle.compare(books.rows, chosen)
    promises.hold("every value computed again has the bits that were published", again.example, None)
    summary["features"] = {"rows": rows, "cells_checked": again.cells, "cells_differing": again.differing}
    trainings = decisions.trainings(year.seen)
    standing = decisions.check(year.seen, model.feature_set)
    promise = f"rows checked again by other code: {standing.cells:,} cells, 0 differing"
    promises.hold(promise, (standing.rows > 0, standing.differing), (True, 0))
    summary["check"] = asdict(standing)
    summary["training"] = [asdict(one) for one in trainings]
    promises.hold("every run came to its end", [one.run for one in trainings if one.decision == "pending"], [])
    promises.hold("an alert's story leads to the version it caused", broken_stories(year.seen, trainings), [])
    books.check_predictions()
    summary["serving"] = books.check_answers(year.answers, CALLS, oracle) | latencies(year.answers)
    summary["serving"]["books"] = await balanced(env, promises)
    summary["months"] = [asdict(month) for month in books.months()]
    summary["alerts"] = [asdict(alert) for alert in decisions.alerts(year.seen)]
    summary["kill"] = asdict(year.kill) if year.kill else None
    first = Artifacts(Path(env["MAINSTEM_ARTIFACTS"])).get(in_service[0].onnx)
    summary["backfill"] = books.backfill(first)
    return summary, books


def _hold_offline(
    env: Mapping[str, str], project: ProjectDefinition, books: Books, table: pa.Table, in_service: Sequence[Activation]
) -> dict[str, Any]:
    """Hold a backfill of the year against what was served; return the summary of it."""
    artifacts = Artifacts(Path(env["MAINSTEM_ARTIFACTS"]))
    models = {one.version: artifacts.get(one.onnx) for one in in_service}
    names = project.feature_sets[project.models[MODEL].feature_set].compiled.names
    found = compare(books, table, names, models)
    promises = books.promises
    promises.hold("every value of the year computed offline has the bits that were served", found.cells_differing, 0)
    promises.hold("the versions in service give these rows the scores that were served", found.scores_differing, 0)
    promises.hold("AUC offline - served is 0.0000 in every month", f"{found.auc_gap:.4f}", "0.0000")
    return asdict(found)


def _installed_s() -> float:
    """Return how long the environment took to install, as the Makefile noted it; 0 when it did not."""
    note = Path(sys.prefix, ".installed")
    text = note.read_text().strip() if note.exists() else ""
    return float(text) if text.replace(".", "", 1).isdecimal() else 0.0


def _write(folder: Path, material: Material) -> list[str]:
    """Write summary and page; return where to look."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_text(json.dumps(material.summary, indent=2) + "\n")
    (folder / "report.html").write_text(page(material))
    return [
        f"{folder / 'report.html'}  the year in pictures; summary.json beside it has its figures",
        "mainstem up  goes on with this data: mainstem quarantine list · model list · event tail evt.monitoring.alert",
    ]
