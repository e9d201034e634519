"""Facts that serving publishes."""

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import override

from mainstem.events.fact import Fact
from mainstem.events.names import PREDICTED, SHADOW_SCORED


class DeploymentActivated(Fact):
    """A version was verified, loaded and answers from a position on."""

    TYPE: ClassVar[str] = "mainstem.serving.deployment_activated.v1"
    TOPIC: ClassVar[str] = "evt.serving.deployment"
    KEY: ClassVar[str] = "model"

    model: str = Field(description="Name of the model.")
    version: int = Field(description="Number of the version.")
    onnx: str = Field(description="Digest of the bytes that were loaded.")
    effective_from: str = Field(description="Recorded time from which it answers (RFC 3339).")
    from_offsets: dict[str, int] = Field(description="First offset it scores, by partition of the feature topic.")


class DeploymentRefused(Fact):
    """A version was not loaded; the one before it goes on answering."""

    TYPE: ClassVar[str] = "mainstem.serving.deployment_refused.v1"
    TOPIC: ClassVar[str] = "evt.serving.deployment"
    KEY: ClassVar[str] = "model"

    model: str = Field(description="Name of the model.")
    version: int = Field(description="Number of the version.")
    rule: str = Field(description="Name of the rule.")
    reason: str = Field(description="What was found and what was asked for.")


class DeploymentLost(Fact):
    """A version in effect cannot be loaded any more: until it can, nothing answers in its place."""

    TYPE: ClassVar[str] = "mainstem.serving.deployment_lost.v1"
    TOPIC: ClassVar[str] = "evt.serving.deployment"
    KEY: ClassVar[str] = "model"

    model: str = Field(description="Name of the model.")
    version: int = Field(description="Number of the version.")
    onnx: str = Field(description="Digest that was approved.")
    rule: str = Field(description="Name of the rule: 'artifact_digest' or 'signature'.")
    reason: str = Field(description="What was found and what was asked for.")


class LookedUp(BaseModel):
    """Where features were read that the caller did not bring: the first `applied` records of the order give them."""

    model_config = ConfigDict(frozen=True)

    at: str = Field(description="Moment that the features are of (RFC 3339).")
    applied: int = Field(description="Records applied when they were read: a position in the order of the journal.")
    columns: dict[str, float | bool | str | None] = Field(
        description="What was said of the entity, by column of the spine; null, as a column left out, is unknown."
    )


class Predicted(Fact):
    """One answer: inputs, version, score."""

    TYPE: ClassVar[str] = PREDICTED
    TOPIC: ClassVar[str] = "tel.prediction.{model}"
    KEY: ClassVar[str] = "entity"

    model: str = Field(description="Name of the model.")
    version: int = Field(description="Version that answered.")
    onnx: str = Field(description="Digest of the model file that answered.")
    feature_definition: str = Field(description="Identity of the feature set.")
    channel: Literal["stream", "http", "grpc"] = Field(description="How the question came.")
    entity: str | None = Field(description="Key of the entity, if the question named one.")
    row: str | None = Field(description="Id of the feature row that was scored, on the stream.")
    position: str = Field(description="Position of the input: topic/partition/offset, or the one reached.")
    features: list[float | None] = Field(description="Inputs in the order of the definition.")
    score: float = Field(description="Probability of the positive class.")
    lookup: LookedUp | None = Field(
        default=None, description="Where the features were looked up, if the question described an entity instead."
    )

    @property
    @override
    def key(self) -> str:
        return self.entity or self.position


class ShadowScored(Fact):
    """What a shadow would have answered: no answer, and nobody was given it."""

    TYPE: ClassVar[str] = SHADOW_SCORED
    TOPIC: ClassVar[str] = "tel.prediction.{model}"
    KEY: ClassVar[str] = "entity"

    model: str = Field(description="Name of the model.")
    version: int = Field(description="Version that is a shadow.")
    onnx: str = Field(description="Digest of its model file.")
    feature_definition: str = Field(description="Identity of the feature set.")
    answer: str = Field(description="Id of the prediction that was given for the same inputs, which has them.")
    channel: Literal["http", "grpc"] = Field(description="How the question came.")
    entity: str | None = Field(description="Key of the entity, if the question named one.")
    position: str = Field(description="Position reached when it was answered.")
    score: float = Field(description="Probability of the positive class.")

    @property
    @override
    def key(self) -> str:
        return self.entity or self.position
