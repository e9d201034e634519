"""A small log in which everything happens once, written by the services' own writers where records flow."""

import json
from collections.abc import Sequence
from itertools import count

import numpy as np

from mainstem.events.catalogue import encode
from mainstem.events.data import ProgressReached
from mainstem.events.envelope import Envelope, Event, Message, begin, follow
from mainstem.events.fact import Fact
from mainstem.events.features import OrderJournalled, VectorsChecked
from mainstem.events.frames import Entry
from mainstem.events.ids import child_id, content_id
from mainstem.events.instants import parse, render
from mainstem.events.ledger import CheckpointPublished, ReceiptIssued
from mainstem.events.monitoring import AlertClosed, AlertOpened, RetrainingAsked, WindowJudged
from mainstem.events.registry import (
    ChangeRefused,
    DeploymentSet,
    GateResult,
    VersionApproved,
    VersionPromoted,
    VersionRegistered,
)
from mainstem.events.serving import DeploymentActivated
from mainstem.events.training import (
    DatasetBuilt,
    DatasetRequested,
    RunCompleted,
    RunFailed,
    StepCompleted,
    TrainingRequested,
)
from mainstem.features.rows import RowWriter
from mainstem.ingestion.domain import PartitionState
from mainstem.ingestion.engine import Judge
from mainstem.project import ProjectDefinition
from mainstem.serving.domain import Activation
from mainstem.serving.forms import Form
from mainstem.serving.rows import Row
from mainstem.telemetry import Tracer
from mainstem.testkit.examples import example
from mainstem.testkit.projects import applied, storms
from mainstem.testkit.records import Taken

TRACER = Tracer("test", None)
DAY_US = 86_400_000_000
START_US = parse("2013-05-01T00:00:00.000000Z")
MODEL, LABEL = "storm", "gusts"
ONNX, PROFILE = content_id(b"onnx"), content_id(b"profile")
DATASET, TABLE = content_id(b"manifest"), content_id(b"table")
STORY_GATE = GateResult(name="auc", passed=True, figure=0.8, limit=0.7, detail="0.8 is at least 0.7")
CODE, ENVIRONMENT = content_id(b"code"), content_id(b"environment")


def at(hours: float) -> int:
    """Return an instant of the story, µs."""
    return START_US + int(hours * 3_600_000_000)


class Story:
    """A log that is written; leaves are given out in the order of writing."""

    def __init__(self, definition: ProjectDefinition | None = None) -> None:
        self.definition = definition or storms()
        self.feature_set = self.definition.feature_sets[LABEL]
        self.entries: list[Entry] = []
        self.ids: dict[str, str] = {}
        self._offsets: dict[tuple[str, int], int] = {}
        self._states: dict[str, PartitionState] = {}
        self._numbers = count()

    def append(self, message: Message) -> int:
        """Write a message; return its leaf."""
        where = message.topic, message.partition or 0
        offset = self._offsets.get(where, 0)
        self._offsets[where] = offset + 1
        broker_ms = (START_US + 400 * DAY_US) // 1000
        self.entries.append(Entry(*where, offset, broker_ms, message.key, message.value, tuple(message.headers)))
        return len(self.entries) - 1

    def say(self, name: str, event: Event) -> Event:
        """Write an event and remember its id."""
        self.ids[name] = event.envelope.id
        self.append(encode(event))
        return event

    def command(self, name: str, fact: Fact, hours: float, actor: str) -> Event:
        """Write the event of a command from outside."""
        number = next(self._numbers)
        return self.say(name, begin(fact, command_id=f"{number:032x}", source="/t", actor=actor, recorded_us=at(hours)))

    def followed(self, name: str, cause: Event, fact: Fact, step: str = "") -> Event:
        """Write the event that another led to."""
        return self.say(name, follow(cause.envelope, fact, source="/mainstem/test", name=step))

    def happened(self, name: str, fact: Fact, hours: float, *, cause: str, event_id: str | None = None) -> Event:
        """Write an event of monitoring."""
        identity = event_id or child_id(f"{cause}/{name}", fact.TYPE)
        times = at(hours), at(hours)
        source = "/mainstem/monitoring"
        envelope = Envelope(identity, fact.TYPE, source, fact.key, *times, "story", cause, source)
        return self.say(name, Event(envelope, fact))

    def record(self, name: str, source: str, fields: dict[str, object], hours: float, **headers: str) -> str:
        """Write a record of a source and what ingestion makes of it; return the id of that, or of the quarantine."""
        key = str(fields["sensor"]).encode()
        given = {"specversion": "1.0", "id": name, "time": render(at(hours)), "recordedtime": render(at(hours))}
        pairs = tuple((f"ce_{key_}", text.encode()) for key_, text in {**given, **headers}.items())
        leaf = self.append(Message(f"src.{source}", key, json.dumps(fields).encode(), pairs, 0))
        entry = self.entries[leaf]
        contract = self.definition.sources[source]
        state = self._states.setdefault(source, PartitionState.load(contract.unique_within, None))
        outcome = Judge(contract, TRACER).judge([entry], [dict(entry.headers)], state)
        leaves = [self.append(message) for message in outcome.messages]
        self.ids[name] = dict(self.entries[leaves[0]].headers)["ce_id"].decode()
        return self.ids[name]

    def row(self, name: str, spine: str) -> None:
        """Write the row of an accepted record."""
        entry = next(e for e in self.entries if dict(e.headers).get("ce_id") == self.ids[spine].encode())
        writer, headers = RowWriter(self.feature_set.compiled, TRACER), dict(entry.headers)
        taken = Taken(entry.topic, entry.partition, entry.offset, entry.value, entry.key, entry.headers)
        (payload,) = writer.payloads([(taken, headers)], np.array([[12.5]]))
        message = writer.row(taken, headers, payload)
        self.append(message)
        self.ids[name] = dict(message.headers)["ce_id"].decode()

    def predict(self, name: str, row: str, version: int = 1) -> None:
        """Write the prediction on a row."""
        entry = next(e for e in self.entries if dict(e.headers).get("ce_id") == self.ids[row].encode())
        headers = dict(entry.headers)
        payload = json.loads(entry.value or b"")
        activation = Activation("d", MODEL, version, ONNX, LABEL, self.feature_set.id, ("wind",), 0, {})
        taken = Taken(entry.topic, entry.partition, entry.offset, entry.value, entry.key, entry.headers)
        recorded_us = parse(headers["ce_recordedtime"].decode())
        read = Row(0, taken, headers, recorded_us, payload["definition"], payload["entity"], b"[12.5]")  # type: ignore[arg-type]
        event_id, message = Form(activation).from_row(read, b"0.5", TRACER)
        self.append(message)
        self.ids[name] = event_id.decode()


def told() -> Story:
    """Return the whole story: from a source's record to the retraining that an alert asks for."""
    story = Story()
    definition, feature_set = story.definition.id, story.feature_set.id
    story.say("applied", applied(story.definition))
    for number in range(3):
        story.record(f"r{number}", "reading", {"sensor": f"s{number}", "wind": 10.0 + number}, number)
        story.row(f"w{number}", f"r{number}")
    story.record("broken", "reading", {"sensor": "s9", "wind": 999.0}, 3)
    story.record("mended", "reading", {"sensor": "s9", "wind": 99.0}, 3, replaces=story.ids["broken"])
    story.append(encode(story_marker(3)))
    story.record("o0", "outcome", {"sensor": "s0", "loss": 20.0}, 2)
    train(story, "run1", 24, definition, feature_set)
    deploy(story, 25)
    story.record("r5", "reading", {"sensor": "s5", "wind": 55.0}, 30)
    story.row("w5", "r5")
    story.predict("p5", "w5")
    story.record("o5", "outcome", {"sensor": "s5", "loss": 1.0}, 32)
    alarm(story)
    close(story, feature_set)
    return story


def story_marker(hours: float) -> Event:
    """Return a marker of progress."""
    fact = ProgressReached(until=render(at(hours)))
    return Event(Envelope("m", fact.TYPE, "/t", "k", at(hours), at(hours), "c", "c", "/t"), _on_topic(fact))


class _Marker(ProgressReached):
    TOPIC = "evt.data.reading"


def _on_topic(fact: ProgressReached) -> Fact:
    return _Marker(until=fact.until)


def train(story: Story, run: str, hours: float, definition: str, feature_set: str) -> Event:
    """Write a run and the version that comes of it."""
    asked = TrainingRequested(
        run=run, model=MODEL, project="weather", cut=render(at(hours)), cause="request", requested_by="ben"
    )
    request = story.command(f"{run} asked", asked, hours, "ben")
    return perform(story, request, run, definition, feature_set)


def perform(story: Story, request: Event, run: str, definition: str, feature_set: str) -> Event:
    """Write what comes of a request for a run."""

    def step(name: str, inputs: dict[str, str], outputs: dict[str, str]) -> None:
        fact = StepCompleted(
            run=run,
            model=MODEL,
            step=name,
            inputs=inputs,
            outputs=outputs,
            figures={},
            code=CODE,
            environment=ENVIRONMENT,
        )
        story.followed(f"{run} {name}", request, fact, name)

    step("snapshot", {}, {"dataset": DATASET, "table": TABLE})
    story.followed(f"{run} dataset", request, dataset_built(run, definition, feature_set), "snapshot")
    step("fit", {"dataset": DATASET}, {"onnx": ONNX})
    step("evaluate", {"dataset": DATASET, "onnx": ONNX}, {"profile": PROFILE})
    parts = {"run": run, "model": MODEL, "project": "weather", "definition": definition, "feature_set": feature_set}
    made = {"dataset": DATASET, "onnx": ONNX, "profile": PROFILE, "evidence": {}}
    cause = {"cause": "request"}
    completed = story.followed(f"{run} done", request, RunCompleted(**parts, **made, **cause, requested_by="ben"), "c")
    registered = VersionRegistered(
        **parts, **made, **cause, version=1, builders=["ann", "ben"], gates=[STORY_GATE], stage="candidate"
    )
    return story.followed("registered", completed, registered)


def dataset_built(request: str, definition: str, feature_set: str) -> DatasetBuilt:
    """Return the fact that the dataset is there."""
    return example(
        DatasetBuilt,
        dataset=DATASET,
        table=TABLE,
        request=request,
        model=MODEL,
        project="weather",
        definition=definition,
        feature_set=feature_set,
        feature_set_label=LABEL,
        cut=render(at(24)),
        requested_by="ben",
    )


def deploy(story: Story, hours: float) -> None:
    """Write approval, promotion, deployment and activation of version 1."""
    story.command("approved", VersionApproved(model=MODEL, version=1, onnx=ONNX, approved_by="cat"), hours, "cat")
    promoted = story.command(
        "promoted", VersionPromoted(model=MODEL, version=1, replaces=None, promoted_by="dan"), hours, "dan"
    )
    fact = example(
        DeploymentSet,
        model=MODEL,
        version=1,
        project="weather",
        onnx=ONNX,
        profile=PROFILE,
        feature_set=LABEL,
        feature_definition=story.feature_set.id,
        effective_from=render(at(hours)),
        arms=[],
    )
    deployed = story.followed("deployed", promoted, fact)
    activated = DeploymentActivated(
        model=MODEL, version=1, onnx=ONNX, effective_from=render(at(hours)), from_offsets={"0": 3}
    )
    story.followed("activated", deployed, activated)


def alarm(story: Story) -> None:
    """Write the window that judges the prediction, the alert on it, and the run that is asked for."""
    start, end = render(at(24)), render(at(48))
    judged = WindowJudged(model=MODEL, version=1, start=start, end=end, predictions=1, labelled=1, figures={})
    window = story.happened("window", judged, 56, cause=f"{MODEL}/1/{end}")
    opened = example(AlertOpened, alert="alert1", model=MODEL, version=1, kind="performance_loss", window_end=end)
    alert = story.happened("alert", opened, 56, cause=window.envelope.id)
    asked = RetrainingAsked(alert="alert1", model=MODEL, project="weather", kind="performance_loss", cut=end)
    response = story.happened("response", asked, 56, cause=alert.envelope.id)
    request = TrainingRequested(
        run="run2", model=MODEL, project="weather", cut=end, cause="performance_loss", requested_by="monitoring"
    )
    run = story.followed("run2 asked", response, request)
    story.followed("run2 failed", run, RunFailed(run="run2", model=MODEL, step="fit", reason="no labels"), "failed")


def close(story: Story, feature_set: str) -> None:
    """Write what else there is in a log."""
    journal = example(OrderJournalled, feature_set=LABEL, definition=feature_set, runs=[(0, 0, 0, 3)])
    entry = story.happened("journal", journal, 57, cause="journal/0")
    checked = example(VectorsChecked, feature_set=LABEL, definition=feature_set, first_difference=None)
    story.followed("checked", entry, checked)
    refused = example(ChangeRefused, model=MODEL, version=1, request="approve", requested_by="ben", impact=None)
    story.command("refused", refused, 58, "ben")
    request = example(DatasetRequested, request="request1", model=MODEL, definition=story.definition.id)
    asked = story.command("dataset asked", request, 59, "eve")
    story.followed("dataset again", asked, dataset_built("request1", story.definition.id, feature_set))
    story.happened("closed", AlertClosed(alert="alert1", model=MODEL, reason="gone"), 60, cause="alert1")
    story.command("checkpoint", example(CheckpointPublished, size=10), 61, "/mainstem/ledger")
    story.command("receipt", example(ReceiptIssued, event_id=story.ids["promoted"], leaf=9), 61, "/mainstem/ledger")


def dealt(entries: Sequence[Entry], size: int) -> list[tuple[int, Sequence[Entry]]]:
    """Return entries in batches, each with its first leaf."""
    return [(first, entries[first : first + size]) for first in range(0, len(entries), size)]
