"""Monitoring: predictions meet their labels, windows close, verdicts are stored."""

from tests.bench.clock import Figure
from tests.bench.stage import MODEL, ON_SERVERS, START_US, Stage, Turn
from tests.bench.training import Trained

from mainstem.events.envelope import Event, begin
from mainstem.events.fact import Fact
from mainstem.events.registry import VersionPromoted, VersionRegistered
from mainstem.monitoring.engine import Fold
from mainstem.monitoring.handlers import Watching
from mainstem.monitoring.store import PostgresStore, apply
from mainstem.testkit.examples import example
from mainstem.testkit.projects import applied


async def monitoring(stage: Stage, trained: Trained) -> Turn:
    """Set the service up, with the reference of a version that was promoted."""
    database = await stage.database("monitoring", "mainstem.monitoring")
    async with database.transaction() as tx:
        for event in facts(stage, trained):
            await apply(tx, event)
    fold = Fold(stage.definition, MODEL)
    watching = Watching(fold, "flights", PostgresStore(database), stage.artifacts)
    return Turn(
        Figure("monitoring", "a prediction or label", ON_SERVERS),
        [fold.predictions_topic, fold.labels_topic],
        lambda records: watching.on_records(records, lag={}),
        watching.checkpoint,
    )


def facts(stage: Stage, trained: Trained) -> list[Event]:
    """Return what the registry says of the project and its first version."""
    version = {"model": MODEL, "version": 1}
    registered = example(VersionRegistered, **version, onnx=trained.onnx, profile=trained.profile)
    promoted = example(VersionPromoted, **version, replaces=None)
    return [applied(stage.definition), _said(registered), _said(promoted)]


def _said(fact: Fact) -> Event:
    return begin(fact, command_id="bench", source="/bench", actor="bench", recorded_us=START_US)
