"""A process that the service starts and talks with."""

import asyncio
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress

from mainstem.serving.orders import Ask, Channel, Figures, Leaving, Message, Post, Reply, Routes, Sends
from mainstem.telemetry import metrics

#: A process that is dismissed, or whose channel is closed, gets this long to end by itself.
_STOP_S = 3.0


class Child:
    """One process. It ends when its channel is closed, as that is when the service ends, however it does."""

    def __init__(self, name: str, module: str, hello: Post | Sends) -> None:
        self.name = name
        self._module = module
        #: What it is told first of all.
        self.hello = hello
        self._channel: Channel | None = None
        self._process: asyncio.subprocess.Process | None = None
        self.dismissed = False
        self._asked: dict[int, asyncio.Future[Reply | None]] = {}
        #: What it said last that it did, and what those did who were it before.
        self.figures: Figures | None = None
        self.before: Figures | None = None

    async def live(self, first: Callable[[], Sequence[Message]]) -> int:
        """Start it, tell it what is to be told first, and return its exit code when it has ended; a cancel ends it.

        Raises OSError when it cannot be started.
        """
        self.dismissed = False
        self._process, channel = await self._start()
        try:
            for message in (self.hello, *first()):
                channel.send(message)
            self._channel = channel
            if self.dismissed:
                self.dismiss()
            while (said := await channel.receive()) is not None:
                self.take(said)
        finally:
            channel.close()
            self.lose()
            code = await _ended(self._process)
        return code

    async def _start(self) -> tuple[asyncio.subprocess.Process, Channel]:
        with ExitStack() as unless_started:
            ours, theirs = socket.socketpair()
            unless_started.enter_context(ours)
            with theirs:
                handle = theirs.fileno()
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", self._module, str(handle), pass_fds=[handle]
                )
            channel = await Channel.over(ours)
            unless_started.pop_all()
        return process, channel

    def tell(self, message: Message) -> None:
        """Send it a message, if it is there."""
        if self._channel is not None:
            self._channel.send(message)

    def ask(self, message: Routes | Ask) -> "asyncio.Future[Reply | None]":
        """Send it a message and return its reply; None when it is not there, or ends before it replies."""
        reply: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
        if self._channel is None:
            reply.set_result(None)
        else:
            self._asked[message.serial] = reply
            self._channel.send(message)
        return reply

    def dismiss(self) -> None:
        """Have it end what it does, say what it did, and end; one that is being started does so when it is there."""
        self.dismissed = True
        channel, self._channel = self._channel, None
        if channel is not None and self._process is not None:
            channel.finish()
            asyncio.get_running_loop().call_later(_STOP_S, _kill, self._process)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            _kill(self._process)

    def take(self, said: Message) -> None:
        """Take what it says."""
        if isinstance(said, Leaving):
            self.dismiss()
        if isinstance(said, Figures):
            self.figures = said
            for spool, recorded in said.recorded.items():
                metrics.RECORDED.labels(spool).set(recorded)
        if isinstance(said, Reply):
            reply = self._asked.pop(said.serial, None)
            if reply is not None and not reply.done():
                reply.set_result(said)

    def lose(self) -> None:
        """Be without it; what it said that it did stays true."""
        self._channel = None
        if self.figures is not None:
            self.before = self.figures.left_behind(self.before)
            self.figures = None
        asked, self._asked = self._asked, {}
        for reply in asked.values():
            if not reply.done():
                reply.set_result(None)


def _kill(process: asyncio.subprocess.Process) -> None:
    """End a process at once, if it is there."""
    with suppress(ProcessLookupError):
        process.kill()


async def _ended(process: asyncio.subprocess.Process) -> int:
    """Return the exit code of a process that is to end by itself; after a while it is killed."""
    try:
        async with asyncio.timeout(_STOP_S):
            return await process.wait()
    except TimeoutError:
        _kill(process)
        return await process.wait()
