"""The decisions of the year as rows of the summary, made of the events that announced them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel

from mainstem.events.envelope import Event
from mainstem.events.fact import Fact
from mainstem.events.features import VectorsChecked
from mainstem.events.instants import parse, render
from mainstem.events.monitoring import AlertOpened, RetrainingAsked, WindowJudged
from mainstem.events.registry import ChangeRefused, VersionPromoted, VersionRegistered
from mainstem.events.serving import DeploymentActivated, DeploymentRefused
from mainstem.events.training import RunFailed, TrainingRequested

Kind = TypeVar("Kind", bound=Fact)


class Evaluation(BaseModel):
    """What a version showed on the rows that were held out."""

    auc: float


class Evidence(BaseModel):
    """What is read of the evidence of a version; `rows` are those it was made with, held out ones included."""

    rows: int
    evaluation: Evaluation


@dataclass(frozen=True, slots=True)
class Training:
    """A run and what became of it; `decision` is promoted, refused, failed or pending."""

    run: str
    cause: str
    rows: int | None
    auc: float | None
    version: int | None
    onnx_sha256: str | None
    decision: str
    reasons: list[str]


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert; `at` in log time, `evidence` the natural logarithm of the e-value."""

    at: str
    version: int
    kind: str
    evidence: float
    response: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Window:
    """A window of event time as monitoring judged it; `figures` are monitoring's own."""

    end_us: int
    version: int
    figures: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Check:
    """What the standing check of a feature set told: rows, values in them, and those that follow otherwise."""

    events: int
    fraction: float
    rows: int
    cells: int
    differing: int
    first_difference: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Activation:
    """A version that answers from an instant of recorded time on (µs since 1970); `onnx` is its content address."""

    version: int
    effective_us: int
    onnx: str


def activations(seen: Sequence[Event]) -> list[Activation]:
    """Return the versions that answered, in their order."""
    found = [
        Activation(fact.version, parse(fact.effective_from), fact.onnx) for _, fact in _of(seen, DeploymentActivated)
    ]
    return sorted(found, key=lambda one: one.effective_us)


def check(seen: Sequence[Event], feature_set: str) -> Check:
    """Return all that was told of the rows of a feature set."""
    told = [fact for _, fact in _of(seen, VectorsChecked) if fact.feature_set == feature_set]
    wrong = [fact.first_difference for fact in told if fact.first_difference is not None]
    return Check(
        events=len(told),
        fraction=max((fact.fraction for fact in told), default=0.0),
        rows=sum(fact.rows for fact in told),
        cells=sum(fact.cells for fact in told),
        differing=sum(fact.differing for fact in told),
        first_difference=wrong[0].model_dump(mode="json") if wrong else None,
    )


def windows(seen: Sequence[Event]) -> list[Window]:
    """Return the windows that some version answered in."""
    judged = [fact for _, fact in _of(seen, WindowJudged) if fact.version is not None]
    return [Window(parse(fact.end), fact.version or 0, fact.figures) for fact in judged]


def trainings(seen: Sequence[Event]) -> list[Training]:
    """Return all runs in the order in which they were asked for."""
    return [_training(seen, fact) for _, fact in _of(seen, TrainingRequested)]


def _training(seen: Sequence[Event], asked: TrainingRequested) -> Training:
    version = next((fact for _, fact in _of(seen, VersionRegistered) if fact.run == asked.run), None)
    if version is None:
        failed = [fact.reason for _, fact in _of(seen, RunFailed) if fact.run == asked.run]
        return Training(asked.run, asked.cause, None, None, None, None, "failed" if failed else "pending", failed)
    evidence = Evidence.model_validate(version.evidence)
    return Training(
        run=asked.run,
        cause=asked.cause,
        rows=evidence.rows,
        auc=evidence.evaluation.auc,
        version=version.version,
        onnx_sha256=version.onnx.removeprefix("sha256:"),
        decision=_decision(seen, version),
        reasons=_reasons(seen, version),
    )


def _decision(seen: Sequence[Event], version: VersionRegistered) -> str:
    if any(fact.version == version.version for _, fact in _of(seen, VersionPromoted)):
        return "promoted"
    return "refused" if version.stage == "refused" or _reasons(seen, version) else "pending"


def _reasons(seen: Sequence[Event], version: VersionRegistered) -> list[str]:
    """Return why a version did not go into production, or not as it was asked for."""
    gates = [f"{gate.name}: {gate.detail}" for gate in version.gates if not gate.passed]
    rules = [(fact.version, fact.rule, fact.reason) for _, fact in _of(seen, ChangeRefused)]
    rules += [(fact.version, fact.rule, fact.reason) for _, fact in _of(seen, DeploymentRefused)]
    return gates + [f"{rule}: {reason}" for number, rule, reason in rules if number == version.version]


def alerts(seen: Sequence[Event]) -> list[Alert]:
    """Return all alerts in the order in which they were opened."""
    return [_alert(seen, event, fact) for event, fact in _of(seen, AlertOpened)]


def _alert(seen: Sequence[Event], event: Event, fact: AlertOpened) -> Alert:
    outcome = fact.outcome
    for asked, asking in _of(seen, RetrainingAsked):
        if asking.alert == fact.alert:
            runs = [
                run for caused, run in _of(seen, TrainingRequested) if caused.envelope.causation == asked.envelope.id
            ]
            outcome = _told(_training(seen, runs[0])) if runs else "asked"
    at = render(event.envelope.recorded_us)
    return Alert(at, fact.version, fact.kind, round(fact.evidence, 3), fact.response, outcome)


def _told(training: Training) -> str:
    made = f"version {training.version}" if training.version else f"run {training.run}"
    return f"retrained: {made} {training.decision}"


def _of(seen: Sequence[Event], kind: type[Kind]) -> list[tuple[Event, Kind]]:
    return [(event, event.fact) for event in seen if isinstance(event.fact, kind)]
