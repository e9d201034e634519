"""A small project, the runs of its model, and people with one right each."""

from collections.abc import Callable
from typing import Any

import pytest

from mainstem.auth import Principal, Role
from mainstem.events.envelope import Event, begin
from mainstem.events.training import RunCompleted
from mainstem.feature_engine.spec import feature_set
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

#: 2013-05-01T00:00:00Z
MAY = 1_367_366_400_000_000
HOUR = 3_600_000_000

Define = Callable[..., ProjectDefinition]
Run = Callable[..., Event]


@pytest.fixture
def define() -> Define:
    """Return a maker of definitions; `mark` begins the names of all its parts."""

    def make(
        name: str = "weather", *, mark: str = "", impact: int = 1, partitions: int = 2, max_iter: int = 10
    ) -> ProjectDefinition:
        sensor = category("the sensor")
        wind = {"sensor": sensor, "wind": fixed("wind", unit="mph", lo=0, hi=200)}
        damage = {"sensor": sensor, "loss": fixed("loss", unit="eur", lo=0, hi=1000)}
        reading = source(f"{mark}reading", key="sensor", columns=wind, partitions=partitions)
        outcome = source(f"{mark}outcome", key="sensor", columns=damage)
        spine = reading.stream()
        features = type("Features", (), {"wind": spine.wind, "windy": spine.by("sensor").mean("wind", "1h")})
        compiled = feature_set(f"{mark}gusts", spine=spine, lateness="1h")(features).compile()
        storm = model(
            f"{mark}storm",
            feature_set=compiled.name,
            label=Label(source=outcome.name, key="sensor", column="loss", above=10, wait=24 * HOUR),
            training_window="10d",
            evaluation_window="1d",
            estimator=Estimator(params={"max_iter": max_iter}),
            gates=Gates(min_auc=0.7, max_auc_loss=0.01, confidence=0.95, max_calibration_error=0.05),
            seed=1,
        )
        return ProjectDefinition(
            charter=Charter(
                name=name,
                purpose="Warn of storms.",
                owners=Owners(technical="weather-team", business="harbour"),
                risk=Risk(impact=impact, autonomy=1, reversibility=1, regulatory_exposure=1),
                value=Value(currency="EUR", true_positive=1, false_positive=-1, true_negative=0, false_negative=-1),
            ),
            sources={part.name: part for part in (reading, outcome)},
            feature_sets={compiled.name: FeatureSetDefinition(id=compiled.id, spec=compiled.spec)},
            models={storm.name: storm},
            serving=Serving(latency_ms=50),
            monitoring=Monitoring(
                window=24 * HOUR, false_alarms_per_100_windows=1, cooldown=24 * HOUR, min_labelled=1, responses={}
            ),
        )

    return make


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
