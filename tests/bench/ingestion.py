"""Ingestion: records of all sources are judged by their contracts and published."""

from tests.bench.clock import Figure
from tests.bench.stage import ON_SERVERS, Stage, Turn

from mainstem.events.fence import Fence
from mainstem.ingestion.engine import Judge
from mainstem.ingestion.handlers import Intake
from mainstem.ingestion.store import PostgresStore


async def ingestion(stage: Stage) -> Turn:
    """Set the service up."""
    store = PostgresStore(await stage.database("ingestion", "mainstem.ingestion"))
    judges = {f"src.{name}": Judge(contract, stage.tracer) for name, contract in stage.definition.sources.items()}
    intake = Intake(judges, Fence(), {})
    return Turn(
        Figure("ingestion", "a record judged and published", ON_SERVERS),
        sorted(judges),
        lambda records: intake.on_records(records, publisher=stage.bus.publisher),
        lambda: intake.checkpoint(store),
    )
