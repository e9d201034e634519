"""The parts of the training service over one real log, put together anew as often as a test likes."""

from dataclasses import dataclass
from pathlib import Path

from services.training.tests.training_log import CUT, PARTITIONS, Gusts

from mainstem.bus.kafka import KafkaBus
from mainstem.events.catalogue import decode
from mainstem.events.envelope import Event, begin
from mainstem.events.fact import Fact
from mainstem.events.features import RowComputed
from mainstem.events.instants import render
from mainstem.events.topics import member
from mainstem.events.training import DatasetRequested, TrainingRequested
from mainstem.project import ProjectDefinition
from mainstem.storage import Artifacts, Database, Outbox
from mainstem.testkit.projects import applied
from mainstem.testkit.records import Log
from mainstem.training.handlers import Performer
from mainstem.training.history.reading import Reading
from mainstem.training.store import PostgresStore

PACKAGE = "mainstem.training"
FAMILIES = (RowComputed.TOPIC, "evt.data.{source}")


async def write(bus: KafkaBus, gusts: Gusts) -> None:
    """Publish a log; its topics are made when they are not there."""
    names = (topic.split(".", 2)[2] for topic in gusts.topics)
    await bus.create([member(family, name, PARTITIONS) for family, name in zip(FAMILIES, names, strict=True)])
    await bus.publisher.publish(gusts.messages)


def asked(fact: Fact, command: str, cut_us: int) -> Event:
    """Return the event with which somebody asks."""
    return begin(fact, command_id=command, source="/test", actor="ann", recorded_us=cut_us)


@dataclass
class Parts:
    """Store, artifacts and log."""

    kafka: str
    database: Database
    folder: Path
    definition: ProjectDefinition

    @property
    def artifacts(self) -> Artifacts:
        """Return the artifact store."""
        return Artifacts(self.folder)

    @property
    def store(self) -> PostgresStore:
        """Return the store."""
        return PostgresStore(self.database)

    @property
    def model(self) -> str:
        """Return the name of the model."""
        return next(iter(self.definition.models))

    async def apply(self, definition: ProjectDefinition) -> None:
        """Put a definition in force."""
        self.definition = definition
        await self.store.record([applied(definition, definition.id)])

    async def ask(self, request: str, cut_us: int = CUT, definition: str | None = None) -> None:
        """Ask for the dataset of the model."""
        fact = DatasetRequested(
            request=request, model=self.model, project="weather", definition=definition or self.definition.id,
            cut=render(cut_us), requested_by="ann",
        )  # fmt: skip
        await self.store.record([asked(fact, request, cut_us)])

    async def ask_for_run(self, run: str, cut_us: int = CUT) -> None:
        """Ask for a training run of the model."""
        fact = TrainingRequested(
            run=run, model=self.model, project="weather", cut=render(cut_us), cause="request", requested_by="bob"
        )
        await self.store.record([asked(fact, run, cut_us)])

    def performer(self, store: PostgresStore | None = None) -> Performer:
        """Return the performer of a process that has just started."""
        return Performer(store or self.store, self.artifacts, Reading(self.kafka))

    async def build(self, request: str, cut_us: int = CUT) -> dict[str, object]:
        """Ask for a dataset, have it built, and return its row."""
        await self.ask(request, cut_us)
        assert await self.performer().advance()
        return await self.built(request)

    async def built(self, request: str) -> dict[str, object]:
        """Return the dataset that a request led to."""
        (found,) = [row for row in await self.store.requests() if row["request"] == request]
        assert found["status"] == "built", found["reason"]
        (row,) = [row for row in await self.store.datasets() if row["dataset"] == found["dataset"]]
        return row

    async def published(self) -> list[Event]:
        """Return all events that go out, in their order."""
        return [decode(record) for record in Log().append(await Outbox(self.database, "training").next_messages(1_000))]

    async def facts(self, kind: type[Fact]) -> list[Fact]:
        """Return the facts of a kind that go out."""
        return [event.fact for event in await self.published() if isinstance(event.fact, kind)]
