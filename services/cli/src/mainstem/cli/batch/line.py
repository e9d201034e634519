"""A connection over HTTP that asks one thing after the other, for a fraction of what a client library takes."""

import asyncio
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import httptools
from typing_extensions import override

#: For one answer, and to be connected.
_TIMEOUT_S: Final = 30.0


class Reply(NamedTuple):
    """An answer; the names of headers are in small letters."""

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes


class Lost(Exception):
    """The connection ended behind a request: nobody knows whether it was answered."""


class Line:
    """One connection; it is made when it is wanted, and made anew when the server closed it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._tls = parts.scheme == "https"
        self._address = parts.hostname or "", parts.port or (443 if self._tls else 80)
        self._head = f"HTTP/1.1\r\nhost: {parts.netloc}\r\n"
        self._prefix = parts.path.rstrip("/")
        self._open: _Exchange | None = None

    async def ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
        """Ask once. Raises OSError when there is no connection, and Lost."""
        said = {**(headers or {}), "content-length": len(body)}
        fields = "".join(f"{name}: {value}\r\n" for name, value in said.items())
        head = f"{method} {self._prefix}{path} {self._head}{fields}\r\n"
        async with asyncio.timeout(_TIMEOUT_S):
            if self._open is None or self._open.transport.is_closing():
                loop = asyncio.get_running_loop()
                _, self._open = await loop.create_connection(_Exchange, *self._address, ssl=self._tls or None)
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                return await self._open.ask(head.encode() + body)
        except TimeoutError as fault:
            self.close()
            raise Lost(f"no answer within {_TIMEOUT_S:g} s") from fault
        except asyncio.CancelledError:
            self.close()  # what comes yet is no answer to the next request
            raise

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._open is not None:
            self._open.transport.abort()
            self._open = None


class _Exchange(asyncio.Protocol):
    """What `httptools` reads of a connection is the answer to the one request that waits."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._waiting: asyncio.Future[Reply] | None = None

    async def ask(self, request: bytes) -> Reply:
        self._waiting = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self._waiting

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a connection of streams has this kind

    @override
    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as fault:
            self._lose(fault)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._lose(exc or EOFError("the server closed the connection"))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        found = Reply(self._parser.get_status_code(), self._headers, b"".join(self._body))
        self._headers, self._body = {}, []
        if not self._parser.should_keep_alive():
            self.transport.close()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(found)

    def _lose(self, fault: Exception) -> None:
        self.transport.abort()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(Lost(str(fault)))
