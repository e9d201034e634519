"""Connections of one listening socket: the watch over them, and their end."""

import asyncio
import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from errno import EMFILE, ENFILE, ENOBUFS, ENOMEM
from typing import Final, Generic, Protocol, TypeVar

_SWEEP_S: Final = 1.0
#: Connections that wait to be taken, and how many are taken in one turn of the loop.
_BACKLOG: Final = 2_048
_AT_ONCE: Final = 256
#: What accepting raises when there is no room for one more, and how long it is let be then.
_NO_ROOM: Final = {EMFILE, ENFILE, ENOBUFS, ENOMEM}
_AGAIN_S: Final = 0.1


class Watched(Protocol):
    """A connection, as whoever watches it sees it."""

    transport: asyncio.Transport

    def check(self, now: float) -> None:
        """Close the connection if it is idle for too long, or too slow."""

    def finish(self) -> None:
        """Take no more requests; close when what was taken is answered."""


class Turns:
    """Turns of the loop, as connections see them that are read in the same one."""

    #: When this turn of the loop began to read (s, time of the loop); 0 before it does.
    turn = 0.0

    def begin_turn(self) -> float:
        """Return the time, which is that of all that is read before the loop turns."""
        loop = asyncio.get_running_loop()
        self.turn = loop.time()
        loop.call_soon(self._end_turn)
        return self.turn

    def _end_turn(self) -> None:
        self.turn = 0.0


class _Accepting:
    """Takes who comes to a listening socket.

    uvloop's own way takes one connection in a turn of the loop: while turns are long, others wait for as many turns.
    """

    def __init__(self, listening: socket.socket, make: Callable[[], asyncio.Protocol]) -> None:
        """Take them from now on, and have a protocol made for each."""
        self._listening = listening
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[object]] = set()
        self._again: asyncio.TimerHandle | None = None
        listening.setblocking(False)
        self._begin()

    async def end(self) -> None:
        """Take nobody any more; return when those who were taken are connected."""
        self._loop.remove_reader(self._listening)
        if self._again is not None:
            self._again.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)

    def _begin(self) -> None:
        self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                taken, _ = self._listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as fault:
                if fault.errno not in _NO_ROOM:
                    raise
                self._loop.call_exception_handler({"message": "a connection was not taken", "exception": fault})
                self._loop.remove_reader(self._listening)
                self._again = self._loop.call_later(_AGAIN_S, self._begin)
                return
            taken.setblocking(False)
            opening = self._loop.create_task(self._loop.connect_accepted_socket(self._make, taken))
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)


Each = TypeVar("Each", bound=Watched)


class Listener(ABC, Generic[Each]):
    """Makes the connections of one listening socket, and keeps watch over them."""

    connections: set[Each]

    @abstractmethod
    def __call__(self) -> asyncio.Protocol:
        """Return a protocol for a connection."""

    @property
    def busy(self) -> bool:
        """Whether there is anything that is not answered."""
        return bool(self.connections)

    @asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncIterator[int]:
        """Serve while the block runs, on the port that is given; 0 takes a free one.

        At the end nothing more is taken, and what was begun is answered within a second. Other processes of this user
        may listen on the same port; each connection comes to one of them.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, port), family=family, backlog=_BACKLOG, reuse_port=True) as listening:
            accepting = _Accepting(listening, self)
            sweeping = asyncio.create_task(self._sweep())
            try:
                yield listening.getsockname()[1]
            finally:
                sweeping.cancel()
                await accepting.end()
        await self.drain()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            self.sweep(asyncio.get_running_loop().time())

    def sweep(self, now: float) -> None:
        """Close what is idle, or takes too long to send a request."""
        for connection in list(self.connections):
            connection.check(now)

    async def drain(self, within_s: float = 1.0) -> None:
        """Let every connection answer what it has taken, and close it."""
        for connection in list(self.connections):
            connection.finish()
        try:
            async with asyncio.timeout(within_s):
                while self.busy:  # noqa: ASYNC110  (the connections know)
                    await asyncio.sleep(0.005)
        except TimeoutError:
            for connection in list(self.connections):
                connection.transport.abort()
