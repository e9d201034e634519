"""A small project: orders of shops, the payments that follow them, and features over both."""

from typing import Any

from mainstem.events.envelope import Event, begin
from mainstem.events.registry import ProjectApplied
from mainstem.feature_engine.spec import feature_set
from mainstem.project import (
    Charter,
    Column,
    FeatureSetDefinition,
    Monitoring,
    Owners,
    ProjectDefinition,
    Risk,
    Serving,
    Value,
    category,
    fixed,
    source,
)
from mainstem.project.contract import SourceContract

_DAY_US = 86_400_000_000


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
    """Return the definition of the project; `settings` are those of the orders' contract."""
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
        charter=Charter(
            name="shop",
            purpose="Know what is bought.",
            owners=Owners(technical="data-team", business="sales"),
            risk=Risk(impact=1, autonomy=1, reversibility=1, regulatory_exposure=1),
            value=Value(currency="EUR", true_positive=1, false_positive=-1, true_negative=0, false_negative=-1),
        ),
        sources={spine.name: spine, other.name: other},
        feature_sets={compiled.name: FeatureSetDefinition(id=compiled.id, spec=compiled.spec)},
        models={},
        serving=Serving(latency_ms=50),
        monitoring=Monitoring(
            window=_DAY_US, false_alarms_per_100_windows=1, cooldown=_DAY_US, min_labelled=1, responses={}
        ),
    )


def applied(definition: ProjectDefinition, command_id: str = "apply") -> Event:
    """Return the event that brings the definition into force."""
    fact = ProjectApplied(
        project=definition.charter.name,
        definition_id=definition.id,
        definition=definition.model_dump(mode="json"),
        applied_by="ann",
    )
    return begin(fact, command_id=command_id, source="/test", actor="ann", recorded_us=0)
