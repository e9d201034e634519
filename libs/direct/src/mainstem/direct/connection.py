"""A connection, from the bytes that come to the answers that leave."""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, cast

import httptools
from typing_extensions import override

from mainstem.direct import heads
from mainstem.direct.call import Call, Head
from mainstem.direct.request import Request
from mainstem.direct.responses import END, FAILED, refused
from mainstem.direct.shared import Shared

#: A head that is known has so many bytes at most.
_HEAD_BYTES: Final = 2_048
#: So much is read in one turn of the loop, unless it is of known heads, or the body of one request.
_SLICE_BYTES: Final = 16 << 10
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(asyncio.Protocol):
    """One connection: requests in, answers out in their order."""

    def __init__(self, shared: "Shared[Connection]") -> None:
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._shared = shared
        self._parser = httptools.HttpRequestParser(self)
        self._loop = asyncio.get_running_loop()
        self._request: Request | None = None
        #: Bytes of what was received last, and the head that it began with.
        self._received = 0
        self._head: bytes | None = None
        #: What was received and is for the next turn of the loop.
        self._kept = b""
        self._waiting: deque[Call] = deque()
        self._reading = True
        #: When bytes came last, and since when answers are not fetched.
        self.heard = self._loop.time()
        self._unread_since: float | None = None
        #: The other side sends nothing more.
        self._ended = False
        #: Nothing more is taken, and what is done once all that was taken is answered.
        self._over = False
        self._then: Callable[[], None] | None = None
        #: When this side said that it is over, and the bytes that came nevertheless.
        self._closed_at: float | None = None
        self._forgotten = 0

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if len(self._shared.connections) >= self._shared.limits.connections:
            self.transport.write(refused(503, "too many connections; try again later"))
            self.transport.close()
            self._over = True
            return
        self._shared.connections.add(self)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._over = True
        self._drop_request()
        self._shared.connections.discard(self)

    @override
    def data_received(self, data: bytes) -> None:
        if not self._over:
            self.heard = self._shared.turn or self._shared.begin_turn()
            self._take(self._kept + data if self._kept else data)
        else:
            self._forget(len(data))

    def _take(self, data: bytes) -> None:
        """Take what came: so many requests at most, the rest in the next turn of the loop."""
        self._kept = b""
        if self._request is None:
            data = self._take_known(data)
        size = (self._request.left if self._request is not None else 0) or _SLICE_BYTES
        if len(data) > size:
            self._keep(data[size:])
            data = data[:size]
        if data and not self._over:
            self._parse(data)

    def _take_known(self, data: bytes) -> bytes:
        """Serve the requests at the beginning of what came that are whole and of a known head; return the rest."""
        begin, left = 0, min(self._shared.limits.taken, self._shared.limits.pipelined)
        while begin < len(data) and not self._over:
            end = data.find(END, begin, begin + _HEAD_BYTES) + len(END)
            if end < len(END):
                return data[begin:]
            head = data[begin:end]
            known = self._shared.heads.get(head)
            if known is None:
                self._head = head
                return data[begin:]
            following = end + known.length
            if len(data) < following:
                return data[begin:]
            if not left:
                self._keep(data[begin:])
                break
            left -= 1
            self._serve(known, data[end:following])
            begin = following
        return b""

    def _parse(self, data: bytes) -> None:
        """Have the parser read."""
        self._received = len(data)
        if self._request is not None:
            self._request.come(len(data))
        try:
            self._feed(data)
        except httptools.HttpParserCallbackError as fault:
            self._refuse(500, FAILED)
            return self._loop.call_exception_handler({"message": "a request was not taken", "exception": fault})
        except httptools.HttpParserError as fault:
            return self._refuse(400, f"this is no HTTP request: {fault}")
        request = self._request
        if request is not None:
            if not request.body_bytes or request.silent:
                self._check_headers(request)
            if not self._over:
                self._hold(request)
        return None

    def _feed(self, data: bytes) -> None:
        """Have the parser read; where it stops for another protocol, it is not asked for one and reads on."""
        while True:
            try:
                return self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as wish:
                if self._request is None:
                    return None
                head = self._request.begin_again(self._parser.get_method(), self._parser.get_http_version())
                self._parser, data = httptools.HttpRequestParser(self), head + data[wish.args[0] :]

    def _keep(self, data: bytes) -> None:
        """Leave something for the next turn of the loop, so that others come before it."""
        if not self._over:
            self._kept = data
            self._regulate()
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Take what was kept, unless too many wait already: then the last answer of theirs goes on with it."""
        if self._kept and not self._over and len(self._waiting) < self._shared.limits.pipelined:
            self._take(self._kept)
            self._regulate()
            if self._ended and not self._kept:
                self.finish()

    def _regulate(self) -> None:
        """Read, or let it be, as it stands."""
        free = self._unread_since is None and not self._kept and len(self._waiting) < self._shared.limits.pipelined
        if (free or self._over) != self._reading and not self.transport.is_closing():
            self._reading = not self._reading
            (self.transport.resume_reading if self._reading else self.transport.pause_reading)()

    @override
    def eof_received(self) -> bool:
        """Answer what was asked before the other side stopped sending."""
        self._ended = True
        if not self._kept:
            self.finish()
        return True

    @override
    def pause_writing(self) -> None:
        self._unread_since = self._loop.time()
        self._regulate()

    @override
    def resume_writing(self) -> None:
        self._unread_since = None
        self._regulate()

    @property
    def busy(self) -> bool:
        """Whether a request is being read, or waits for its answer."""
        return self._request is not None or bool(self._waiting) or bool(self._kept)

    def check(self, now: float) -> None:
        """Close the connection if it is idle for too long, or too slow."""
        limits = self._shared.limits
        if self._closed_at is not None:
            if now - self._closed_at > (limits.request_s if self._unread_since is not None else limits.linger_s):
                self.transport.abort()
        elif self._unread_since is not None and now - self._unread_since > limits.request_s:
            self.transport.abort()
        elif self._request is not None and now - self._request.began > limits.request_s:
            self._refuse(408, f"the request was not sent within {limits.request_s:.0f} s")
        elif not self.busy and now - self.heard > limits.idle_s:
            self._close()

    def finish(self) -> None:
        """Take no more requests; close when what was taken is answered."""
        if self._closed_at is None:
            self._end(self._close)
        else:
            self.transport.close()

    # -- what the parser tells --

    def on_message_begin(self) -> None:
        """Begin a request, if it is not one that is read again."""
        if not self._over and self._request is None:
            self._request = Request(self.heard, self._received)

    def on_url(self, url: bytes) -> None:
        """Take a part of the address."""
        if self._request is not None:
            self._request.add_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, or what stands in its place behind a body."""
        request = self._request
        if request is not None:
            request.add_header(name, value)
            if request.headed:
                self._check_headers(request)

    def on_headers_complete(self) -> None:
        """Refuse a body that is too large before it is sent; let one come that waits to be asked for."""
        request = self._request
        if request is None:
            return
        request.end_headers()
        self._check_headers(request)
        self._check_length(request.length)
        fault = heads.refusal(self._parser.get_method(), self._parser.get_http_version(), request)
        if fault is not None:
            self._refuse(*fault)
        if request.asks and not self._over and not self._parser.should_upgrade():
            self._answered(_CONTINUE)
            self._regulate()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        request = self._request
        if request is not None:
            request.add(body)
            if request.body_bytes > self._shared.limits.body_bytes:
                self._too_large()

    def on_message_complete(self) -> None:
        """Give a request that is whole to who serves it; one that wishes for another protocol is read again."""
        if self._parser.should_upgrade():
            return None
        request = self._request
        self._drop_request()
        if request is None or self._over:
            return None
        method = self._parser.get_method()
        handler = heads.server(self._shared.route, method, request)
        if handler is None:
            return self._end(partial(self._hand_over, request.carried(method)))
        keep_alive = self._parser.should_keep_alive() and self._parser.get_http_version() == "1.1"
        found = Head(handler, keep_alive, request.body_bytes)
        head, self._head = self._head, None
        if head is not None and request.has_head(head, method):
            self._shared.remember(head, found)
        return self._serve(found, request.body)

    def _serve(self, head: Head, body: bytes) -> None:
        """Give a request to who serves it."""
        call = Call(self, body, head.keep_alive)
        self._waiting.append(call)
        if not head.keep_alive:
            self._end(self._close)
        elif len(self._waiting) == self._shared.limits.pipelined:
            self._regulate()
        try:
            head.handler(call)
        except Exception as fault:  # noqa: BLE001  (it is nothing to the other calls, and the loop is told)
            if call.answered is None:
                call.fail()
            self._loop.call_exception_handler({"message": "a handler of HTTP failed", "exception": fault})

    # -- answers --

    def _answered(self, response: bytes) -> None:
        """Say something behind the answers to the requests before."""
        call = Call(self, b"", keep_alive=True)
        call.answered = response
        self._waiting.append(call)
        self.send_answered()

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
        elif len(self._waiting) == self._shared.limits.pipelined - 1:
            self._regulate()
            if self._kept:
                self._loop.call_soon(self._go_on)

    def _end(self, then: Callable[[], None]) -> None:
        """Take nothing more, and do this when all that was taken is answered."""
        self._over, self._then, self._kept = True, self._then or then, b""
        self._settle()

    def _settle(self) -> None:
        if self._then is not None and not self._waiting and not self.transport.is_closing():
            self._then()

    # -- limits --

    def _check_headers(self, request: Request) -> None:
        """Refuse headers that are too many; few enough bytes need no counting."""
        limits = self._shared.limits
        long = request.bytes > limits.header_bytes and request.header_bytes() > limits.header_bytes
        if long or request.silent > limits.header_bytes:
            self._refuse(431, f"request line and headers have more than {limits.header_bytes} bytes")
        elif len(request.headers) + request.trailers > limits.headers:
            self._refuse(431, f"the request has more than {limits.headers} headers")

    def _check_length(self, length: int) -> None:
        """Refuse a body that is announced and is not wanted."""
        if length > self._shared.limits.body_bytes:
            self._too_large()
        elif length > self._shared.limits.held_bytes - self._shared.held:
            self._too_much()

    def _hold(self, request: Request) -> None:
        """Count what has come of a request that is not whole."""
        self._shared.held += request.bytes - request.held
        request.held = request.bytes
        if self._shared.held > self._shared.limits.held_bytes:
            self._too_much()

    def _drop_request(self) -> None:
        """Hold nothing of a request any more."""
        if self._request is not None:
            self._shared.held -= self._request.held
            self._request = None

    def _too_large(self) -> None:
        self._refuse(413, f"the body has more than {self._shared.limits.body_bytes} bytes; send it in parts")

    def _too_much(self) -> None:
        self._refuse(503, "too much is being sent at once, by all callers together; try again later")

    def _refuse(self, status: int, why: str) -> None:
        """Say why no request can be read any more, behind the answers to those that were; then close."""
        if self._over:
            return
        self._drop_request()
        self._over, self._then, self._kept = True, self._linger, b""
        self._answered(refused(status, why))

    def _forget(self, size: int) -> None:
        """Take no notice of what comes after the end, which may come slowly; too much of it is not even read."""
        self._forgotten += size
        if self._reading:
            self._reading = False
            self.transport.pause_reading()
            if self._forgotten <= self._shared.limits.linger_bytes:
                self._loop.call_later(self._shared.limits.linger_pause_s, self._regulate)

    def _linger(self) -> None:
        """Say that it is over, and let the other side read that."""
        self._closed_at = self._loop.time()
        self.transport.write_eof()
        self._regulate()

    def _close(self) -> None:
        self._over, self._closed_at, self._kept = True, self._loop.time(), b""
        self._drop_request()
        self.transport.close()

    def _hand_over(self, request: bytes) -> None:
        """Let somebody else answer."""
        self._shared.connections.discard(self)
        self.transport.resume_reading()
        self._shared.upstream.answer(self.transport, request)
