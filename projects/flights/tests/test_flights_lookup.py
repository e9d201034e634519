"""The features that serving looks up are those of a backfill: a hundred thousand calls in the middle of a replay."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import orjson
from projects.flights.data import DAY_US, Events
from projects.flights.demo.player import Player
from projects.flights.tests.conftest import DAYS, START_US, early

from mainstem.events.fence import Fence
from mainstem.events.instant_columns import parse_all
from mainstem.events.record import Record
from mainstem.feature_engine import CompiledSet, Engine
from mainstem.feature_engine.batch import Values
from mainstem.fold.accepted import Reading
from mainstem.fold.fold import inputs
from mainstem.fold.ordered import Item, OrderedReader
from mainstem.ingestion.engine import Judge
from mainstem.ingestion.handlers import Intake
from mainstem.project import ProjectDefinition
from mainstem.serving.entities import Columns
from mainstem.serving.lookup import Lookup
from mainstem.telemetry import Tracer
from mainstem.testkit.records import Log as Broker

CALLS = 100_000
LABEL = "flight_delay"

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Asked:
    """What was asked at one place of the replay, and what serving read: float64 [calls, features]."""

    applied: int
    at_us: int
    columns: Columns
    values: Floats


async def test_what_is_looked_up_during_a_replay_is_what_a_backfill_gives_there(
    honest: dict[str, Events], project: ProjectDefinition
) -> None:
    log = await accepted(honest, project)
    calls = list(asked_during_a_replay(log, project, np.random.default_rng(2013)))
    assert sum(len(each.values) for each in calls) >= CALLS
    assert len({each.applied for each in calls}) > 300
    compiled = project.feature_sets[LABEL].compiled
    assert differing(calls, backfilled(compiled, project, log, calls)) == 0
    behind = [replace(call, applied=before.applied) for before, call in pairwise(calls)]
    seen = differing(calls[1:], backfilled(compiled, project, log, behind))
    assert seen > 1_000  # the control: one poll behind would be seen
    known = np.mean([np.isfinite(call.values).mean() for call in calls])
    assert known > 0.7  # there is something to compare


def differing(calls: Sequence[Asked], backfill: Iterator[Floats]) -> int:
    """Return how many cells of what serving read have not the bits of a backfill."""
    return sum(
        int((call.values.view(np.int64) != values.view(np.int64)).sum())
        for call, values in zip(calls, backfill, strict=True)
    )


async def accepted(honest: dict[str, Events], project: ProjectDefinition) -> Sequence[Record]:
    """Return what ingestion accepts of the first days, as it stands in the log."""
    source, out, tracer = Broker(), Broker(), Tracer("test", None)
    judges = {f"src.{name}": Judge(contract, tracer) for name, contract in project.sources.items()}
    intake = Intake(judges, Fence(), {})
    player = Player(source, {name: early(events) for name, events in honest.items()}, dict.fromkeys(honest, 2))
    await player.play(START_US, START_US + DAYS * DAY_US)
    await intake.on_records(source.records, publisher=out)
    read = {f"evt.data.{name}" for name in project.feature_sets[LABEL].compiled.streams}
    return sorted((r for r in out.records if r.topic in read), key=lambda r: (r.topic, r.partition, r.offset))


def asked_during_a_replay(
    log: Sequence[Record], project: ProjectDefinition, random: np.random.Generator
) -> Iterator[Asked]:
    """Read the partitions in polls of any size, and ask in between about departures of any time."""
    lookup = Lookup(project, LABEL)
    lookup.fault = None
    entities = Entities(log, project)
    left: dict[tuple[str, int], list[Record]] = {}
    for record in log:
        left.setdefault((record.topic, record.partition), []).append(record)
    done = dict.fromkeys(left, 0)
    polls = len(log) // 50
    for poll in range(1, polls + 1):
        for place, records in left.items():
            end = (
                len(records) if poll == polls else min(len(records), len(records) * poll // polls + random.integers(40))
            )
            lookup.take(records[done[place] : end])
            done[place] = max(done[place], int(end))
        if poll > 3:
            columns = entities.some(CALLS // (polls - 4) + 1, random)
            as_of = lookup.as_of()
            yield Asked(as_of.applied, as_of.at_us, columns, lookup.read([lookup.entities(columns)]))


class Entities:
    """Departures as somebody describes them who has not the event."""

    def __init__(self, log: Sequence[Record], project: ProjectDefinition) -> None:
        compiled = project.feature_sets[LABEL].compiled
        reader = OrderedReader(inputs(compiled, project.sources))
        reader.offer(log)
        items = reader.advance().items
        spine = [item for item in items if item[0].topic == f"evt.data.{compiled.spine}"]
        self._names = compiled.streams[compiled.spine]
        self._records = [_said(item) for item in spine]

    def some(self, count: int, random: np.random.Generator) -> Columns:
        """Return so many; now and then a value is not said, or is of nobody."""
        drawn = [self._records[place] for place in random.integers(0, len(self._records), count)]
        columns = {name: [record.get(name) for record in drawn] for name in self._names}
        for place in random.integers(0, count, count // 20).tolist():
            columns[sorted(columns)[place % len(columns)]][place] = None
        return columns


def _said(item: Item) -> dict[str, object]:
    said: dict[str, object] = orjson.loads(item[0].value or b"")["record"]
    return said


def backfilled(
    compiled: CompiledSet, project: ProjectDefinition, log: Sequence[Record], calls: Sequence[Asked]
) -> Iterator[Floats]:
    """Compute the same from the whole log, put in order at once: a batch up to each place that was asked at."""
    reader, reading, engine = (
        OrderedReader(inputs(compiled, project.sources)),
        Reading(compiled, project.sources),
        Engine(compiled),
    )
    reader.offer(log)
    whole = reader.advance()
    done = 0
    for call in calls:
        if call.applied > done:
            engine.process(
                reading.batch(whole.items[done : call.applied], whole.arrivals[done : call.applied], engine.reached)
            )
            done = call.applied
        columns = {name: _gathered(project, compiled, name, call.columns[name]) for name in call.columns}
        yield engine.read(columns, np.full(len(call.values), call.at_us, np.int64))


def _gathered(project: ProjectDefinition, compiled: CompiledSet, name: str, values: Sequence[object]) -> Values:
    match project.sources[compiled.spine].columns[name].kind:
        case "time":
            return parse_all([b"" if value is None else str(value).encode() for value in values])
        case "fixed":
            return np.array(values, np.float64)
        case _:
            return list(values)  # type: ignore[arg-type]  # texts
