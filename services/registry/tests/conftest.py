"""A small project, the runs of its model, and people with one right each."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from mainstem.auth import Principal, Role
from mainstem.events.envelope import Event, begin
from mainstem.events.training import DatasetBuilt, RunCompleted
from mainstem.feature_engine import feature_set
from mainstem.project import ProjectDefinition
from mainstem.testkit.clock import HOUR, MAY
from mainstem.testkit.examples import example
from mainstem.testkit.projects import storms

Define = Callable[..., ProjectDefinition]
Beside = Callable[[ProjectDefinition], ProjectDefinition]
Run = Callable[..., Event]


@pytest.fixture
def define() -> Define:
    """Return a maker of definitions whose model has two features."""
    return partial(storms, mean_over="1h")


@pytest.fixture
def beside() -> Beside:
    """Return what declares version 2 of the gusts beside version 1, read by the model from then on."""

    def declare(definition: ProjectDefinition) -> ProjectDefinition:
        spine = definition.sources["reading"].stream()
        second = feature_set("gusts", spine=spine, lateness="1h", version=2)(type("Gusts", (), {"wind": spine.wind}))
        compiled, document = second.compile(), definition.model_dump(mode="json")
        document["feature_sets"][compiled.label] = {"id": compiled.id, "spec": compiled.spec}
        document["models"]["storm"]["feature_set"] = compiled.label
        return ProjectDefinition.model_validate(document)

    return declare


@pytest.fixture
def run_of() -> Run:
    """Return a maker of completed runs, number `number`, one day after another."""

    def make(
        definition: ProjectDefinition, number: int = 1, *, by: str = "rob", auc: float = 0.8, against: str | None = None
    ) -> Event:
        comparison: dict[str, Any] | None = against and {  # type: ignore[assignment]
            "onnx": against, "rows": 100, "difference": 0.0, "low": -0.001, "high": 0.001, "confidence": 0.95
        }  # fmt: skip
        (storm,) = definition.models.values()
        fact = RunCompleted(
            run=f"run-{storm.name}-{number}",
            model=storm.name,
            project=definition.charter.name,
            cause="request",
            requested_by=by,
            definition=definition.id,
            feature_set=definition.feature_sets[storm.feature_set].id,
            dataset="sha256:data",
            onnx=f"sha256:{number}",
            profile="sha256:profile",
            evidence={
                "evaluation": {"n": 100, "auc": auc, "ece": 0.01},
                "parity": {"rows": 100, "flips": 0},
                "incumbent": comparison,
            },
        )
        return begin(fact, command_id=fact.run, source="/mainstem/training", actor=by, recorded_us=MAY + number * HOUR)

    return make


@pytest.fixture
def dataset_of() -> Callable[[ProjectDefinition], Event]:
    """Return a maker of the event that the dataset of the gusts was built."""

    def make(definition: ProjectDefinition) -> Event:
        (feature_set,) = definition.feature_sets.values()
        fact = example(DatasetBuilt, dataset=f"sha256:of {definition.charter.name}", feature_set=feature_set.id)
        return begin(fact, command_id=feature_set.id, source="/mainstem/training", actor="rob", recorded_us=MAY)

    return make


@pytest.fixture
def people() -> dict[str, Principal]:
    """Return people by name: dana builds and approves, ann and bea approve, olga operates, rob may do everything."""
    roles = {
        "dana": ["builder", "approver"],
        "ann": ["approver"],
        "bea": ["approver"],
        "olga": ["operator", "replay"],
        "rob": list(Role),
    }
    return {name: Principal(name, frozenset(Role(role) for role in held)) for name, held in roles.items()}
