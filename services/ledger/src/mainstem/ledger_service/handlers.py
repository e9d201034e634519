"""From polled records to the archive, and every two seconds to a checkpoint."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from mainstem.events.catalogue import Record
from mainstem.events.registry import ProjectApplied
from mainstem.ledger_service.ports import Store
from mainstem.telemetry import metrics

_CHECKPOINT_S = 2.0


async def on_records(records: Sequence[Record], *, store: Store, on_project: Callable[[], Awaitable[None]]) -> None:
    """Archive a batch; a project that is applied among it may have brought new topics, so say it."""
    archived = await store.archive(records)
    metrics.FENCED.inc(archived.second_copies)
    for topic, count in archived.entries.items():
        metrics.RECORDS.labels(topic).inc(count)
    if ProjectApplied.TOPIC in archived.entries:
        await on_project()


async def checkpoint_steadily(publish: Callable[[], Awaitable[None]]) -> None:
    """Publish a checkpoint every two seconds, for ever."""
    while True:
        await asyncio.sleep(_CHECKPOINT_S)
        await publish()
