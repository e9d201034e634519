"""What is done about records of the log that are gone: they are looked for, and told, and the set stands still."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Protocol

from mainstem.bus import Publisher, Subscription
from mainstem.features.ports import Partition, Store
from mainstem.features.rows import RowWriter
from mainstem.fold.gap import Gap
from mainstem.runtime import steadily
from mainstem.runtime.health import Health
from mainstem.telemetry import logger

_LOOK_EVERY_S = 2.0
_RECOGNISE_EVERY_S = 10.0

#: Takes the offsets at which partitions go on that hold no record, and when that was noticed (µs since 1970).
OnEmptied = Callable[[Mapping[Partition, int], int], Awaitable[None]]

_log = logger(__name__)


class Guarded(Protocol):
    """A set that is computed."""

    async def recognise(self, kafka: str, store: Store) -> None:
        """Raise Gap when a topic is another by now than the one that was read, Unavailable when nobody says."""

    async def checkpoint(self, store: Store) -> None:
        """Store the set as it stands."""


@asynccontextmanager
async def guarded(computing: Guarded, kafka: str, store: Store) -> AsyncIterator[None]:
    """Begin only upon the log that was read before; before a gap, store how far the set is."""
    try:
        await steadily(lambda: computing.recognise(kafka, store))
        yield
    except* Gap:
        await computing.checkpoint(store)
        raise


async def recognise_again(computing: Guarded, kafka: str, store: Store) -> None:
    """Look now and then whether the log is still the same one; see `Computing.recognise`."""
    while True:
        await asyncio.sleep(_RECOGNISE_EVERY_S)
        await steadily(lambda: computing.recognise(kafka, store))


async def look_out(subscription: Subscription, on_emptied: OnEmptied) -> None:
    """Look now and then for partitions that have lost all their records, for ever; `on_emptied` may raise Gap."""
    while True:
        await asyncio.sleep(_LOOK_EVERY_S)
        await on_emptied(await subscription.emptied(), time.time_ns() // 1_000)


async def stand_still(publisher: Publisher, health: Health, writer: RowWriter, gap: Gap) -> None:
    """Tell of a gap, by an event and by not being ready, and do nothing more: what would follow would be wrong."""
    known_as = f"feature set {writer.label}"
    health.require(known_as, lambda: str(gap))
    _log.error("stopped: %s", gap, extra={"action": "fold_stopped", "feature_set": writer.label})
    try:
        await steadily(lambda: publisher.publish([writer.stopped(gap)]))
        await asyncio.Event().wait()
    finally:
        health.forget(known_as)


def leaves(group: BaseExceptionGroup[Gap]) -> list[Gap]:
    """Return the gaps in a group, however deep."""
    found: list[Gap] = []
    for each in group.exceptions:
        found += leaves(each) if isinstance(each, BaseExceptionGroup) else [each]
    return found
