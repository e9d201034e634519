"""The sender: a process that writes to the log what the workers recorded, when the processor has nothing else to do.

It is the only one that needs broker and database for a direct call, and no call waits for it.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Final

from mainstem.bus.spool import SpoolCorrupt
from mainstem.direct import collect_seldom
from mainstem.runtime import open_resources, run, steadily
from mainstem.serving.orders import Ask, Channel, Figures, Sends
from mainstem.serving.sending import send_all
from mainstem.serving.settings import Settings
from mainstem.serving.store import PostgresStore
from mainstem.storage import load_checkpoint
from mainstem.telemetry import configure, logger, metrics

#: Whoever answers comes first.
_NICENESS: Final = 19

_log = logger(__name__)


async def main(handle: int) -> None:
    """Send until the service at the other end of the socket is gone."""
    channel = await Channel.over(socket.socket(fileno=handle))
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, channel.close)
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # Ctrl-C is for the service
    sends = await channel.receive()
    if not isinstance(sends, Sends):
        return
    settings = Settings()
    configure(settings.log_level)
    os.nice(_NICENESS)
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(send_forever(settings, [Path(folder) for folder in sends.folders]))
        while (message := await channel.receive()) is not None:
            if isinstance(message, Ask):
                channel.send(Figures(message.serial, metrics.told()))
        sending.cancel()


async def send_forever(settings: Settings, folders: list[Path]) -> None:
    """Send what comes into these spools, once broker and database are there."""
    async with AsyncExitStack() as stack:
        opened = partial(open_resources, "serving", "mainstem.serving", settings)
        resources = await steadily(lambda: stack.enter_async_context(opened()))
        checkpoint = await steadily(lambda: load_checkpoint(resources.database))
        store, publisher = PostgresStore(resources.database), resources.bus.publisher
        collect_seldom()
        await each(folders, lambda folder: send_all(folder, store, publisher, checkpoint))


async def each(folders: Sequence[Path], send: Callable[[Path], Awaitable[None]]) -> None:
    """Send what comes into these spools; one that cannot be read is left as it is, and the others are sent."""

    async def readable(folder: Path) -> None:
        try:
            await send(folder)
        except SpoolCorrupt as fault:
            about = {"action": "spool_corrupt", "spool": str(folder)}
            _log.critical("nothing more is sent of the spool %s: %s", folder, fault, extra=about)

    async with asyncio.TaskGroup() as group:
        for folder in folders:
            group.create_task(readable(folder))


if __name__ == "__main__":
    run(partial(main, int(sys.argv[1])))
