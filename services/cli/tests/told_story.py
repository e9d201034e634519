"""The log of one answer and of all that it rests on, as the platform would have written it: some hundred entries."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from mainstem.audit.copying import Choice, Copy
from mainstem.events.catalogue import encode
from mainstem.events.data import RecordAccepted
from mainstem.events.envelope import Event, begin, follow
from mainstem.events.fact import Fact
from mainstem.events.features import OrderJournalled, RowComputed
from mainstem.events.frames import Entry, frame
from mainstem.events.ids import content_id
from mainstem.events.instants import render
from mainstem.events.ledger import ReceiptIssued
from mainstem.events.monitoring import AlertOpened, WindowJudged
from mainstem.events.registry import (
    DeploymentSet,
    GateResult,
    ProjectApplied,
    VersionApproved,
    VersionPromoted,
    VersionRegistered,
)
from mainstem.events.serving import DeploymentActivated, Predicted
from mainstem.events.training import DatasetBuilt, RunCompleted, StepCompleted, TrainingRequested
from mainstem.feature_engine.reference import Applied, Reference
from mainstem.features.history import History
from mainstem.ledger import Frontier, leaf_hashes
from mainstem.ledger.checkpoint import Checkpoint
from mainstem.ledger.entry import entry_of
from mainstem.ledger.note import Note
from mainstem.project import ProjectDefinition, load_folder
from mainstem.serving.engine import Model
from mainstem.testkit.cosigner import LOG, WITNESS
from mainstem.training.onnx_export import to_onnx

FLIGHTS = Path(__file__).parents[3] / "projects" / "flights"
MAY = 1_367_366_400_000_000
HOUR = 3_600_000_000
DAY = 24 * HOUR
MODEL = "arrival_delay"
FLIGHT = "2013-05-01-UA-60-EWR"
SET = "sha256:" + "5" * 64
LOG_KEY, WITNESS_KEY = LOG.log_key.vkey(), WITNESS.witness_key.vkey()

EVIDENCE: dict[str, object] = {
    "evaluation": {"n": 90, "auc": 0.9, "ece": 0.02},
    "parity": {"rows": 90, "flips": 0},
    "incumbent": {"onnx": "sha256:1", "rows": 90, "difference": 0.02, "low": 0.01, "high": 0.03, "confidence": 0.95},
}
GATES = [
    GateResult(name="min_auc", passed=True, figure=0.9, limit=0.85, detail="0.9 >= 0.85"),
    GateResult(name="not_worse_than_incumbent", passed=True, figure=0.01, limit=-0.005, detail="0.01 >= -0.005"),
    GateResult(name="calibration", passed=True, figure=0.02, limit=0.05, detail="0.02 <= 0.05"),
    GateResult(name="parity", passed=True, figure=0, limit=0, detail="0 <= 0"),
]

#: Changes facts by the names of the events: `{"approval": lambda fact: ...}`; None leaves the event out.
Changes = Mapping[str, Callable[[Fact], Fact] | None]


@cache
def project() -> ProjectDefinition:
    return load_folder(FLIGHTS)


@cache
def onnx() -> bytes:
    """Return a model of the features of the project, with splits of its own."""
    width = len(project().feature_sets["flight_delay"].compiled.names)
    rows = np.random.default_rng(1).normal(size=(400, width))
    fitted = HistGradientBoostingClassifier(max_iter=5, random_state=1).fit(rows, rows[:, 0] + rows[:, 3] > 0)
    return to_onnx(fitted)


@dataclass
class Story:
    """Entries in the order of the log."""

    changes: Changes = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    ids: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Fact] = field(default_factory=dict)
    applied: int = 0
    journalled: int = 0
    _offsets: dict[str, int] = field(default_factory=dict)

    def append(self, topic: str, key: bytes | None, value: bytes | None, headers: object) -> int:
        """Append a record to the one partition of a topic; return its offset."""
        offset = self._offsets[topic] = self._offsets.get(topic, -1) + 1
        self.entries.append(Entry(topic, 0, offset, 7, key, value, tuple(headers)))  # type: ignore[call-overload]
        return offset

    def tell(
        self,
        name: str,
        fact: Fact,
        at_us: int,
        *,
        cause: Event | None = None,
        time_us: int | None = None,
        origin: str | None = None,
    ) -> Event:
        """Append an event unless the changes leave it out; return it."""
        change = self.changes.get(name, lambda same: same)
        fact = fact if change is None else change(fact)
        event = begin(fact, command_id=name, source="/test", actor="test", recorded_us=at_us)
        if cause is not None:
            event = Event(replace(follow(cause.envelope, fact, source="/test").envelope, recorded_us=at_us), fact)
        event = Event(replace(event.envelope, time_us=time_us or at_us, origin=origin), fact)
        if change is not None:
            message = encode(event)
            self.append(message.topic, message.key, message.value, message.headers)
        self.ids[name], self.facts[name] = event.envelope.id, fact
        return event

    def record(self, source: str, time_us: int, record: dict[str, object]) -> Event:
        """Append a record of a source and, unless it is left out, the accepted one."""
        name, value = f"{source} {record.get('flight', time_us)}", json.dumps(record).encode()
        headers = (("ce_id", name.encode()), ("ce_time", render(time_us).encode()))
        offset = self.append(f"src.{source}", b"k", value, headers)
        fact = RecordAccepted(source=source, contract="sha256:c", record=record)
        return self.tell(name, fact, time_us + 60_000_000, time_us=time_us, origin=f"src.{source}/0/{offset}")

    def leaf(self, name: str) -> int:
        """Return where an event stands."""
        wanted = ("ce_id", self.ids[name].encode())
        return next(leaf for leaf, entry in enumerate(self.entries) if wanted in entry.headers)

    def note(self) -> Note:
        """Return a checkpoint over all entries."""
        tree = Frontier().append(leaf_hashes([entry_of(frame(entry)) for entry in self.entries]))
        text = Checkpoint(LOG.name, tree.size, tree.root()).text()
        return Note(text, (LOG.sign(text), WITNESS.cosign(text, 1_700_000_000)))

    def copy_to(self, folder: Path, topics: tuple[str, ...] | None = None) -> Path:
        """Write a copy of the log, or of some topics of it, and return where."""
        copy = Copy(folder, self.note(), Choice(range(len(self.entries)), topics))
        for entry in self.entries:
            data = frame(entry)
            copy.take(entry.topic, [data], leaf_hashes([entry_of(data)]))
        copy.finish()
        return folder


def story(changes: Changes | None = None) -> Story:
    """Return the log of an answer on the stream."""
    told = Story(changes or {})
    _made(told)
    _old_records(told)
    spine = _records(told)
    values = _values(told, spine)
    row = RowComputed(
        feature_set="flight_delay", definition=_set_id(), entity=FLIGHT, spine_id=spine.envelope.id, values=values
    )
    made = told.tell("row", row, spine.envelope.recorded_us, cause=spine, origin="src.flight_departed/0/0")
    _alerts(told)
    inputs = np.array([[np.nan if value is None else value for value in values]])
    score = float(Model(onnx(), len(values)).probabilities(inputs)[0, 1])
    answer = Predicted(
        **{"model": MODEL, "version": 2, "onnx": content_id(onnx()), "feature_definition": _set_id()},
        **{"channel": "stream", "entity": FLIGHT, "row": made.envelope.id, "score": score, "features": values},
        position="evt.feature.flight_delay/0/0",
    )
    told.tell("prediction", answer, spine.envelope.recorded_us, cause=made, origin="evt.feature.flight_delay/0/0")
    arrived = {"flight": FLIGHT, "carrier": "UA", "dest": "IAH", "tail": "N1", "arr_delay": 40}
    told.record("flight_arrived", spine.envelope.time_us + 4 * HOUR, arrived)
    return told


def _set_id() -> str:
    return project().feature_sets["flight_delay"].id


def _made(told: Story) -> None:
    """Tell how version 2 came into force."""
    named = {"model": MODEL, "project": "flights", "definition": project().id, "feature_set": _set_id()}
    run = {**named, "run": "run-2", "cause": "request", "dataset": "sha256:d", "onnx": content_id(onnx())}
    run |= {"profile": "sha256:p", "evidence": EVIDENCE}
    made = {"model": MODEL, "version": 2, "onnx": content_id(onnx())}
    definition = json.loads(project().canonical())
    applied = ProjectApplied(project="flights", definition_id=project().id, definition=definition, applied_by="dana")
    told.tell("project", applied, MAY - HOUR)
    told.tell("first promotion", VersionPromoted(model=MODEL, version=1, replaces=None, promoted_by="olga"), MAY - DAY)
    asked = TrainingRequested(
        run="run-2", model=MODEL, project="flights", cut=render(MAY - HOUR), cause="request", requested_by="rob"
    )
    told.tell("request", asked, MAY - HOUR)
    built = DatasetBuilt(
        **named, dataset="sha256:d", table="sha256:t", request="run-2", feature_set_label="flight_delay",
        cut=render(MAY - HOUR), rows=9, held_out=3, unlabelled=1, content="sha256:r", requested_by="rob",
    )  # fmt: skip
    told.tell("dataset", built, MAY - HOUR)
    for step in ("snapshot", "fit"):
        done = StepCompleted(
            run="run-2",
            model=MODEL,
            step=step,
            inputs={},
            outputs={},
            figures={},
            code="sha256:k",
            environment="sha256:e",
        )
        told.tell(f"step {step}", done, MAY - HOUR)
    told.tell("run", RunCompleted(**run, requested_by="rob"), MAY - HOUR)
    registered = VersionRegistered(**run, version=2, builders=["rob", "dana"], gates=GATES, stage="candidate")
    told.tell("registration", registered, MAY - HOUR)
    approved = told.tell("approval", VersionApproved(**made, approved_by="ann", comment="as it should be"), MAY - HOUR)
    told.tell("promotion", VersionPromoted(model=MODEL, version=2, replaces=1, promoted_by="olga"), MAY - HOUR)
    set_ = DeploymentSet(
        **{**made, "project": "flights", "profile": "sha256:p", "feature_set": "flight_delay", "features": []},
        **{"feature_definition": _set_id(), "approved_by": "ann", "effective_from": render(MAY)},
    )
    deployment = told.tell("deployment", set_, MAY - HOUR)
    begun = DeploymentActivated(**made, effective_from=render(MAY), from_offsets={})
    told.tell("activation", begun, MAY - HOUR, cause=deployment)
    proof = ReceiptIssued(
        event_id=approved.envelope.id, leaf=told.leaf("approval") if told.changes.get("approval", True) else 0,
        entry="", receipt="",
    )  # fmt: skip
    told.tell("receipt", proof, MAY - HOUR)


def _records(told: Story) -> Event:
    """Tell of weather, arrivals and departures, and in which order they were applied; return the last departure."""
    for number in range(3):
        weather = {"origin": "EWR", "wind": 4.0 + number, "visib": 2.0 - number}
        told.record("weather_observed", MAY + number * HOUR // 2, weather)
    for number in range(30):
        flight = {"flight": f"2013-05-01-UA-{number}-EWR", "carrier": "UA", "dest": "IAH", "tail": f"N{number % 4}"}
        told.record(
            "flight_arrived", MAY + number * HOUR // 10, {**flight, "arr_delay": number if number % 7 else None}
        )
    spine: Event | None = None
    for number in (*range(20), 55, 60):
        flight = {
            "flight": f"2013-05-01-UA-{number}-EWR",
            "carrier": "UA",
            "origin": "EWR",
            "dest": "IAH",
            "tail": "N1",
        }
        plan = {"sched_dep": render(MAY + number * HOUR // 10), "distance": 1_400, "dep_delay": number - 5}
        spine = told.record("flight_departed", MAY + number * HOUR // 10, flight | plan)
    # A record of the same key that was applied after the answered one does not count.
    later = {"flight": "2013-05-01-UA-99-EWR", "carrier": "UA", "dest": "IAH", "tail": "N1", "arr_delay": 999}
    told.record("flight_arrived", MAY + 6 * HOUR + 1, later)
    assert spine is not None
    _journal(told, MAY + 7 * HOUR)
    return spine


def _old_records(told: Story) -> None:
    """Tell of arrivals that no window reaches any more; each has an entry of the journal of its own."""
    for number, days in enumerate((60, 50, 40)):
        flight = {
            "flight": f"2013-03-0{number}-UA-0-EWR",
            "carrier": "UA",
            "dest": "IAH",
            "tail": "N1",
            "arr_delay": 500,
        }
        told.record("flight_arrived", MAY - days * DAY, flight)
        _journal(told, MAY - days * DAY + HOUR)


def _journal(told: Story, until_us: int) -> None:
    """Tell in which order the records were applied that no entry has yet."""
    accepted = [entry for entry in told.entries if entry.topic.startswith("evt.data.")]
    order = []
    for entry in accepted[told.applied :]:
        headers = dict(entry.headers)
        topic, _, offset = headers["ce_origin"].decode().split("/")
        order.append((headers["ce_recordedtime"], topic, int(offset)))
    order.sort()
    topics = sorted({topic for _, topic, _ in order})
    told.applied = len(accepted)
    entry = OrderJournalled(
        feature_set="flight_delay", definition=_set_id(), number=told.journalled, until=render(until_us),
        applied=told.applied, topics=topics, runs=[(topics.index(topic), 0, each, each) for _, topic, each in order],
    )  # fmt: skip
    told.journalled += 1
    told.tell("journal" if until_us > MAY else f"journal {until_us}", entry, until_us)


def _values(told: Story, spine: Event) -> list[float | None]:
    """Return the row of a departure: by the reference over the whole log."""
    compiled = project().feature_sets["flight_delay"].compiled
    history, reference = History(compiled), Reference(compiled.spec)
    history.offer([entry for entry in told.entries if entry.topic in history.topics])
    applied: list[Applied] = history.advance()
    for record in applied or history.rest():
        if getattr(record.place, "event_id", "") == spine.envelope.id:
            return reference.row(record)
        reference.apply(record)
    return [0.0] * len(compiled.names)


def _alerts(told: Story) -> None:
    """Tell of a judged window and two alerts, one of which was known only after the answer."""
    for name, at_us in (("window", MAY + HOUR), ("later window", MAY + 30 * HOUR)):
        judged = WindowJudged(
            model=MODEL, version=2, start=render(MAY - HOUR), end=render(MAY), predictions=9, labelled=8,
            figures={"auc": 0.8, "drift": {"wind": 1.5}},
        )  # fmt: skip
        told.tell(name, judged, at_us)
    for name, at_us in (("alert", MAY + HOUR), ("later alert", MAY + 30 * HOUR)):
        opened = AlertOpened(
            alert=name, model=MODEL, version=2, kind="feature_drift", evidence=9.5, threshold=9.2, contributors=[],
            window_end=render(MAY), response="retrain", outcome="asked",
        )  # fmt: skip
        told.tell(name, opened, at_us)
