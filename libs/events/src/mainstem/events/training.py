"""Facts that training publishes."""

from typing import ClassVar, Literal

from pydantic import Field

from mainstem.events.fact import Fact


class TrainingRequested(Fact):
    """Somebody, or an alert, asked for a training run."""

    TYPE: ClassVar[str] = "mainstem.training.requested.v1"
    TOPIC: ClassVar[str] = "evt.training.run"
    KEY: ClassVar[str] = "model"

    run: str = Field(description="Id of the run.")
    model: str = Field(description="Name of the model.")
    project: str = Field(description="Name of the project.")
    cut: str = Field(description="Recorded time up to which data and labels may be used (RFC 3339).")
    cause: str = Field(description="Why: 'request', 'import' or the kind of the alert.")
    requested_by: str = Field(description="Principal or service that asked.")
    imported: str | None = Field(
        default=None, description="Content address of a model made elsewhere that takes the place of a fitted one."
    )


class StepCompleted(Fact):
    """A step of a run is done; a run that was killed goes on after its last completed step."""

    TYPE: ClassVar[str] = "mainstem.training.step_completed.v1"
    TOPIC: ClassVar[str] = "evt.training.run"
    KEY: ClassVar[str] = "model"

    run: str = Field(description="Id of the run.")
    model: str = Field(description="Name of the model.")
    step: Literal["snapshot", "fit", "evaluate", "export"] = Field(description="The step.")
    inputs: dict[str, str] = Field(description="Content addresses of what went in, by name.")
    outputs: dict[str, str] = Field(description="Content addresses of what came out, by name.")
    figures: dict[str, object] = Field(description="Figures of the step.")
    code: str = Field(description="Digest of the code that ran.")
    environment: str = Field(description="Digest of interpreter and library versions.")


class RunCompleted(Fact):
    """A run made a candidate, with the evidence the registry judges."""

    TYPE: ClassVar[str] = "mainstem.training.run_completed.v1"
    TOPIC: ClassVar[str] = "evt.training.run"
    KEY: ClassVar[str] = "model"

    run: str = Field(description="Id of the run.")
    model: str = Field(description="Name of the model.")
    project: str = Field(description="Name of the project.")
    cause: str = Field(description="Why the run was asked for.")
    requested_by: str = Field(description="Who asked.")
    definition: str = Field(description="Identity of the project definition.")
    feature_set: str = Field(description="Identity of the feature set.")
    dataset: str = Field(description="Content address of the dataset's manifest.")
    onnx: str = Field(description="Content address of the ONNX model.")
    profile: str = Field(description="Content address of the reference profile for monitoring.")
    evidence: dict[str, object] = Field(description="Evaluation, comparison with the incumbent, parity.")


class RunFailed(Fact):
    """A run ended without a candidate."""

    TYPE: ClassVar[str] = "mainstem.training.run_failed.v1"
    TOPIC: ClassVar[str] = "evt.training.run"
    KEY: ClassVar[str] = "model"

    run: str = Field(description="Id of the run.")
    model: str = Field(description="Name of the model.")
    step: str = Field(description="The step that failed.")
    reason: str = Field(description="What was found and what to do.")


class DatasetRequested(Fact):
    """Somebody asked for the dataset of a model as of a cut."""

    TYPE: ClassVar[str] = "mainstem.training.dataset_requested.v1"
    TOPIC: ClassVar[str] = "evt.training.run"
    KEY: ClassVar[str] = "model"

    request: str = Field(description="Id of the request.")
    model: str = Field(description="Name of the model.")
    project: str = Field(description="Name of the project.")
    definition: str = Field(description="Identity of the project definition that it is built by.")
    cut: str = Field(description="Recorded time up to which data and labels may be used (RFC 3339).")
    requested_by: str = Field(description="Principal who asked.")


class DatasetBuilt(Fact):
    """A dataset is in the artifact store, for a request or for the snapshot of a run; once for each of them."""

    TYPE: ClassVar[str] = "mainstem.training.dataset_built.v1"
    TOPIC: ClassVar[str] = "evt.training.run"
    KEY: ClassVar[str] = "model"

    dataset: str = Field(description="Content address of the manifest: the identity of the dataset.")
    table: str = Field(description="Content address of the Parquet file with its rows.")
    request: str = Field(description="Id of the request, or of the run whose snapshot it is.")
    model: str = Field(description="Name of the model.")
    project: str = Field(description="Name of the project.")
    definition: str = Field(description="Identity of the project definition.")
    feature_set: str = Field(description="Identity of the feature set.")
    feature_set_label: str = Field(description="Label of the feature set: its name and, after the first, its version.")
    cut: str = Field(description="Recorded time up to which data and labels were used (RFC 3339).")
    rows: int = Field(description="Rows with a label.")
    held_out: int = Field(description="Rows among them that are kept for evaluation.")
    unlabelled: int = Field(description="Rows of the same span that had no label at the cut.")
    content: str = Field(description="Logical hash of the rows, whatever file they lie in.")
    requested_by: str = Field(description="Who asked for it.")


class DatasetFailed(Fact):
    """A request for a dataset ended without one."""

    TYPE: ClassVar[str] = "mainstem.training.dataset_failed.v1"
    TOPIC: ClassVar[str] = "evt.training.run"
    KEY: ClassVar[str] = "model"

    request: str = Field(description="Id of the request.")
    model: str = Field(description="Name of the model.")
    reason: str = Field(description="What was found and what to do.")
