"""HTTP/2 of a server of unary gRPC: frames in, calls to their methods, answers out (RFC 9113).

A call that comes as one frame of headers and one of data, from a client that said so before, costs a lookup; all that
HTTP/2 has besides is here too, and is slower.
"""

import asyncio
from collections.abc import Callable
from math import inf
from typing import Final, Protocol, cast

from typing_extensions import override

from mainstem.direct.blocks import BlockReader, Known, Malformed, check_trailers
from mainstem.direct.calls import Call, Calls, Held, UnaryLimits
from mainstem.direct.frames import (
    FRAME_BYTES,
    HEAD,
    HEAD_BYTES,
    NUMBER,
    NUMBER_MASK,
    PREFACE,
    Code,
    ConnectionFault,
    Flag,
    Kind,
    Setting,
    StreamFault,
    exactly,
    frame,
    going_away,
    settings,
    told,
    unpadded,
)
from mainstem.direct.unary import Head

_FAREWELL: Final = b"farewell"
#: The weight of a stream, which nothing here asks for.
_PRIORITY_BYTES: Final = 5


class Maker(Protocol):
    """What a connection asks of whoever makes it."""

    limits: UnaryLimits
    known: Known[Head[Call]]
    connections: set["Http2Connection"]
    held: Held
    turn: float

    def begin_turn(self) -> float:
        """Return the time, which is that of all that is read before the loop turns."""


class Http2Connection(asyncio.Protocol):
    """One connection."""

    def __init__(self, maker: Maker) -> None:
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._maker = maker
        self._limits = limits = maker.limits
        self._loop = asyncio.get_running_loop()
        self.heard = self._made = self._loop.time()
        self._blocks = BlockReader(maker.known, limits.header_bytes)
        self._calls = Calls(limits, maker.held, self._write, self._settle)
        #: The stream that began last.
        self._last = 0
        #: What was received and is no whole frame, and since when.
        self._rest, self._rest_since = b"", self.heard
        self._preface_read = False
        #: The only kind of frame that may come: settings at first, and the rest of a block of headers.
        self._only: Kind | None = Kind.SETTINGS
        self._block: tuple[int, int, bytearray] | None = None
        self._full_since = inf
        #: The client was asked to go; no call more is taken; nothing more is read.
        self._leaving = self._closing = self._over = False

    # -- what the socket says --

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        limits = self._limits
        self._write(
            settings(
                {
                    Setting.HEADER_TABLE_SIZE: 0,
                    Setting.MAX_CONCURRENT_STREAMS: limits.streams,
                    Setting.MAX_HEADER_LIST_SIZE: limits.header_bytes,
                }
            )
            + self._calls.inflow.begin()
        )
        if len(self._maker.connections) >= limits.connections:
            self._fail(Code.ENHANCE_YOUR_CALM, "too many connections; try again later")
        else:
            self._maker.connections.add(self)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._over = True
        self._calls.clear()
        self._maker.connections.discard(self)

    @override
    def eof_received(self) -> bool:
        """Answer what was asked before the other side stopped sending."""
        self._closing = True
        self._calls.drop_parts()
        self._settle()
        return True

    @override
    def pause_writing(self) -> None:
        self._calls.outflow.open, self._full_since = False, self._loop.time()
        self.transport.pause_reading()

    @override
    def resume_writing(self) -> None:
        self._calls.outflow.open, self._full_since = True, inf
        self._calls.outflow.drain(self._loop.time())
        if not self.transport.is_closing():
            self.transport.resume_reading()

    @override
    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        self.heard = self._calls.now = self._maker.turn or self._maker.begin_turn()
        if self._rest:
            data = self._rest + data
        else:
            self._rest_since = self.heard
        try:
            self._rest = self._read(data) if self._preface_read else self._read_preface(data)
        except ConnectionFault as fault:
            self._fail(fault.code, str(fault))

    # -- frames --

    def _read_preface(self, data: bytes) -> bytes:
        if not data.startswith(PREFACE[: len(data)]):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "this is no HTTP/2")
        if len(data) < len(PREFACE):
            return data
        self._preface_read = True
        return self._read(data[len(PREFACE) :])

    def _read(self, data: bytes) -> bytes:
        """Take the frames that are whole; return the rest."""
        at, size, unpack = 0, len(data), HEAD.unpack_from
        while size - at >= HEAD_BYTES and not self._over:
            word, flags, number = unpack(data, at)
            end = at + HEAD_BYTES + (word >> 8)
            if word >> 8 > FRAME_BYTES:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"a frame of {word >> 8} bytes, at most {FRAME_BYTES}")
            if end > size:
                break
            kind = word & 255
            if self._only is not None and kind != self._only:
                raise ConnectionFault(Code.PROTOCOL_ERROR, f"a frame of kind {kind} where {self._only.name} must be")
            try:
                _TAKES.get(kind, Http2Connection._ignore)(
                    self, flags, number & NUMBER_MASK, data[at + HEAD_BYTES : end]
                )
            except StreamFault as fault:
                self._calls.break_off(fault)
            at = end
        if at:
            self._rest_since = self.heard
        return data[at:]

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        self._calls.inflow.take(size)
        if flags & Flag.PADDED:
            payload = unpadded(payload)
        call = self._calls.open.get(number)
        if call is None or call.whole:
            return self._late(number)
        call.credit -= size
        if call.credit < 0:
            raise StreamFault(number, Code.FLOW_CONTROL_ERROR)
        if size > len(payload):
            self._calls.inflow.widen(call, size - len(payload))
        self._calls.take(call, payload)
        if flags & Flag.END_STREAM:
            return self._calls.finish(call)
        return self._calls.measure(call) if payload else self._calls.spend()

    def _headers(self, flags: int, number: int, payload: bytes) -> None:
        if not number & 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"a client may not begin stream {number}")
        if flags & Flag.PADDED:
            payload = unpadded(payload)
        if flags & Flag.PRIORITY:
            if len(payload) < _PRIORITY_BYTES:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "HEADERS without the priority that they announce")
            payload = payload[_PRIORITY_BYTES:]
        if flags & Flag.END_HEADERS:
            return self._take_block(number, flags, payload)
        self._block, self._only = (number, flags, bytearray(payload)), Kind.CONTINUATION
        return None

    def _continuation(self, flags: int, number: int, payload: bytes) -> None:
        if self._block is None or number != self._block[0]:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "CONTINUATION of nothing, or of another stream")
        if not payload:
            self._calls.spend()
        _, first, block = self._block
        block += payload
        if len(block) > self._limits.header_bytes + FRAME_BYTES:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "the headers are too many")
        if flags & Flag.END_HEADERS:
            self._block = self._only = None
            self._take_block(number, first, bytes(block))

    def _take_block(self, number: int, flags: int, block: bytes) -> None:
        call = self._calls.open.get(number)
        if call is not None:
            return self._trailers(call, flags, block)
        if number <= self._last:
            self._blocks.fields(block)
            if number in self._calls.ended:
                return None
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"stream {number} has ended, or was left out")
        self._last = number
        try:
            head = self._blocks.head(block)
        except Malformed:
            raise StreamFault(number, Code.PROTOCOL_ERROR) from None
        if self._closing:
            raise StreamFault(number, Code.REFUSED_STREAM)
        call = self._calls.begin(number, head)
        if flags & Flag.END_STREAM:
            return self._calls.finish(call)
        return None if head.refusal is None else self._calls.refuse(call, head.refusal)

    def _trailers(self, call: Call, flags: int, block: bytes) -> None:
        fields = self._blocks.fields(block)
        if call.whole:
            raise StreamFault(call.number, Code.STREAM_CLOSED)
        try:
            check_trailers(fields)
        except Malformed:
            raise StreamFault(call.number, Code.PROTOCOL_ERROR) from None
        if not flags & Flag.END_STREAM:
            raise StreamFault(call.number, Code.PROTOCOL_ERROR)
        self._calls.finish(call)

    def _rst_stream(self, _: int, number: int, payload: bytes) -> None:
        exactly(payload, NUMBER.size, Kind.RST_STREAM)
        self._must_have_begun(number)
        self._calls.drop(number)
        self._calls.spend()
        self._settle()

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "SETTINGS of a stream")
        self._only = None
        self._calls.spend()
        if flags & Flag.ACK:
            exactly(payload, 0, Kind.SETTINGS)
            self._blocks.acknowledged = True
            return None
        size = told(payload).get(Setting.INITIAL_WINDOW_SIZE)
        if size is not None:
            self._calls.set_window(size)
        self._write(frame(Kind.SETTINGS, Flag.ACK, 0))
        # Not before: until it hears of that, a client counts by the windows that were.
        return self._calls.outflow.drain(self.heard)

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        exactly(payload, 8, Kind.PING)
        if number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PING of a stream")
        if not flags & Flag.ACK:
            self._write(frame(Kind.PING, Flag.ACK, 0, payload))
        elif self._leaving and payload == _FAREWELL:
            self._write(going_away(self._last, Code.NO_ERROR))
            self._closing = True
            self._settle()
        self._calls.spend()

    def _goaway(self, _: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "GOAWAY of a stream")
        if len(payload) < 2 * NUMBER.size:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"GOAWAY of {len(payload)} bytes")
        self._closing = True
        self._settle()

    def _window_update(self, _: int, number: int, payload: bytes) -> None:
        (more,) = NUMBER.unpack(exactly(payload, NUMBER.size, Kind.WINDOW_UPDATE))
        more &= NUMBER_MASK
        outflow = self._calls.outflow
        outflow.count_update()
        if not number:
            if not more:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing")
            return outflow.widen(more, self.heard)
        self._must_have_begun(number)
        if not more:
            raise StreamFault(number, Code.PROTOCOL_ERROR)
        call = self._calls.open.get(number)
        return None if call is None else outflow.widen_stream(call, more, self.heard)

    def _priority(self, _: int, number: int, payload: bytes) -> None:
        exactly(payload, _PRIORITY_BYTES, Kind.PRIORITY)
        if not number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PRIORITY of the connection")
        self._calls.spend()

    def _push_promise(self, _: int, __: int, ___: bytes) -> None:
        raise ConnectionFault(Code.PROTOCOL_ERROR, "PUSH_PROMISE of a client")

    def _ignore(self, _: int, __: int, ___: bytes) -> None:
        self._calls.spend()

    def _must_have_begun(self, number: int) -> None:
        if number > self._last or not number & 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"stream {number} has not begun")

    def _late(self, number: int) -> None:
        """Take data of a stream that has none to come."""
        self._must_have_begun(number)
        if number not in self._calls.ended:
            raise StreamFault(number, Code.STREAM_CLOSED)

    # -- time --

    def check(self, now: float) -> None:
        """Give up calls that are too slow, and the connection if it is, or if nobody calls."""
        limits, slow = self._limits, now - self._limits.request_s
        self._calls.idle_frames = max(0, self._calls.idle_frames - limits.forgotten_frames)
        if self._full_since < slow or (self._leaving and self.heard < slow):
            return self.transport.abort()
        if self._only is Kind.SETTINGS and now - self._made > limits.greeting_s:
            return self._fail(Code.PROTOCOL_ERROR, f"no settings within {limits.greeting_s:.0f} s")
        if (self._rest or self._block is not None) and self._rest_since < slow:
            return self._fail(Code.PROTOCOL_ERROR, f"a frame was not sent within {limits.request_s:.0f} s")
        self._calls.check(slow)
        if not self._calls.open and now - self.heard > limits.idle_s:
            self.finish()
        return None

    def finish(self) -> None:
        """Tell the client to go elsewhere; take what it sent before it heard of that, answer, and close."""
        if self._only is Kind.SETTINGS:
            self._fail(Code.NO_ERROR, "the server stops")
        elif not self._leaving and not self._over:
            self._leaving = True
            self._write(going_away(NUMBER_MASK, Code.NO_ERROR) + frame(Kind.PING, 0, 0, _FAREWELL))

    def _settle(self) -> None:
        if self._closing and not self._calls.open and not self.transport.is_closing():
            self._over = True
            self.transport.close()

    def _fail(self, code: Code, why: str) -> None:
        if not self._over:
            self._over, self._rest = True, b""
            self._write(going_away(self._last, code, why))
            self.transport.close()

    def _write(self, content: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(content)


_TAKES: Final[dict[int, Callable[[Http2Connection, int, int, bytes], None]]] = {
    Kind.DATA: Http2Connection._data,
    Kind.HEADERS: Http2Connection._headers,
    Kind.PRIORITY: Http2Connection._priority,
    Kind.RST_STREAM: Http2Connection._rst_stream,
    Kind.SETTINGS: Http2Connection._settings,
    Kind.PUSH_PROMISE: Http2Connection._push_promise,
    Kind.PING: Http2Connection._ping,
    Kind.GOAWAY: Http2Connection._goaway,
    Kind.WINDOW_UPDATE: Http2Connection._window_update,
    Kind.CONTINUATION: Http2Connection._continuation,
}
