"""What serving asks of the world, what it answers, and why it may not."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Literal, Protocol

import msgspec

from mainstem.events.envelope import Event
from mainstem.events.fence import Position
from mainstem.events.record import Record
from mainstem.serving.domain import Activation, Followed, Partition, Tallies
from mainstem.serving.entities import AsOf, Columns, Floats

Channel = Literal["stream", "http", "grpc"]


class Question(msgspec.Struct, frozen=True):
    """A direct call; `rows` float64 [rows, inputs], NaN = missing. With `columns` the rows are to be looked up."""

    model: str
    version: str | None
    id: str
    channel: Channel
    rows: Floats
    entity: str | None = None
    traceparent: bytes | None = None
    columns: Columns | None = None
    #: When an answer comes too late (s, monotonic).
    until: float = inf


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
    #: Where the features were looked up; None when the caller brought them.
    as_of: AsOf | None = None
    #: The trace that it is part of.
    traceparent: bytes | None = None

    def parameters(self) -> dict[str, str | int | float]:
        """Return what the protocol carries beside the tensors."""
        found: dict[str, str | int | float] = {"position": self.position, "recorded_time": self.recorded}
        if self.prediction is not None:
            found["prediction_id"] = self.prediction
        return found if self.as_of is None else found | self.as_of.parameters()


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

    async def lookups(self) -> dict[str, Followed]:
        """Return the feature sets whose values are looked up, by their identity."""

    async def droppable(self) -> set[str]:
        """Return the models whose project lets their records be dropped when there is no room for them."""

    async def feature_topics(self) -> dict[str, list[str]]:
        """Return the models in force by the feature topics that they and their deployments read, if still computed."""
