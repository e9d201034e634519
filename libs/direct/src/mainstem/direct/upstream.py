"""The rest of a server: requests that are not answered here are carried to it, and what it says is carried back."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from typing_extensions import override

from mainstem.direct.responses import rendered

#: An answer that takes longer is given up.
_LONGEST_S: Final = 60.0
_CHUNK: Final = 64 << 10
#: Who does not fetch the rest of an answer within this time is left.
_LINGER_S: Final = 10.0
#: So many requests are on their way at once, of so many bytes together; and so many to each page that has its own ways.
_MOST, _MOST_BYTES = 256, 64 << 20
_OWN, _OWN_BYTES = 16, 1 << 20
_AWAY: Final = b'{"error":"only models answer here at the moment, this page does not; try again later"}'
_BUSY: Final = b'{"error":"too many ask for this page, and others that are no model\'s, at once; try again later"}'
_JSON: Final = ((b"content-type", b"application/json"),)


@dataclass(slots=True)
class _Ways:
    """How many requests may be on their way at once, of how many bytes, and how many are."""

    most: int = _MOST
    most_bytes: int = _MOST_BYTES
    taken: int = 0
    bytes: int = 0

    def take(self, size: int) -> bool:
        """Take a way for a request of so many bytes, if there is one left."""
        if self.taken >= self.most or self.bytes + size > self.most_bytes:
            return False
        self.taken += 1
        self.bytes += size
        return True

    def leave(self, size: int) -> None:
        """Give it free."""
        self.taken -= 1
        self.bytes -= size


class Upstream:
    """An HTTP server at an address of this machine.

    Paths that `own` names have some ways more: however many ask for other pages, who asks for these gets through.
    """

    def __init__(self, host: str, port: int, own: Collection[bytes] = ()) -> None:
        self._address = host, port
        self._carrying: set[asyncio.Task[None]] = set()
        self._own = {path: _Ways(_OWN, _OWN_BYTES) for path in own}
        self._ways = _Ways()

    @property
    def busy(self) -> bool:
        """Whether an answer is on its way."""
        return bool(self._carrying)

    def answer(self, client: asyncio.Transport, request: bytes) -> None:
        """Have a whole request answered, one that asks for the connection to be closed; then close the client's."""
        ways = self._taken(request)
        if ways is None:
            client.write(rendered(503, _JSON, _BUSY, keep_alive=False))
            return client.close()
        side = _Client()
        client.set_protocol(side)
        task = asyncio.get_running_loop().create_task(self._carry(client, side, request))
        side.task = task
        self._carrying.add(task)

        def carried(task: asyncio.Task[None]) -> None:
            self._carrying.discard(task)
            ways.leave(len(request))

        return task.add_done_callback(carried)

    def _taken(self, request: bytes) -> _Ways | None:
        """Take a way, one that all may have before one of its page's own; return which, or None when none is left."""
        both = self._ways, self._own.get(_path(request))
        return next((ways for ways in both if ways is not None and ways.take(len(request))), None)

    async def get(self, path: str) -> tuple[int, bytes]:
        """Return status and body of a page. Raises OSError and TimeoutError."""
        async with asyncio.timeout(_LONGEST_S):
            reader, writer = await asyncio.open_connection(*self._address)
            try:
                writer.write(f"GET {path} HTTP/1.0\r\nhost: {self._address[0]}\r\n\r\n".encode())
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            finally:
                writer.close()
        if not body:
            raise ConnectionError(f"{self._address[0]}:{self._address[1]} did not answer {path}")
        return int(head.split(b" ", 2)[1]), body

    async def _carry(self, client: asyncio.Transport, side: "_Client", request: bytes) -> None:
        begun = False
        try:
            async with asyncio.timeout(_LONGEST_S):
                reader, writer = await asyncio.open_connection(*self._address)
                try:
                    writer.write(request)
                    while content := await reader.read(_CHUNK):
                        begun = True
                        client.write(content)
                        await side.writable.wait()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            begun = begun or client.is_closing()
        if not begun:
            client.write(rendered(503, _JSON, _AWAY, keep_alive=False))
        client.close()
        try:
            async with asyncio.timeout(_LINGER_S):
                await side.lost.wait()
        except TimeoutError:
            client.abort()


def _path(request: bytes) -> bytes:
    """Return the path that a request names in its first line, without what is asked of it."""
    begin = request.find(b" ") + 1
    return request[begin : request.find(b" ", begin)].partition(b"?")[0]


class _Client(asyncio.Protocol):
    """A connection whose last request is being answered: what else it says is not heard."""

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.writable = asyncio.Event()
        self.writable.set()
        self.lost = asyncio.Event()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.writable.set()
        self.lost.set()
        if self.task is not None:
            self.task.cancel()

    @override
    def eof_received(self) -> bool:
        return True

    @override
    def pause_writing(self) -> None:
        self.writable.clear()

    @override
    def resume_writing(self) -> None:
        self.writable.set()
