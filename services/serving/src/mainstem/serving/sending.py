"""The spools, sent: from the disk to the log."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from mainstem.bus import Publisher
from mainstem.bus.spool_folder import SpoolCorrupt, given_name
from mainstem.bus.spool_sender import send
from mainstem.bus.spool_tail import Tail
from mainstem.direct import collect_seldom
from mainstem.events.envelope import Message
from mainstem.events.fence import Position
from mainstem.runtime import open_resources, steadily
from mainstem.serving.blocks import unpack
from mainstem.serving.domain import Tallies, spool_name
from mainstem.serving.ports import Progress, Store
from mainstem.serving.settings import Settings
from mainstem.serving.store import PostgresStore
from mainstem.storage import Checkpoint, load_checkpoint
from mainstem.telemetry import logger, metrics

#: A spool that nobody has begun is looked at so often, and one that the system refuses is tried again after that.
_BEGUN_S, _AGAIN_S = 0.1, 5.0

_log = logger(__name__)


#: Is told of a spool of which nothing more can be sent, and why.
OnBroken = Callable[[Path, SpoolCorrupt], None]


async def send_forever(settings: Settings, folders: list[Path], on_broken: OnBroken) -> None:
    """Send what comes into these spools, once broker and database are there."""
    async with AsyncExitStack() as stack:
        opened = partial(open_resources, "serving", "mainstem.serving", settings)
        resources = await steadily(lambda: stack.enter_async_context(opened()))
        checkpoint = partial(steadily, lambda: load_checkpoint(resources.database))
        store, publisher = PostgresStore(resources.database), resources.bus.publisher
        collect_seldom()
        await each(folders, lambda folder: send_all(folder, store, publisher, checkpoint), on_broken)


async def each(
    folders: Sequence[Path], send: Callable[[Path], Awaitable[None]], on_broken: OnBroken, again_s: float = _AGAIN_S
) -> None:
    """Send what comes into these spools; one that cannot be read is left as it is, and the others are sent.

    What the system refuses for one is tried again, and keeps none of the others waiting.
    """

    async def readable(folder: Path) -> None:
        while True:
            try:
                return await send(folder)
            except SpoolCorrupt as fault:
                about = {"action": "spool_corrupt", "spool": str(folder)}
                _log.critical("nothing more is sent of the spool %s: %s", folder, fault, extra=about)
                return on_broken(folder, fault)
            except OSError as fault:
                about = {"action": "spool_refused", "spool": str(folder)}
                _log.error("the spool %s: %s; that is tried again", folder, fault, extra=about)
            await asyncio.sleep(again_s)

    async with asyncio.TaskGroup() as group:
        for folder in folders:
            group.create_task(readable(folder))


async def send_all(
    folder: Path, store: Store, publisher: Publisher, checkpoint: Callable[[], Awaitable[Checkpoint]]
) -> None:
    """Send for ever what comes into the spool that lies in a place, whichever that is; note in the store how far.

    Raises SpoolCorrupt, and OSError where it may be otherwise soon.
    """
    while True:
        while given_name(folder) is None:  # noqa: ASYNC110  (nothing tells when a worker begins it)
            await asyncio.sleep(_BEGUN_S)
        at = await checkpoint()
        await _send(Tail(folder), store, publisher, at)  # as it lies there now


async def _send(tail: Tail, store: Store, publisher: Publisher, checkpoint: Checkpoint) -> None:
    place, sent = (f"serving@{tail.incarnation}", 0), metrics.SENT.labels(spool_name(tail.incarnation))
    start = checkpoint.positions.get(place, Position()).next_offset
    sent.set(start)

    async def on_sent(messages: Sequence[Message], following: int) -> None:
        progress = Progress({place: Position(following)}, tallies=Tallies.of(messages))
        await steadily(lambda: store.save(progress))
        sent.set(following)

    await send(tail, partial(unpack, tail.incarnation), publisher, start, "serving", on_sent)
