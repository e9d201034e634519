"""Connections of one listening socket: the watch over them, and their end."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Generic, Protocol, TypeVar

_SWEEP_S: Final = 1.0


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
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self, host, port, backlog=2048, reuse_port=True)
        sweeping = loop.create_task(self._sweep())
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            sweeping.cancel()
            server.close()
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
