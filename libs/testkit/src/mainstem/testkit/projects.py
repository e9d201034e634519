"""Two small projects: shops whose orders are paid, and sensors whose readings foretell a loss."""

from typing import Any

from mainstem.events.envelope import Event, begin
from mainstem.events.registry import ProjectApplied
from mainstem.feature_engine import CompiledSet
from mainstem.feature_engine.spec import feature_set
from mainstem.project import (
    Charter,
    Column,
    Estimator,
    FeatureSetDefinition,
    Gates,
    Label,
    ModelDefinition,
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
from mainstem.project.contract import SourceContract
from mainstem.testkit.clock import DAY


def orders(**settings: Any) -> SourceContract:
    """Return the contract of the orders: keyed by shop, with a nullable weight."""
    columns: dict[str, Column] = {
        "shop": category("the shop"),
        "amount": fixed("what it costs", unit="eur", lo=0, hi=1000, scale=100),
        "weight": fixed("what it weighs", unit="kg", lo=0, hi=50, scale=10, nullable=True),
    }
    return source("orders", key="shop", columns=columns, **settings)


def payments(**settings: Any) -> SourceContract:
    """Return the contract of the payments: keyed by shop."""
    columns: dict[str, Column] = {
        "shop": category("the shop"),
        "paid": fixed("what was paid", unit="eur", lo=0, hi=1000, scale=100),
    }
    return source("payments", key="shop", columns=columns, **settings)


def shop(*, replay: bool = True, window: str = "1h", **settings: Any) -> ProjectDefinition:
    """Return a project without a model; `settings` are those of the orders' contract."""
    spine, other = orders(replay=replay, **settings), payments(replay=replay)
    order, payment = spine.stream(), other.stream()
    features = {
        "amount": order.amount,
        "orders": order.by("shop").count(window),
        "paid": payment.by("shop").sum("paid", window),
        "paid_last": payment.by("shop").last("paid", ttl="1d"),
    }
    compiled = feature_set("buying", spine=order, lateness="1d")(type("Buying", (), features)).compile()
    return ProjectDefinition(
        charter=_charter("shop", "Know what is bought."),
        sources={spine.name: spine, other.name: other},
        feature_sets=_folded(compiled),
        models={},
        serving=Serving(latency_ms=50),
        monitoring=watched(),
    )


def storms(
    name: str = "weather",
    *,
    mark: str = "",
    impact: int = 1,
    mean_over: str | None = None,
    monitoring: Monitoring | None = None,
    **settings: Any,
) -> ProjectDefinition:
    """Return a project whose model foretells from a sensor's wind whether there will be a loss.

    `mark` begins the names of all its parts. The feature `wind` is joined by `windy`, the mean wind of so long, if
    that is said. `settings` are those of the readings' contract.
    """
    sensor = category("the sensor")
    wind: dict[str, Column] = {"sensor": sensor, "wind": fixed("wind", unit="mph", lo=-10, hi=200)}
    loss: dict[str, Column] = {"sensor": sensor, "loss": fixed("loss", unit="eur", lo=0, hi=1000, nullable=True)}
    settings = {"partitions": 2, "replay": True} | settings
    reading = source(f"{mark}reading", key="sensor", columns=wind, **settings)
    outcome = source(f"{mark}outcome", key="sensor", columns=loss, replay=settings["replay"])
    spine = reading.stream()
    means = {} if mean_over is None else {"windy": spine.by("sensor").mean("wind", mean_over)}
    features = type("Gusts", (), {"wind": spine.wind, **means})
    compiled = feature_set(f"{mark}gusts", spine=spine, lateness="1h")(features).compile()
    storm = _storm(f"{mark}storm", compiled.name, outcome.name)
    return ProjectDefinition(
        charter=_charter(name, "Warn of storms.", impact),
        sources={reading.name: reading, outcome.name: outcome},
        feature_sets=_folded(compiled),
        models={storm.name: storm},
        serving=Serving(latency_ms=50),
        monitoring=monitoring or watched(),
    )


def watched(**settings: Any) -> Monitoring:
    """Return how a model is watched: day by day, and nothing is done about what is found."""
    usual = {"window": DAY, "false_alarms_per_100_windows": 1, "cooldown": DAY, "min_labelled": 1, "responses": {}}
    return Monitoring(**usual | settings)


def applied(definition: ProjectDefinition, command_id: str = "apply") -> Event:
    """Return the event that brings the definition into force."""
    fact = ProjectApplied(
        project=definition.charter.name,
        definition_id=definition.id,
        definition=definition.model_dump(mode="json"),
        applied_by="ann",
    )
    return begin(fact, command_id=command_id, source="/test", actor="ann", recorded_us=0)


def _storm(name: str, features: str, outcome: str) -> ModelDefinition:
    return model(
        name,
        feature_set=features,
        label=Label(source=outcome, key="sensor", column="loss", above=10, wait="6h"),
        training_window="10d",
        evaluation_window="1d",
        estimator=Estimator(params={"max_iter": 10}),
        gates=Gates(min_auc=0.7, max_auc_loss=0.01, confidence=0.95, max_calibration_error=0.05),
        seed=1,
    )


def _charter(name: str, purpose: str, impact: int = 1) -> Charter:
    return Charter(
        name=name,
        purpose=purpose,
        owners=Owners(technical="data-team", business="sales"),
        risk=Risk(impact=impact, autonomy=1, reversibility=1, regulatory_exposure=1),
        value=Value(currency="EUR", true_positive=1, false_positive=-1, true_negative=0, false_negative=-1),
    )


def _folded(compiled: CompiledSet) -> dict[str, FeatureSetDefinition]:
    return {compiled.name: FeatureSetDefinition(id=compiled.id, spec=compiled.spec)}
