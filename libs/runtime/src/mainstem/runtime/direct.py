"""HTTP/1.1 for the few paths that must be fast: from the socket to a handler without a task, a scope or a future.

What is no such path goes to an ASGI application on the same port: the whole request is handed over to uvicorn, which
answers it and closes the connection, so that the next one begins here again.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, cast

import httptools
import uvicorn
from starlette.types import ASGIApp
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from mainstem.runtime.responses import Headers, rendered

_SWEEP_S: Final = 1.0
#: Requests of one connection that wait for their answer before no more of it is read.
_MOST_PIPELINED: Final = 64
#: So many heads are known, each of so many bytes at most.
_MOST_HEADS, _HEAD_BYTES = 1_000, 2_048
_END: Final = b"\r\n\r\n"
#: Headers of requests that are read step by step.
_STEPWISE: Final = {b"transfer-encoding", b"expect", b"upgrade"}
_JSON: Final = ((b"content-type", b"application/json"),)
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a connection may cost."""

    #: Of the request line and all headers together.
    header_bytes: int = 64 << 10
    body_bytes: int = 16 << 20
    #: From the first byte of a request to its last.
    request_s: float = 30.0
    #: Between requests.
    idle_s: float = 75.0
    connections: int = 10_000


class Call:
    """A request that was read whole, in its place among those of its connection; its answer is to be given once."""

    __slots__ = ("_connection", "answered", "body", "keep_alive")

    def __init__(self, connection: "Connection", body: bytes, keep_alive: bool) -> None:
        self._connection = connection
        self.body = body
        self.keep_alive = keep_alive
        #: The answer as it is sent, from when it is there.
        self.answered: bytes | None = None

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer, now or whenever it is known."""
        self.answered = rendered(status, headers, body, keep_alive=self.keep_alive)
        self._connection.send_answered()


#: Takes a call on a path that it serves.
Handler = Callable[[Call], None]
#: Returns who serves a method and path (its query left out) with these headers; None for what is not served here.
Route = Callable[[bytes, bytes, Sequence[tuple[bytes, bytes]]], Handler | None]


@dataclass(frozen=True, slots=True)
class Head:
    """What stands before the body of a request, as far as it counts."""

    handler: Handler
    keep_alive: bool
    #: Of the body.
    length: int


class Door:
    """Makes the connections of one listening socket, and keeps watch over them."""

    def __init__(self, route: Route, app: ASGIApp, limits: Limits = Limits()) -> None:
        self.route = route
        self.limits = limits
        self.connections: set[Connection] = set()
        #: What heads said that were parsed before, by their bytes: a client sends the same one again and again.
        self.heads: dict[bytes, Head] = {}
        self._config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")
        self._config.load()
        self._state = ServerState()

    def __call__(self) -> "Connection":
        """Return a protocol for a connection."""
        return Connection(self)

    def remember(self, head: bytes, said: Head) -> None:
        """Know a head when it comes again."""
        if len(self.heads) >= _MOST_HEADS:
            self.heads.clear()
        self.heads[head] = said

    def cold(self) -> asyncio.Protocol:
        """Return a protocol that answers by the application."""
        return cast("asyncio.Protocol", HttpToolsProtocol(self._config, self._state, {}, asyncio.get_running_loop()))

    async def listen(self, host: str, port: int) -> None:
        """Serve until cancelled; then take no more, let what was begun be answered for a second, and close."""
        server = await asyncio.get_running_loop().create_server(self, host, port, backlog=2048)
        try:
            while True:
                await asyncio.sleep(_SWEEP_S)
                self.sweep(asyncio.get_running_loop().time())
        finally:
            server.close()
            await self.drain()

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
                while self.connections or self._state.connections:  # noqa: ASYNC110  (they know)
                    await asyncio.sleep(0.005)
        except TimeoutError:
            for connection in list(self.connections):
                connection.transport.abort()


class _Message:
    """A request as far as it was read; `bytes` counts what came of it, and maybe of those that follow."""

    __slots__ = ("began", "body", "body_bytes", "bytes", "headers", "url")

    def __init__(self, began: float, size: int) -> None:
        self.began = began
        self.bytes = size
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.body: list[bytes] = []
        self.body_bytes = 0

    def header_bytes(self) -> int:
        """Return how long the request line and all headers are."""
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)


class Connection(asyncio.Protocol):
    """One connection: requests in, answers out in their order."""

    def __init__(self, door: Door) -> None:
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._door = door
        self._parser = httptools.HttpRequestParser(self)
        self._loop = asyncio.get_running_loop()
        self._message: _Message | None = None
        #: Bytes of what was received last, and the head that it began with.
        self._received = 0
        self._head: bytes | None = None
        self._waiting: deque[Call] = deque()
        self._heard = self._loop.time()
        #: Nothing more is taken, and what is done once all that was taken is answered.
        self._over = False
        self._then: Callable[[], None] | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if len(self._door.connections) >= self._door.limits.connections:
            why = _error("too many connections; try again later")
            self.transport.write(rendered(503, _JSON, why, keep_alive=False))
            self.transport.close()
            self._over = True
            return
        self._door.connections.add(self)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._over = True
        self._door.connections.discard(self)

    @override
    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        self._heard = self._loop.time()
        if self._message is not None:
            self._message.bytes += len(data)
        else:
            data = self._take_known(data)
            if not data:
                return
        self._received = len(data)
        try:
            self._parser.feed_data(data)
            if self._message is not None and not self._message.body:
                self._check_headers(self._message)
        except httptools.HttpParserUpgrade:
            self._refuse(501, "no other protocol is spoken here")
        except httptools.HttpParserError as fault:
            self._refuse(400, f"this is no HTTP request: {fault}")

    def _take_known(self, data: bytes) -> bytes:
        """Serve the requests at the beginning of what came that are whole and of a known head; return the rest."""
        while data and not self._over:
            end = data.find(_END, 0, _HEAD_BYTES) + len(_END)
            if end < len(_END):
                return data
            head = data[:end]
            known = self._door.heads.get(head)
            if known is None:
                self._head = head
                return data
            following = end + known.length
            if len(data) < following:
                return data
            self._serve(known, data[end:following])
            data = data[following:]
        return b""

    @override
    def eof_received(self) -> bool:
        """Answer what was asked before the other side stopped sending."""
        self.finish()
        return True

    @override
    def pause_writing(self) -> None:
        self.transport.pause_reading()

    @override
    def resume_writing(self) -> None:
        if not self._over and len(self._waiting) < _MOST_PIPELINED:
            self.transport.resume_reading()

    @property
    def busy(self) -> bool:
        """Whether a request is being read, or waits for its answer."""
        return self._message is not None or bool(self._waiting)

    def check(self, now: float) -> None:
        """Close the connection if it is idle for too long, or too slow."""
        if self._message is not None and now - self._message.began > self._door.limits.request_s:
            self._refuse(408, f"the request was not sent within {self._door.limits.request_s:.0f} s")
        elif not self.busy and now - self._heard > self._door.limits.idle_s:
            self._close()

    def finish(self) -> None:
        """Take no more requests; close when what was taken is answered."""
        self._end(self._close)

    # -- what the parser tells --

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._message = _Message(self._heard, self._received)

    def on_url(self, url: bytes) -> None:
        """Take a part of the address."""
        if self._message is not None:
            self._message.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        if self._message is not None:
            self._message.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Refuse a body that is too large before it is sent; let one come that waits to be asked for."""
        message = self._message
        if message is None:
            return
        self._check_headers(message)
        for name, value in message.headers:
            if name == b"content-length" and int(value) > self._door.limits.body_bytes:
                self._too_large()
            elif name == b"expect" and value.lower() == b"100-continue" and not self._over:
                self.transport.write(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        message = self._message
        if message is not None:
            message.body.append(body)
            message.body_bytes += len(body)
            if message.body_bytes > self._door.limits.body_bytes:
                self._too_large()

    def on_message_complete(self) -> None:
        """Give a request that is whole to who serves it."""
        message, self._message = self._message, None
        if message is None or self._over:
            return None
        method, path = self._parser.get_method(), message.url.partition(b"?")[0]
        handler = self._door.route(method, path, message.headers)
        body = message.body[0] if len(message.body) == 1 else b"".join(message.body)
        if handler is None:
            return self._end(partial(self._hand_over, method, message, body))
        keep_alive = self._parser.should_keep_alive() and self._parser.get_http_version() == "1.1"
        found = Head(handler, keep_alive, len(body))
        head, self._head = self._head, None
        if head is not None and _is_whole(head, method, message):
            self._door.remember(head, found)
        return self._serve(found, body)

    def _serve(self, head: Head, body: bytes) -> None:
        """Give a request to who serves it."""
        call = Call(self, body, head.keep_alive)
        self._waiting.append(call)
        if len(self._waiting) >= _MOST_PIPELINED:
            self.transport.pause_reading()
        head.handler(call)

    # -- answers --

    def send_answered(self) -> None:
        """Send what is answered, in the order of the requests."""
        waiting = self._waiting
        while waiting and waiting[0].answered is not None:
            self._write(waiting.popleft())

    def _write(self, call: Call) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(call.answered or b"")
        if not call.keep_alive:
            self._close()
        elif self._then is not None:
            self._settle()
        elif len(self._waiting) == _MOST_PIPELINED - 1:
            self.transport.resume_reading()

    def _end(self, then: Callable[[], None]) -> None:
        """Take nothing more, and do this when all that was taken is answered."""
        self._over, self._then = True, self._then or then
        self._settle()

    def _settle(self) -> None:
        if self._then is not None and not self._waiting and not self.transport.is_closing():
            self._then()

    def _check_headers(self, message: _Message) -> None:
        """Refuse headers that are too many; few enough bytes need no counting."""
        most = self._door.limits.header_bytes
        if message.bytes > most and message.header_bytes() > most:
            self._refuse(431, f"request line and headers have more than {self._door.limits.header_bytes} bytes")

    def _too_large(self) -> None:
        self._refuse(413, f"the body has more than {self._door.limits.body_bytes} bytes; send it in parts")

    def _refuse(self, status: int, why: str) -> None:
        """Say why no request can be read any more, behind the answers to those that were; then close."""
        if self._over:
            return
        self._message, self._over = None, True
        call = Call(self, b"", keep_alive=False)
        self._waiting.append(call)
        call.answer(status, _JSON, _error(why))

    def _close(self) -> None:
        self._over = True
        self.transport.close()

    def _hand_over(self, method: bytes, message: _Message, body: bytes) -> None:
        """Let the application answer."""
        dropped = (b"content-length", b"transfer-encoding", b"connection", b"expect")
        kept = [b"%b: %b\r\n" % header for header in message.headers if header[0] not in dropped]
        about = b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        self._door.connections.discard(self)
        cold = self._door.cold()
        self.transport.set_protocol(cold)
        cold.connection_made(self.transport)
        self.transport.resume_reading()
        cold.data_received(b"".join((method, b" ", message.url, b" HTTP/1.1\r\n", *kept, about, body)))


def _is_whole(head: bytes, method: bytes, message: _Message) -> bool:
    """Tell whether bytes are all that stood before the body: a line for the request and each header, none before."""
    lines = len(message.headers) + 2
    stepwise = any(name in _STEPWISE for name, _ in message.headers)
    return not stepwise and head.startswith(method + b" ") and head.count(b"\n") == head.count(b"\r\n") == lines


def _error(why: str) -> bytes:
    return b'{"error":"%b"}' % why.replace("\\", "\\\\").replace('"', "'").encode()
