"""What a project wants watched, at which price in false alarms, and what an alert sets off (`monitoring.toml`)."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from mainstem.project.durations import Microseconds

AlertKind = Literal["feature_drift", "prediction_drift", "performance_loss"]
Response = Literal["record", "retrain", "investigate"]


class Monitoring(BaseModel):
    """Budgets and responses; durations are microseconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    window: Microseconds = Field(description="Length of a window in event time.")
    false_alarms_per_100_windows: float = Field(gt=0, le=100, description="Budget for all kinds of alert together.")
    cooldown: Microseconds = Field(description="Time after a response in which the same kind sets off nothing.")
    min_labelled: int = Field(gt=0, description="Labelled predictions below which a window is not judged.")
    responses: dict[AlertKind, Response] = Field(description="What each kind of alert sets off; unnamed: record.")

    def response(self, kind: AlertKind) -> Response:
        """Return what an alert of this kind sets off."""
        return self.responses.get(kind, "record")
