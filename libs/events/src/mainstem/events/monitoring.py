"""Facts that monitoring publishes."""

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from mainstem.events.fact import Fact
from mainstem.events.features import Difference


class WindowJudged(Fact):
    """An event-time window of one version is complete, labels included, and was judged."""

    TYPE: ClassVar[str] = "mainstem.monitoring.window_judged.v1"
    TOPIC: ClassVar[str] = "evt.monitoring.window"
    KEY: ClassVar[str] = "model"

    model: str = Field(description="Name of the model.")
    version: int | None = Field(description="The version; null when none answered in the window.")
    start: str = Field(description="Start of the window in event time, inclusive (RFC 3339).")
    end: str = Field(description="End of the window in event time, exclusive (RFC 3339).")
    predictions: int = Field(description="Predictions in the window.")
    labelled: int = Field(description="Predictions whose label arrived in time.")
    figures: dict[str, object] = Field(description="AUC, Brier, positive rate, drift by feature, evidence.")


class AlertOpened(Fact):
    """Evidence against a version passed its threshold."""

    TYPE: ClassVar[str] = "mainstem.monitoring.alert_opened.v1"
    TOPIC: ClassVar[str] = "evt.monitoring.alert"
    KEY: ClassVar[str] = "model"

    alert: str = Field(description="Id of the alert.")
    model: str = Field(description="Name of the model.")
    version: int = Field(description="The version.")
    kind: Literal["feature_drift", "prediction_drift", "performance_loss"] = Field(description="What moved.")
    evidence: float = Field(description="Natural logarithm of the evidence (e-value).")
    threshold: float = Field(description="Logarithm at which it alarms: one false alarm in exp(threshold) windows.")
    contributors: list[dict[str, object]] = Field(description="What moved most, with figures, most first.")
    window_end: str = Field(description="End of the window that tipped it (RFC 3339).")
    response: Literal["record", "retrain", "investigate"] = Field(description="The response the project asks for.")
    outcome: str = Field(description="What came of it at once: 'asked', 'cooling down', 'recorded'.")


class InputGap(BaseModel):
    """Where records that a fold must apply next are gone."""

    model_config = ConfigDict(frozen=True)

    topic: str = Field(description="Topic with the gap.")
    partition: int = Field(description="Partition of it.")
    expected_offset: int = Field(description="Offset that must be applied next.")
    found_offset: int = Field(description="First offset that is there.")


class _Found(Fact):
    """What was found wrong with a feature set."""

    alert: str = Field(description="Id of the alert.")
    kind: Literal["feature_mismatch", "feature_gap"] = Field(description="What was found.")
    feature_set: str = Field(description="Label of the feature set.")
    definition: str = Field(description="Identity of the feature set.")
    until: str = Field(description="Recorded time of the finding (RFC 3339).")
    about: str = Field(description="What is wrong, in words.")
    differing: int = Field(default=0, description="Values that differ, among those that were checked.")
    difference: Difference | None = Field(default=None, description="The first of them, with the records behind it.")
    gap: InputGap | None = Field(default=None, description="The gap before which the fold stands still.")
    response: Literal["investigate"] = Field(default="investigate", description="What is to be done.")
    outcome: Literal["recorded"] = Field(default="recorded", description="What came of it at once.")


class FeatureAlertOpened(_Found):
    """The feature set that a version in production reads was found to be wrong, or to stand still."""

    TYPE: ClassVar[str] = "mainstem.monitoring.feature_alert_opened.v1"
    TOPIC: ClassVar[str] = "evt.monitoring.alert"
    KEY: ClassVar[str] = "model"

    model: str = Field(description="Name of the model.")
    version: int = Field(description="The version in production when it was found.")


class FeatureSetAlertOpened(_Found):
    """A feature set was found to be wrong, or to stand still, whoever reads it."""

    TYPE: ClassVar[str] = "mainstem.monitoring.feature_set_alert_opened.v1"
    TOPIC: ClassVar[str] = "evt.monitoring.alert"
    KEY: ClassVar[str] = "feature_set"


class RetrainingAsked(Fact):
    """An alert asks training for a new candidate."""

    TYPE: ClassVar[str] = "mainstem.monitoring.retraining_asked.v1"
    TOPIC: ClassVar[str] = "evt.monitoring.alert"
    KEY: ClassVar[str] = "model"

    alert: str = Field(description="Id of the alert.")
    model: str = Field(description="Name of the model.")
    project: str = Field(description="Name of the project.")
    kind: str = Field(description="Kind of the alert.")
    cut: str = Field(description="Recorded time up to which data may be used (RFC 3339).")


class AlertClosed(Fact):
    """The version the alert was about left production."""

    TYPE: ClassVar[str] = "mainstem.monitoring.alert_closed.v1"
    TOPIC: ClassVar[str] = "evt.monitoring.alert"
    KEY: ClassVar[str] = "model"

    alert: str = Field(description="Id of the alert.")
    model: str = Field(description="Name of the model.")
    reason: str = Field(description="Why.")


class FeatureSetAlertClosed(Fact):
    """The feature set that the alert was about is not declared any more, or somebody closed it."""

    TYPE: ClassVar[str] = "mainstem.monitoring.feature_set_alert_closed.v1"
    TOPIC: ClassVar[str] = "evt.monitoring.alert"
    KEY: ClassVar[str] = "feature_set"

    alert: str = Field(description="Id of the alert.")
    feature_set: str = Field(description="Label of the feature set.")
    reason: str = Field(description="Why.")
