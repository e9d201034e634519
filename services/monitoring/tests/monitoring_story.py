"""What is said of a model that is watched, and what turns out, day by day; and the watch over it without a process."""

import json
import random
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Generic, Self, TypeVar

import numpy as np
from scipy.special import expit

from mainstem.events.envelope import Envelope, Event
from mainstem.events.fact import Fact
from mainstem.events.features import Difference, Evidence, FoldStopped, VectorsChecked
from mainstem.events.ids import child_id
from mainstem.events.instants import render
from mainstem.events.registry import ProjectApplied, VersionPromoted, VersionRegistered
from mainstem.events.serving import DeploymentActivated
from mainstem.fold.ordered import Partition
from mainstem.monitoring.alerts import close_replaced, redeclare, warn
from mainstem.monitoring.engine import Fold
from mainstem.monitoring.handlers import Watching
from mainstem.monitoring.memory import MemoryStore
from mainstem.monitoring.ports import Store
from mainstem.project import Monitoring, ProjectDefinition
from mainstem.storage import Artifacts
from mainstem.testkit.clock import DAY, HOUR, MAY, MINUTE
from mainstem.testkit.examples import example
from mainstem.testkit.projects import storms, watched
from mainstem.testkit.records import Taken
from mainstem.training.engine import reference_profile

ROWS = 200
PREDICTIONS, LABELS = "tel.prediction.storm", "evt.data.outcome"
#: Everything that is read for the model.
PLACES: tuple[Partition, ...] = ((PREDICTIONS, 0), (PREDICTIONS, 1), (LABELS, 0), (LABELS, 1))

F = TypeVar("F", bound=Fact)
S = TypeVar("S", bound=Store)
#: What is to stand in the log: place, recorded time, event time (None for a marker), payload, its type if it matters.
Said = tuple[Partition, int, int | None, bytes] | tuple[Partition, int, int | None, bytes, str]
Logs = dict[Partition, list[Taken]]


def usual(**settings: Any) -> Monitoring:
    """Return how the model is watched: daily, and a drift of the features asks for a retraining."""
    responses = {"feature_drift": "retrain"}
    return watched(**{"cooldown": 2 * DAY, "min_labelled": 50, "responses": responses} | settings)


@cache
def profile() -> bytes:
    """Return the reference profile of every version: one feature, and truth as the score says."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=30 * ROWS)
    p = expit(x)
    y = (rng.random(len(p)) < p).astype(np.int64)
    return json.dumps(reference_profile(x[:, None], p, y, np.repeat(np.arange(30), ROWS), ["wind"])).encode()


def prediction(
    entity: str,
    at: int,
    *,
    version: int = 1,
    wind: float = 0.0,
    channel: str = "stream",
    part: int = 0,
    recorded: int | None = None,
) -> Said:
    fact = {
        "model": "storm",
        "version": version,
        "channel": channel,
        "entity": entity,
        "features": [wind],
        "score": float(expit(wind)),
    }
    return (PREDICTIONS, part), at + MINUTE if recorded is None else recorded, at, json.dumps(fact).encode()


def label(entity: str, at: int, loss: float | None) -> Said:
    """Say a label, known when it happens."""
    return (LABELS, 0), at, at, json.dumps({"source": "outcome", "record": {"sensor": entity, "loss": loss}}).encode()


def marker(until: int) -> list[Said]:
    """Announce in every partition that nothing up to an instant follows."""
    return [(place, until, None, json.dumps({"until": render(until)}).encode()) for place in PLACES]


@cache
def day(number: int, *, shift: float = 0.0) -> tuple[Said, ...]:
    """Say the predictions of one day with labels three hours later, and announce the end of the day."""
    rng, start = np.random.default_rng([0, number]), MAY + number * DAY
    x = rng.normal(shift, size=ROWS)
    truth = rng.random(ROWS) < expit(x)
    said = []
    for at, (wind, positive) in enumerate(zip(x.tolist(), truth.tolist(), strict=True)):
        entity, time = f"{number}-{at}", start + at * (DAY // ROWS)
        said.append(prediction(entity, time, wind=wind, part=at % 2))
        said.append(label(entity, time + 3 * HOUR, 20 if positive else 0))
    return *said, *marker(start + DAY - 1)


def drifting(days: int = 5, *, quiet: int = 2) -> tuple[Said, ...]:
    """Say some quiet days; then the wind rises. Enough days after it for the last window to be judged."""
    return tuple(one for n in range(days) for one in day(n, shift=1.0 if n >= quiet else 0.0))


@cache
def records(said: tuple[Said, ...]) -> Logs:
    """Return the log of each partition, in the order in which things became known."""
    logs: Logs = {place: [] for place in PLACES}
    for place, recorded, time, payload, *kind in sorted(said, key=lambda one: one[1]):
        headers = {"ce_type": "mainstem.data.progress.v1"}
        offset = len(logs[place])
        if time is not None:
            origin = f"origin/{place[0]}/{place[1]}/{offset}"
            headers = {"ce_id": origin, "ce_time": render(time), "ce_recordedtime": render(recorded)}
            headers |= {"ce_origin": origin, "ce_type": "".join(kind)}
        pairs = tuple((name, value.encode()) for name, value in headers.items())
        logs[place].append(Taken(*place, offset, payload, b"key", pairs))
    return logs


def fact_event(fact: Fact, at: int, name: str = "") -> Event:
    """Return an event of the registry."""
    event_id = child_id(f"{fact.key}{name}{at}", fact.TYPE)
    return Event(Envelope(event_id, fact.TYPE, "/registry", fact.key, at, at, "story", "cause", "ann"), fact)


def registered(version: int, address: str, model: str = "storm", **of: str) -> Event:
    fact = example(VersionRegistered, model=model, version=version, project="weather", profile=address, **of)
    return fact_event(fact, MAY - DAY, str(version))


def promoted(version: int, at: int = MAY - HOUR, replaces: int | None = None, model: str = "storm") -> Event:
    fact = VersionPromoted(model=model, version=version, replaces=replaces, promoted_by="ann")
    return fact_event(fact, at, str(version))


def checked(definition: str, at: int, *, differing: int = 1) -> Event:
    """Return a check of a feature set; the first of its differences is in `windy`."""
    record = Evidence(
        topic="src.reading", partition=1, offset=7, event_time=render(at), value=3.5, aggregate="reading.mean(wind)"
    )
    first = Difference(
        spine_id="r9",
        about="other bits",
        feature="windy",
        served=0.1,
        recomputed=0.2,
        records=[record],
        records_in_all=9,
    )
    fact = example(VectorsChecked, feature_set="gusts", definition=definition, cells=40, differing=differing)
    return fact_event(fact.model_copy(update={"first_difference": first if differing else None}), at, definition)


def stopped(definition: str, at: int, offset: int = 5) -> Event:
    """Return the end of a fold before a gap at an offset."""
    place = {"input": "evt.data.reading", "partition": 1, "expected_offset": offset, "found_offset": offset + 4}
    fact = example(FoldStopped, feature_set="gusts", definition=definition, reason="records are gone", **place)
    return fact_event(fact, at, definition)


def activated(version: int, at: int = MAY - HOUR) -> Event:
    fact = example(DeploymentActivated, model="storm", version=version, effective_from=render(at), from_offsets={})
    return fact_event(fact, at, str(version))


def applied(project: ProjectDefinition, at: int = MAY - 2 * DAY) -> Event:
    document = project.model_dump(mode="json")
    fact = ProjectApplied(
        project=project.charter.name, definition_id=project.id, definition=document, applied_by="dana"
    )
    return fact_event(fact, at)


class World(Generic[S]):
    """The watch over one model on a store that outlives it."""

    def __init__(self, store: S, artifacts: Artifacts, project: ProjectDefinition | None = None) -> None:
        self.project = project or storms(monitoring=usual())
        self.store, self.artifacts = store, artifacts
        self.address = artifacts.put(profile())
        self.places: dict[Partition, int] = {}

    async def told(self, *events: Event) -> None:
        """Take facts of the registry, as the control plane does."""
        for event in events:
            async with self.store.transaction() as book:
                await redeclare(book, event)
                await book.record(event)
                await close_replaced(book, event)
                await warn(book, event)

    async def begun(self) -> Self:
        """Register two versions and put the first into production; start watching."""
        versions = registered(1, self.address), registered(2, self.address)
        await self.told(applied(self.project), *versions, promoted(1), activated(1))
        return await self.started()

    async def started(self) -> Self:
        """Start anew from what is stored."""
        self.fold = Fold(self.project, "storm")
        state = await self.store.state("storm")
        if state is not None:
            self.fold.restore(state)
        self.watching = Watching(self.fold, "weather", self.store, self.artifacts)
        self.places = self.fold.reader.offsets()
        return self

    async def play(
        self, said: Iterable[Said], *, seed: int = 0, crashes: float = 0.0, most: int = 60, checkpoints: float = 0.2
    ) -> Self:
        """Hand over the logs in batches of chance, and crash by chance: before, between and after checkpoints."""
        chance, logs = random.Random(seed), records(tuple(said))
        while open_ := [place for place in PLACES if self.places[place] < len(logs[place])]:
            chosen = chance.sample(open_, chance.randint(1, len(open_)))
            batch = [record for place in chosen for record in self._next(logs, place, chance.randint(1, most))]
            lag = {place: len(logs[place]) - self.places[place] for place in PLACES}
            await self.watching.on_records(batch, lag=lag)
            if chance.random() < checkpoints:
                await self.watching.checkpoint()
            if chance.random() < crashes:
                await self.started()
        return self

    def _next(self, logs: Logs, place: Partition, count: int) -> Sequence[Taken]:
        first = self.places[place]
        self.places[place] = min(first + count, len(logs[place]))
        return logs[place][first : first + count]

    @property
    def own(self: "World[MemoryStore]") -> list[Event]:
        """The events that monitoring made."""
        return [event for event in self.store.events if event.envelope.source == "/mainstem/monitoring"]

    def facts(self: "World[MemoryStore]", kind: type[F]) -> list[F]:
        return [event.fact for event in self.own if isinstance(event.fact, kind)]
