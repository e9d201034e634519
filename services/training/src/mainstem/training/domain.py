"""The plan of a run: its steps, what each leaves behind, and which rows it may use; what a dataset is. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Final, Self

#: Form of the manifests that are written.
FORMAT: Final = "mainstem.dataset.v1"


class Step(StrEnum):
    """Steps of a run, in order."""

    #: Freeze the rows and labels known at the cut.
    SNAPSHOT = "snapshot"
    #: Fit the estimator, or take the model that is imported.
    FIT = "fit"
    #: Score the held-out rows: figures, comparison with the version in production, reference profile.
    EVALUATE = "evaluate"
    #: Prove that the ONNX model is the estimator, or the author's file, exactly.
    EXPORT = "export"


PLAN = tuple(Step)


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a finished step read and wrote (content addresses by name), its figures, and what computed it."""

    step: Step
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    code: str
    environment: str
    figures: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Span:
    """A range of recorded time in microseconds since 1970: from `start_us`, before `end_us`."""

    start_us: int
    end_us: int

    def holds(self, instant_us: int) -> bool:
        """Tell whether the instant lies in the range."""
        return self.start_us <= instant_us < self.end_us


@dataclass(frozen=True, slots=True)
class Ranges:
    """Rows to fit on and, after them, rows held out for evaluation."""

    fit: Span
    evaluation: Span

    @classmethod
    def at(cls, cut_us: int, training_window_us: int, evaluation_window_us: int) -> Self:
        """Return the ranges of a run whose data ends at the cut; the evaluation takes the last part of the window."""
        held_out_us = cut_us - evaluation_window_us
        return cls(Span(cut_us - training_window_us, held_out_us), Span(held_out_us, cut_us))


def next_step(completed: Sequence[StepResult]) -> Step | None:
    """Return the step to do next, or None when the run is complete.

    Raises ValueError when the completed steps are not the beginning of the plan, or when a step read something other
    than a step before it wrote under the same name: such a run cannot be continued, only started anew.
    """
    done = tuple(result.step for result in completed)
    if done != PLAN[: len(done)]:
        raise ValueError(f"steps {', '.join(done)} are not the beginning of {', '.join(PLAN)}; start a new run")
    written: dict[str, str] = {}
    for result in completed:
        changed = sorted(name for name, read in result.inputs.items() if written.get(name, read) != read)
        if changed:
            raise ValueError(f"step {result.step} read another {', '.join(changed)} than was written; start a new run")
        written |= result.outputs
    return PLAN[len(done)] if len(done) < len(PLAN) else None


def outputs(completed: Sequence[StepResult]) -> dict[str, str]:
    """Return the content addresses of all that the steps wrote, by name."""
    return {name: address for result in completed for name, address in result.outputs.items()}


@dataclass(frozen=True, slots=True)
class PartitionRead:
    """How far a partition was read: the offset before which all was read, and how many records lie before it."""

    until: int
    records: int


@dataclass(frozen=True, slots=True)
class TopicRead:
    """What was read of a topic: its id, which another topic of its name has not, and its partitions by number."""

    id: str
    partitions: Mapping[str, PartitionRead]


@dataclass(frozen=True, slots=True)
class Positions:
    """What was read of the log: the id of the cluster, and its topics by name."""

    cluster: str
    topics: Mapping[str, TopicRead]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a dataset is. Its content address is the identity of the dataset; instants are RFC 3339.

    `content` is the logical hash of the rows and `code` the digest of what built them. Where the rows lie is no part
    of it: another file with the same rows holds the same dataset.
    """

    project: str
    definition: str
    model: str
    feature_set: Mapping[str, str]
    label: Mapping[str, object]
    cut: str
    fit: Sequence[str]
    evaluation: Sequence[str]
    rows: int
    held_out: int
    unlabelled: int
    positions: Positions
    content: str
    code: str

    def canonical(self) -> bytes:
        """Return the manifest as canonical JSON: equal bytes for equal datasets."""
        return canonical({"format": FORMAT, **asdict(self)})


def canonical(value: object) -> bytes:
    """Return a JSON value in canonical form: UTF-8, keys sorted, no spaces.

    Raises ValueError for NaN and infinities, which JSON does not have.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(value: object) -> str:
    """Return the content address of a JSON value in canonical form; raise ValueError as `canonical` does."""
    return f"sha256:{sha256(canonical(value)).hexdigest()}"


def code_digest(modules: Mapping[str, bytes]) -> str:
    """Return the digest of source code: module name to file content."""
    return digest({name: sha256(content).hexdigest() for name, content in modules.items()})
