"""Facts that the registry publishes."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from mainstem.events.fact import Fact


class ProjectApplied(Fact):
    """A project's definition came into force."""

    TYPE: ClassVar[str] = "mainstem.registry.project_applied.v1"
    TOPIC: ClassVar[str] = "evt.registry.project"
    KEY: ClassVar[str] = "project"

    project: str = Field(description="Name of the project.")
    definition_id: str = Field(description="SHA-256 of the canonical definition.")
    definition: dict[str, object] = Field(description="The definition: sources, feature sets, model, gates, budgets.")
    applied_by: str = Field(description="Principal who applied it.")


class GateResult(BaseModel):
    """One gate, its figure and its limit."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="Name of the gate.")
    passed: bool = Field(description="Whether it let the version through.")
    figure: float | None = Field(description="The figure judged.")
    limit: float | None = Field(description="The limit it was held against.")
    detail: str = Field(description="Sentence with the figures.")


class VersionRegistered(Fact):
    """A candidate entered the registry and was judged by every gate."""

    TYPE: ClassVar[str] = "mainstem.registry.version_registered.v1"
    TOPIC: ClassVar[str] = "evt.registry.model"
    KEY: ClassVar[str] = "model"

    model: str = Field(description="Name of the model.")
    version: int = Field(description="Number of the version, from 1.")
    run: str = Field(description="Run that made it.")
    cause: str = Field(description="Why the run was asked for.")
    project: str = Field(description="Name of the project.")
    definition: str = Field(description="Identity of the project definition.")
    feature_set: str = Field(description="Identity of the feature set.")
    dataset: str = Field(description="Content address of the dataset's manifest.")
    onnx: str = Field(description="Content address of the ONNX model.")
    profile: str = Field(description="Content address of the reference profile.")
    evidence: dict[str, object] = Field(description="Evidence of the run.")
    builders: list[str] = Field(description="Everybody in its lineage; none of them may approve it.")
    gates: list[GateResult] = Field(description="Verdict of each gate.")
    stage: str = Field(description="'candidate' when every gate let it through, else 'refused'.")


class VersionApproved(Fact):
    """Somebody who did not build the version approved it."""

    TYPE: ClassVar[str] = "mainstem.registry.version_approved.v1"
    TOPIC: ClassVar[str] = "evt.registry.model"
    KEY: ClassVar[str] = "model"

    model: str = Field(description="Name of the model.")
    version: int = Field(description="Number of the version.")
    onnx: str = Field(description="Digest that was approved.")
    approved_by: str = Field(description="Principal.")
    comment: str = Field(default="", description="What the principal said.")


class PinnedBy(BaseModel):
    """A version that reads a feature set and is in production, or may come there."""

    model_config = ConfigDict(frozen=True)

    model: str = Field(description="Name of the model.")
    version: int = Field(description="Number of the version.")
    stage: str = Field(description="Where it stands.")


class ReadBy(BaseModel):
    """A consumer group with committed offsets in the topic of a feature set."""

    model_config = ConfigDict(frozen=True)

    group: str = Field(description="Name of the group.")
    platform: bool = Field(description="Whether it is one of the platform's own.")


class Impact(BaseModel):
    """What a change of one pinned feature set would break, and what to do instead."""

    model_config = ConfigDict(frozen=True)

    feature_set: str = Field(description="Label of the feature set.")
    pinned: str = Field(description="Identity that is in force and pinned.")
    proposed: str | None = Field(description="Identity that it would have; null when it would be gone.")
    versions: list[PinnedBy] = Field(description="Versions that pin it.")
    datasets: list[str] = Field(description="Content addresses of the datasets built on it.")
    consumer_groups: list[ReadBy] = Field(description="Consumer groups that read its topic.")
    remedy: str = Field(description="What to do instead.")


class ChangeRefused(Fact):
    """A request on a version, or on what it stands on, broke a rule and changed nothing."""

    TYPE: ClassVar[str] = "mainstem.registry.change_refused.v1"
    TOPIC: ClassVar[str] = "evt.registry.model"
    KEY: ClassVar[str] = "model"

    model: str = Field(description="Name of the model.")
    version: int = Field(description="Number of the version.")
    request: str = Field(description="'approve', 'promote', 'rollback', or 'apply' for a project.")
    requested_by: str = Field(description="Principal.")
    rule: str = Field(description="Name of the rule.")
    reason: str = Field(description="Rule and figures in a sentence.")
    impact: Impact | None = Field(default=None, description="What a change of its feature set would break.")


class VersionPromoted(Fact):
    """A version went into production; the one before it was archived."""

    TYPE: ClassVar[str] = "mainstem.registry.version_promoted.v1"
    TOPIC: ClassVar[str] = "evt.registry.model"
    KEY: ClassVar[str] = "model"

    model: str = Field(description="Name of the model.")
    version: int = Field(description="Number of the version.")
    replaces: int | None = Field(description="Version that was in production before.")
    promoted_by: str = Field(description="Principal.")


class DeploymentArm(BaseModel):
    """A version that answers direct calls beside the one of the deployment, or would."""

    model_config = ConfigDict(frozen=True)

    version: int = Field(description="Number of the version.")
    onnx: str = Field(description="Content address of its ONNX model.")
    profile: str = Field(description="Content address of its reference profile.")
    weight: int = Field(description="Its share of the entities, in ten-thousandths.")
    shadow: bool = Field(description="Whether it scores what others answered, and answers nothing itself.")


class DeploymentSet(Fact):
    """What may serve a model from now on: the whole truth that serving needs, as a snapshot."""

    TYPE: ClassVar[str] = "mainstem.registry.deployment_set.v1"
    TOPIC: ClassVar[str] = "state.deployment"
    KEY: ClassVar[str] = "model"

    model: str = Field(description="Name of the model.")
    version: int = Field(description="Number of the version.")
    project: str = Field(description="Name of the project.")
    onnx: str = Field(description="Content address of the ONNX model.")
    profile: str = Field(description="Content address of the reference profile.")
    feature_set: str = Field(description="Label of the feature set.")
    feature_definition: str = Field(description="Identity of the feature set.")
    features: list[str] = Field(description="Names of the model's inputs, in order.")
    approved_by: str = Field(description="Principal who approved the digest.")
    effective_from: str = Field(description="Recorded time from which it answers (RFC 3339).")
    # Left out where they are not said: an earlier event folds into what it always folded into.
    arms: list[DeploymentArm] = Field(
        default=[],
        exclude_if=lambda said: not said,
        description="Versions beside it, on the same feature set; it answers what they leave.",
    )
    salt: str = Field(
        default="",
        exclude_if=lambda said: not said,
        description="What shares are drawn with: another salt, other entities.",
    )
