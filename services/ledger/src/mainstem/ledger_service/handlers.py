"""From polled records to the archive, and twice a second to a checkpoint."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from mainstem.events.record import Record
from mainstem.events.registry import ProjectApplied
from mainstem.ledger_service.folder import Forked
from mainstem.ledger_service.ports import Store
from mainstem.runtime import steadily
from mainstem.runtime.health import Health
from mainstem.telemetry import logger, metrics

_PUBLISH_S = 0.5

_log = logger(__name__)


async def on_records(records: Sequence[Record], *, store: Store, on_project: Callable[[], Awaitable[None]]) -> None:
    """Archive a batch; a project that is applied among it may have brought new topics, so say it."""
    archived = await store.archive(records)
    metrics.FENCED.inc(archived.second_copies)
    for topic, count in archived.entries.items():
        metrics.RECORDS.labels(topic).inc(count)
    if ProjectApplied.TOPIC in archived.entries:
        await on_project()


async def publish_steadily(publish: Callable[[], Awaitable[object]], health: Health) -> None:
    """Publish twice a second, for ever; once that must not go on, say so by not being ready and stop publishing."""
    try:
        while True:
            await asyncio.sleep(_PUBLISH_S)
            await steadily(publish)
    except Forked as fault:
        await _stand_still(str(fault), health)


async def _stand_still(reason: str, health: Health) -> None:
    health.require("log", lambda: reason)
    _log.critical("publishing stopped: %s", reason, extra={"action": "log_forked"})
    await asyncio.Event().wait()
