"""A log of feature rows and labels, written by hand: gusts at sensors, and the losses that followed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from msgspec import structs

from mainstem.bus.identity import LogIdentity
from mainstem.events.catalogue import encode
from mainstem.events.data import ProgressReached, RecordAccepted
from mainstem.events.envelope import Envelope, Event, Message
from mainstem.events.fact import Fact
from mainstem.events.features import RowComputed
from mainstem.events.instants import render
from mainstem.project import ProjectDefinition
from mainstem.testkit.clock import DAY, HOUR, MAY
from mainstem.testkit.projects import storms
from mainstem.testkit.records import Log, Taken
from mainstem.training.domain import Ranges
from mainstem.training.history.log import Dataset, History, Subject

PARTITIONS = 2
#: The training window of the model ends here, and its ten days begin with May.
CUT = MAY + 10 * DAY
RANGES = Ranges.at(CUT, 10 * DAY, DAY)


@dataclass
class Gusts:
    """Writes rows, labels and markers of one project, each with an origin of its own."""

    definition: ProjectDefinition = field(default_factory=storms)
    #: Identity of the feature set that the rows say they are of; the project's own if none is said.
    set_id: str | None = None
    messages: list[Message] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)

    @property
    def model(self) -> str:
        """Return the name of the only model."""
        return next(iter(self.definition.models))

    @property
    def subject(self) -> Subject:
        """Return what the model learns from."""
        return Subject.of(self.definition, self.definition.models[self.model])

    @property
    def topics(self) -> tuple[str, str]:
        """Return the topics of rows and labels."""
        return self.subject.rows_topic, self.subject.label_topic

    def row(self, sensor: str, at_us: int, wind: float | None = 1.0, partition: int = 0, **said: Any) -> "Gusts":
        """Add the row of a gust."""
        fact = RowComputed(
            feature_set=self.subject.feature_set.name,
            definition=self.set_id or self.subject.feature_set.id,
            entity=sensor,
            spine_id=f"spine-{sensor}",
            values=[wind],
        )
        return self._add(fact, at_us, partition, **said)

    def loss(self, sensor: str, at_us: int, loss: float | None = 50.0, partition: int = 0, **said: Any) -> "Gusts":
        """Add the label of a sensor's gusts."""
        source = self.subject.label.source
        fact = RecordAccepted(source=source, contract="c", record={"sensor": sensor, "loss": loss})
        return self._add(fact, at_us, partition, **said)

    def passed(self, until_us: int, *, only: Sequence[str] | None = None, **said: Any) -> "Gusts":
        """Announce in every partition that nothing up to an instant is still to come."""
        for topic in only or self.topics:
            for partition in range(PARTITIONS):
                self._add(ProgressReached(until=render(until_us)), until_us, partition, topic=topic, **said)
        return self

    def again(self) -> "Gusts":
        """Repeat all that was written, as a service does that was killed before it knew that it was."""
        self.messages += self.messages
        return self

    def _add(self, fact: Fact, at_us: int, partition: int, topic: str | None = None, **said: Any) -> "Gusts":
        number = next(self.numbers)
        envelope = Envelope(
            id=f"{number:032x}",
            type=fact.TYPE,
            source="/test",
            subject="s",
            time_us=at_us - HOUR,
            recorded_us=at_us,
            correlation="c",
            causation=f"{self.set_id or self.subject.feature_set.id}/{at_us}",
            actor="/test",
            origin=f"{self.set_id or ''}@{partition}/{number}",
        )
        message = encode(Event(replace(envelope, **said), fact))
        self.messages.append(structs.replace(message, topic=topic or message.topic, partition=partition))
        return self

    def records(self) -> list[Taken]:
        """Return what was written as records."""
        return Log().append(self.messages)


def whole(definition: ProjectDefinition | None = None, rows: int = 60) -> Gusts:
    """Return ten days of gusts, most of them with a loss five hours later, announced to the cut; then a day more."""
    gusts = Gusts(definition or storms())
    for number in range(rows):
        # Two at a time, in different partitions.
        at, place = MAY + (number // 2) * (10 * DAY // rows * 2), number % 2
        gusts.row(f"s{number}", at, wind=None if number % 7 == 0 else number / 8, partition=place)
        if number % 5:
            gusts.loss(f"s{number}", at + 5 * HOUR, loss=float(number % 3) * 10, partition=1 - place)
    gusts.passed(CUT - 1)
    for number in range(4):
        gusts.row(f"late{number}", CUT + number * HOUR).loss(f"late{number}", CUT + number * HOUR)
    return gusts.passed(CUT + DAY - 1)


def identity(gusts: Gusts, cluster: str = "cluster") -> LogIdentity:
    """Return the ids of a log."""
    return LogIdentity(cluster, {topic: f"id of {topic}" for topic in gusts.topics})


def history(gusts: Gusts, polls: Sequence[Sequence[Taken]] | None = None) -> History:
    """Return what was read of a log, in these polls or in one."""
    found = History(gusts.subject)
    found.begin(identity(gusts), [(topic, number) for topic in gusts.topics for number in range(PARTITIONS)])
    for records in [gusts.records()] if polls is None else polls:
        found.take(records)
    return found


def dataset(gusts: Gusts, ranges: Ranges = RANGES) -> Dataset:
    """Return what a log says of the ranges."""
    return history(gusts).dataset(ranges)


def said(found: Dataset) -> Mapping[str, object]:
    """Return a dataset in a form that can be compared."""
    return {
        "ids": found.ids,
        "spine_ids": found.spine_ids,
        "entities": found.entities,
        "recorded": found.recorded_us.tolist(),
        "time": found.time_us.tolist(),
        "x": found.x.tobytes(),
        "y": found.y.tolist(),
        "unlabelled": found.unlabelled,
        "positions": found.positions,
    }
