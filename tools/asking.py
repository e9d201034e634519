"""Requests over HTTP, each timed by whoever asks: what `hammer.py` sends. Needs Python alone."""

import asyncio
from typing import cast
from urllib.parse import urlsplit


class Connection(asyncio.Protocol):
    """A connection to the server, on which one request at a time is on its way."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._heard = b""
        self._status: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def ask(self, request: bytes) -> "asyncio.Future[str]":
        """Send a request; its status, or why there is none, comes later."""
        self._heard, self._status = b"", asyncio.get_running_loop().create_future()
        if self.transport is not None:
            self.transport.write(request)
        return self._status

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Take what has come: the answer is there when its body is whole."""
        heard = self._heard = self._heard + data
        head, found, body = heard.partition(b"\r\n\r\n")
        if not found:
            return
        said = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
        if (length := said.get(b"content-length")) is None:
            self.end("no content-length")
        elif len(body) >= int(length):
            self.end(head[9:12].decode(), stays=b"close" not in said.get(b"connection", b""))

    def connection_lost(self, exc: Exception | None) -> None:
        """Say why there is no answer."""
        self.end("closed" if exc is None else type(exc).__name__)

    def end(self, status: str, *, stays: bool = False) -> None:
        """Say what became of the request; unless it stays, the connection is closed."""
        if self.transport is not None and not stays:
            self.transport.abort()
            self.transport = None
        if not self._status.done():
            self._status.set_result(status)


class Line:
    """Asks again and again, on one connection, which is made anew when it is closed."""

    def __init__(self, url: str, body: bytes | None, patience_s: float) -> None:
        parts = urlsplit(url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        about = b"" if body is None else b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body)
        verb = "GET" if body is None else "POST"
        head = f"{verb} {path} HTTP/1.1\r\nhost: {parts.netloc}\r\n".encode()
        self._request = head + about + b"\r\n" + (body or b"")
        self._host, self._port = parts.hostname or "localhost", parts.port or 80
        self._patience_s = patience_s
        self._loop = asyncio.get_running_loop()
        self.connection = Connection()

    async def connect(self) -> None:
        """Connect, unless that was done. Raises OSError, of which TimeoutError is one."""
        if self.connection.transport is None:
            async with asyncio.timeout(self._patience_s):
                _, self.connection = await self._loop.create_connection(Connection, self._host, self._port)

    async def ask(self) -> str:
        """Ask once; return the status, or why there is none."""
        try:
            await self.connect()
        except OSError as fault:
            return type(fault).__name__
        impatient = self._loop.call_later(self._patience_s, self.connection.end, "no answer in time")
        try:
            return await self.connection.ask(self._request)
        finally:
            impatient.cancel()
