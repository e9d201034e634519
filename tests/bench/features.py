"""Features: accepted records are put in order and folded, rows published."""

from tests.bench.clock import Figure
from tests.bench.stage import FEATURES, ON_SERVERS, SPINE, Stage, Turn

from mainstem.features.handlers import Computing
from mainstem.features.store import PostgresStore
from mainstem.fold.fold import Fold


async def features(stage: Stage) -> Turn:
    """Set the service up."""
    store = PostgresStore(await stage.database("features", "mainstem.features"))
    fold = Fold(stage.definition.feature_sets[FEATURES].compiled, stage.definition.sources)
    computing = Computing(fold, stage.definition.sources[SPINE].partitions, stage.tracer)
    return Turn(
        Figure("features", "a record folded, rows published", ON_SERVERS),
        fold.topics,
        lambda records: computing.on_records(records, lag={}, publisher=stage.bus.publisher),
        lambda: computing.checkpoint(store),
    )
