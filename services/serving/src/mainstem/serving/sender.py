"""The sender: a process that writes to the log what the workers recorded, when the processor has nothing else to do.

It is the only one that needs broker and database for a direct call, and no call waits for it.
"""

import asyncio
import os
import signal
import socket
import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Final

from mainstem.runtime import run
from mainstem.serving.orders import Ask, Broken, Channel, Figures, Sends
from mainstem.serving.reports import Reports
from mainstem.serving.settings import Settings
from mainstem.telemetry import configure, metrics

#: Whoever answers comes first; what it takes to load this, too.
_NICENESS: Final = 19
_SENDING: Final = "mainstem.serving.sending"


async def main(handle: int) -> None:
    """Send until the service at the other end of the socket is gone."""
    os.nice(_NICENESS)
    channel = await Channel.over(socket.socket(fileno=handle))
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, channel.ask_to_leave)
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # Ctrl-C is for the service
    sends = await channel.receive()
    if not isinstance(sends, Sends):
        return
    settings = Settings()
    configure(settings.log_level)
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(_send(settings, [Path(folder) for folder in sends.folders], channel))
        reports = Reports(channel, lambda serial: Figures(serial, metrics.told()))
        saying = group.create_task(reports.run())
        while (message := await channel.receive()) is not None:
            if isinstance(message, Ask):
                reports.reply(message.serial)
        sending.cancel()
        saying.cancel()
    await reports.end()


async def _send(settings: Settings, folders: list[Path], channel: Channel) -> None:
    sending = await asyncio.to_thread(import_module, _SENDING)
    await sending.send_forever(settings, folders, lambda folder, why: channel.send(Broken(str(folder), str(why))))


if __name__ == "__main__":
    run(partial(main, int(sys.argv[1])))
