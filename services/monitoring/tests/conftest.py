"""A model that is watched, what it says and what turns out, day by day, and the watch over it without a process."""

import json
import random
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import expit

from mainstem.events.envelope import Envelope, Event
from mainstem.events.ids import child_id
from mainstem.events.instants import render
from mainstem.events.registry import ProjectApplied, VersionPromoted, VersionRegistered
from mainstem.events.serving import DeploymentActivated
from mainstem.feature_engine.spec import feature_set
from mainstem.monitoring.engine import Fold
from mainstem.monitoring.handlers import Watching, close_replaced
from mainstem.monitoring.memory import MemoryStore
from mainstem.project import (
    Charter,
    Estimator,
    FeatureSetDefinition,
    Gates,
    Label,
    Monitoring,
    Owners,
    ProjectDefinition,
    Risk,
    Serving,
    Value,
    category,
    fixed,
    model,
    source,
)
from mainstem.storage import Artifacts
from mainstem.testkit.records import Taken
from mainstem.training.engine import reference_profile

#: 2013-05-01T00:00:00Z
MAY = 1_367_366_400_000_000
MINUTE = 60_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WAIT = 6 * HOUR
ROWS = 200

PREDICTIONS, LABELS = "tel.prediction.storm", "evt.data.outcome"
#: Everything that is read for the model: topic and partition.
PLACES = ((PREDICTIONS, 0), (PREDICTIONS, 1), (LABELS, 0))


def definition(*, replay=True, window=DAY, cooldown=2 * DAY, responses=None):
    """Return a project with one model, judged daily six hours after the day."""
    sensor = category("the sensor")
    wind = {"sensor": sensor, "wind": fixed("wind", unit="mph", lo=-10, hi=200)}
    damage = {"sensor": sensor, "loss": fixed("loss", unit="eur", lo=0, hi=1000, nullable=True)}
    reading = source("reading", key="sensor", columns=wind, partitions=2, replay=replay)
    outcome = source("outcome", key="sensor", columns=damage, partitions=1, replay=replay)
    spine = reading.stream()
    compiled = feature_set("gusts", spine=spine, lateness="1h")(type("Features", (), {"wind": spine.wind})).compile()
    storm = model(
        "storm",
        feature_set="gusts",
        label=Label(source="outcome", key="sensor", column="loss", above=10, wait=WAIT),
        training_window="10d",
        evaluation_window="1d",
        estimator=Estimator(),
        gates=Gates(min_auc=0.7, max_auc_loss=0.01, confidence=0.95, max_calibration_error=0.05),
        seed=1,
    )
    return ProjectDefinition(
        charter=Charter(
            name="weather",
            purpose="Warn of storms.",
            owners=Owners(technical="weather-team", business="harbour"),
            risk=Risk(impact=1, autonomy=1, reversibility=1, regulatory_exposure=1),
            value=Value(currency="EUR", true_positive=1, false_positive=-1, true_negative=0, false_negative=-1),
        ),
        sources={part.name: part for part in (reading, outcome)},
        feature_sets={"gusts": FeatureSetDefinition(id=compiled.id, spec=compiled.spec)},
        models={"storm": storm},
        serving=Serving(latency_ms=50),
        monitoring=Monitoring(
            window=window,
            false_alarms_per_100_windows=1,
            cooldown=cooldown,
            min_labelled=50,
            responses={"feature_drift": "retrain"} if responses is None else responses,
        ),
    )


def profile():
    """Return the reference profile of every version: one feature, and truth as the score says."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=30 * ROWS)
    p = expit(x)
    y = (rng.random(len(p)) < p).astype(np.int64)
    return json.dumps(reference_profile(x[:, None], p, y, np.repeat(np.arange(30), ROWS), ["wind"])).encode()


def prediction(entity, at, *, version=1, wind=0.0, score=None, channel="stream", part=0, recorded=None):
    """Return what is to stand in the log: (place, recorded time, event time, payload)."""
    fact = {
        "model": "storm",
        "version": version,
        "channel": channel,
        "entity": entity,
        "features": [wind],
        "score": float(expit(wind)) if score is None else score,
    }
    return (PREDICTIONS, part), at + MINUTE if recorded is None else recorded, at, json.dumps(fact).encode()


def label(entity, at, loss):
    """Return a label as it is to stand in the log, known when it happens."""
    return (LABELS, 0), at, at, json.dumps({"source": "outcome", "record": {"sensor": entity, "loss": loss}}).encode()


def marker(until):
    """Return the announcement, in every partition, that nothing up to an instant follows."""
    return [(place, until, None, json.dumps({"until": render(until)}).encode()) for place in PLACES]


def day(number, *, shift=0.0, version=1, rows=ROWS, seed=0):
    """Return predictions of one day with labels three hours later, and the end of the day announced."""
    rng, start = np.random.default_rng([seed, number]), MAY + number * DAY
    x = rng.normal(shift, size=rows)
    truth = rng.random(rows) < expit(x)
    said = []
    for at, (wind, positive) in enumerate(zip(x.tolist(), truth.tolist(), strict=True)):
        entity, time = f"{number}-{at}", start + at * (DAY // rows)
        said.append(prediction(entity, time, version=version, wind=wind, part=at % 2))
        said.append(label(entity, time + 3 * HOUR, 20 if positive else 0))
    return [*said, *marker(start + DAY - 1)]


def records(said):
    """Return the log of each partition, in the order in which things became known."""
    logs = {place: [] for place in PLACES}
    for place, recorded, time, payload in sorted(said, key=lambda one: one[1]):
        headers = {"ce_type": "mainstem.data.progress.v1"}
        offset = len(logs[place])
        if time is not None:
            origin = f"origin/{place[0]}/{place[1]}/{offset}"
            headers = {"ce_id": origin, "ce_time": render(time), "ce_recordedtime": render(recorded)}
            headers["ce_origin"] = origin
        pairs = tuple((name, value.encode()) for name, value in headers.items())
        logs[place].append(Taken(*place, offset, payload, b"key", pairs))
    return logs


def fact_event(fact, at, name=""):
    """Return an event of the registry."""
    event_id = child_id(f"{fact.key}{name}{at}", fact.TYPE)
    return Event(Envelope(event_id, fact.TYPE, "/registry", fact.key, at, at, "story", "cause", "ann"), fact)


def registered(version, address):
    fact = VersionRegistered(
        model="storm",
        version=version,
        run=f"run{version}",
        cause="request",
        project="weather",
        definition="d",
        feature_set="f",
        dataset="x",
        onnx=f"o{version}",
        profile=address,
        evidence={},
        builders=[],
        gates=[],
        stage="candidate",
    )
    return fact_event(fact, MAY - DAY, str(version))


def promoted(version, at=MAY - HOUR, replaces=None):
    fact = VersionPromoted(model="storm", version=version, replaces=replaces, promoted_by="ann")
    return fact_event(fact, at, str(version))


def activated(version, at=MAY - HOUR):
    fact = DeploymentActivated(
        model="storm", version=version, onnx=f"o{version}", effective_from=render(at), from_offsets={}
    )
    return fact_event(fact, at, str(version))


def applied(project):
    document = project.model_dump(mode="json")
    fact = ProjectApplied(project="weather", definition_id=project.id, definition=document, applied_by="dana")
    return fact_event(fact, MAY - 2 * DAY)


class World:
    """The watch over one model on a store that outlives it."""

    def __init__(self, project, store, artifacts):
        self.project, self.store, self.artifacts = project, store, artifacts
        self.address = artifacts.put(profile())
        self.places = {}

    async def told(self, *events):
        """Take facts of the registry, as the control plane does."""
        for event in events:
            async with self.store.transaction() as book:
                await book.record(event)
                await close_replaced(book, event)

    async def begun(self):
        """Register two versions and put the first into production; start watching."""
        versions = registered(1, self.address), registered(2, self.address)
        await self.told(applied(self.project), *versions, promoted(1), activated(1))
        return await self.started()

    async def started(self):
        """Start anew from what is stored."""
        self.fold = Fold(self.project, "storm")
        state = await self.store.state("storm")
        if state is not None:
            self.fold.restore(state)
        self.watching = Watching(self.fold, "weather", self.store, self.artifacts)
        self.places = self.fold.reader.offsets()
        return self

    async def play(self, said, *, seed=0, crashes=0.0, most=60, checkpoints=0.2):
        """Hand over the logs in batches of chance, and crash by chance: before, between and after checkpoints."""
        chance, logs = random.Random(seed), records(said)
        while open_ := [place for place in PLACES if self.places[place] < len(logs[place])]:
            batch = []
            for place in chance.sample(open_, chance.randint(1, len(open_))):
                count = chance.randint(1, most)
                batch += logs[place][self.places[place] : self.places[place] + count]
                self.places[place] = min(self.places[place] + count, len(logs[place]))
            lag = {place: len(logs[place]) - self.places[place] for place in PLACES}
            await self.watching.on_records(batch, lag=lag)
            if chance.random() < checkpoints:
                await self.watching.checkpoint()
            if chance.random() < crashes:
                await self.started()
        return self

    @property
    def own(self):
        """The events that monitoring made."""
        return [event for event in self.store.events if event.envelope.source == "/mainstem/monitoring"]

    def facts(self, kind):
        return [event.fact for event in self.own if isinstance(event.fact, kind)]


@pytest.fixture
def world(tmp_path):
    """Return a maker of worlds; the project's settings may be changed."""

    def make(store=None, **settings):
        return World(definition(**settings), store or MemoryStore(), Artifacts(tmp_path / "artifacts"))

    return make


@pytest.fixture(scope="session")
def say():
    """Return the vocabulary of the tests."""
    return SimpleNamespace(
        prediction=prediction,
        label=label,
        marker=marker,
        day=day,
        registered=registered,
        promoted=promoted,
        activated=activated,
        applied=applied,
        definition=definition,
        records=records,
        World=World,
    )
