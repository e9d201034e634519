"""What serving asks of the world, what it answers, and why it may not."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from mainstem.events.catalogue import Record
from mainstem.events.envelope import Event
from mainstem.events.fence import Position
from mainstem.serving.domain import Activation, Indexed, Tallies, Usage

Partition = tuple[str, int]
Floats = npt.NDArray[np.float64]
Channel = Literal["stream", "http", "grpc"]


class Question(msgspec.Struct, frozen=True):
    """A direct call; `rows` float64 [rows, inputs], NaN = missing."""

    model: str
    version: str | None
    id: str
    channel: Channel
    rows: Floats
    entity: str | None = None
    traceparent: bytes | None = None


class Answer(msgspec.Struct, frozen=True):
    """What the model says; `probabilities` float64 [rows, 2]: of the negative and of the positive class."""

    model: str
    version: int
    id: str
    probabilities: Floats
    #: Position of the stream that the answer is recorded at.
    position: str
    #: The log time there, RFC 3339.
    recorded: str
    #: Id of the Predicted event of the first row; None when there are no rows.
    prediction: str | None

    def parameters(self) -> dict[str, str]:
        """Return what the protocol carries beside the tensors."""
        found = {"position": self.position, "recorded_time": self.recorded}
        return found if self.prediction is None else {**found, "prediction_id": self.prediction}


class Oracle(Protocol):
    """Answers direct calls, whatever transport they came by."""

    def answer(self, question: Question) -> Answer:
        """Answer and record. Raises BadRequest, Unknown, NotReady or NoAnswer; then nothing was recorded."""

    def about(self, model: str, version: str | None) -> Activation:
        """Return what answers for a model. Raises Unknown or NotReady."""

    def faults(self) -> Mapping[str, str]:
        """Return what keeps the server from being ready, by check; empty when it is."""

    def index(self) -> Sequence[Indexed]:
        """Return every version that answers direct calls, or is to."""

    def usage(self, model: str | None, version: str | None) -> Sequence[Usage]:
        """Return what was done for calls of one model, or of all. Raises Unknown for a model that is not there."""


class Past(Protocol):
    """What earlier processes did, as the log tells it. Both methods raise Unavailable."""

    async def published(self, prediction_topic: str, feature_topic: str) -> Mapping[int, int]:
        """Return for each partition the highest feature offset that a prediction or marker was published for, or -1."""

    async def latest(self, feature_topic: str, spans: Mapping[int, range]) -> int:
        """Return the latest recorded time in these offsets of the partitions (µs); NEVER when there is none."""


@dataclass(frozen=True, slots=True)
class Parked:
    """A record that could not be scored, and why."""

    record: Record
    reason: str


@dataclass(slots=True)
class Progress:
    """What happened since the last checkpoint, all of it already acknowledged by the bus."""

    positions: dict[Partition, Position] = field(default_factory=dict)
    states: Mapping[Partition, bytes] = field(default_factory=dict)
    tallies: Tallies = field(default_factory=Tallies)
    parked: list[Parked] = field(default_factory=list)

    def add(self, tallies: Tallies, parked: Iterable[Parked], positions: Mapping[Partition, Position]) -> None:
        """Add what came of a batch, and where it ended."""
        self.tallies.add(tallies)
        self.parked.extend(parked)
        self.positions |= positions


class Store(Protocol):
    """Keeps positions, tallies and what was decided on deployments.

    Every method raises Unavailable when nothing is known about what it did; it may then be called again.
    """

    async def save(self, progress: Progress) -> None:
        """Store all of it or nothing; what was stored already, told by its positions, is not added again."""

    async def pending(self) -> list[Event]:
        """Return the deployments that were neither activated nor refused, in the registry's order."""

    async def approved(self, model: str, version: int, onnx: str) -> bool:
        """Tell whether an approval of exactly this version and digest is known."""

    async def promoted(self, deployment: Event, model: str, version: int) -> bool:
        """Tell whether a known promotion of this version caused a deployment, and no other one that was activated."""

    async def record(self, verdict: Event) -> None:
        """Store and publish a verdict on a deployment in one transaction; a second one on it changes nothing."""

    async def record_loss(self, lost: Activation, rule: str, reason: str) -> None:
        """Publish that a version in effect cannot be loaded; for one reason once."""

    async def activations(self) -> list[Activation]:
        """Return all activations, for each model in the registry's order."""

    async def feature_topics(self) -> dict[str, list[str]]:
        """Return the models in force by the feature topics that they and their deployments read, if still computed."""
