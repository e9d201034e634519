"""The calls of one connection: from the headers of each to its answer."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Final

from mainstem.direct.flow import Inflow, Outflow
from mainstem.direct.frames import MOST_WINDOW_BYTES, WINDOW_BYTES, Code, ConnectionFault, StreamFault, reset
from mainstem.direct.responses import FAILED
from mainstem.direct.unary import (
    PREFIX,
    Head,
    Refused,
    Status,
    ending,
    message,
    opening,
    refusal,
    refusing,
    too_large,
    whole,
)

#: So many streams that we ended are known, whose late frames mean nothing.
_MOST_ENDED: Final = 1_000
#: An answer that waits takes so much besides its content.
_KEPT_BYTES: Final = 4 << 10


@dataclass(frozen=True, slots=True)
class UnaryLimits:
    """What a connection may cost."""

    #: Of the headers of a request, as HPACK counts them.
    header_bytes: int = 16 << 10
    #: Of a message, also unpacked; and of all messages together that came in part and are longer than a window.
    message_bytes: int = 16 << 20
    large_bytes: int = 64 << 20
    #: Of messages that came in part, of all connections together.
    held_bytes: int = 128 << 20
    #: Of answers that their clients do not take, of all connections together.
    waiting_bytes: int = 128 << 20
    #: Calls at once.
    streams: int = 256
    #: From the first byte to the first settings; from the first byte of a request to its last; without any call.
    greeting_s: float = 10.0
    request_s: float = 30.0
    idle_s: float = 300.0
    connections: int = 10_000
    #: Frames that ask for nothing, or take back what was asked for: so many more than calls were answered, of which so
    #: many are forgotten each second.
    idle_frames: int = 1_000
    forgotten_frames: int = 100
    #: Updates of windows in a row with nothing sent between them. Clients send up to two for each frame that they got.
    idle_updates: int = 10_000


class Call:
    """A call of gRPC; once `message` is there it is to be answered or refused, once."""

    __slots__ = (
        "_calls",
        "began",
        "body",
        "credit",
        "deadline",
        "head",
        "held",
        "kept",
        "measured",
        "message",
        "number",
        "read",
        "whole",
        "window",
    )

    def __init__(self, calls: "Calls", number: int, head: "Head[Call]", window: int) -> None:
        self._calls = calls
        self.number = number
        self.head = head
        self.message = b""
        #: What came of the body; whether its length is known, and whether it is all there.
        self.body: bytes | bytearray = b""
        self.measured = self.whole = False
        #: Bytes of it that count as held, and what keeping its answer takes.
        self.held = self.kept = 0
        #: What may be sent, and what the client may send.
        self.window = window
        self.credit = WINDOW_BYTES
        #: When the turns of the loop began that read its first bytes and its last ones, and when it is given up
        #: (s, time of the loop).
        self.began = self.read = calls.now
        self.deadline = inf

    def answer(self, content: bytes) -> None:
        """Answer with a message, now or whenever it is known; nothing happens when nobody waits for it any more."""
        self._calls.answer(self, content)

    def refuse(self, status: Status, why: str) -> None:
        """Say that there is no answer, and why."""
        self._calls.refuse(self, refusal(status, why))


class Held:
    """Counts the bytes of messages that came in part, and of answers that wait, of all connections."""

    bytes = 0
    waiting = 0


class Calls:
    """Those that have no answer yet."""

    def __init__(
        self, limits: UnaryLimits, held: Held, write: Callable[[bytes], None], settle: Callable[[], None]
    ) -> None:
        """Begin with none; `settle` is called whenever there is one less."""
        self._limits = limits
        self._held = held
        self._write = write
        self._settle = settle
        self._loop = asyncio.get_running_loop()
        #: When something was heard last: the turn of the loop that read it began then.
        self.now = self._loop.time()
        self.inflow = Inflow(write, limits.large_bytes)
        self.outflow = Outflow(write, self._end, limits.idle_updates)
        self.open: dict[int, Call] = {}
        #: The streams that we ended before the client did.
        self.ended: dict[int, None] = {}
        self.idle_frames = 0
        #: When the next call must be answered, and who sees to that.
        self._due = inf
        self._timer: asyncio.TimerHandle | None = None

    def clear(self) -> None:
        """Forget all: nobody waits any more."""
        self._held.bytes -= sum(call.held for call in self.open.values())
        self._held.waiting -= sum(call.kept for call in self.open.values())
        self.open.clear()
        self.outflow.clear()
        if self._timer is not None:
            self._timer.cancel()

    def begin(self, number: int, head: "Head[Call]") -> Call:
        """Begin a call. Raises StreamFault when there are too many."""
        if len(self.open) >= self._limits.streams:
            raise StreamFault(number, Code.REFUSED_STREAM)
        call = self.open[number] = Call(self, number, head, self.outflow.initial)
        if head.timeout_s is not None:
            self.limit(call, call.began + head.timeout_s)
        return call

    def set_window(self, size: int) -> None:
        """Take another window for streams, those that are open too. Raises ConnectionFault for too much."""
        more, self.outflow.initial = size - self.outflow.initial, size
        for call in self.open.values():
            call.window += more
            if call.window > MOST_WINDOW_BYTES:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, f"a window of {call.window} bytes")
        self.outflow.resized()

    def take(self, call: Call, content: bytes) -> None:
        """Take a part of a body. Parts may be many and small, so they are not kept as such."""
        if not call.body:
            call.body = content
        elif isinstance(call.body, bytearray):
            call.body += content
        else:
            call.body = bytearray(call.body) + content

    def measure(self, call: Call) -> None:
        """Look at how long the message is to be: refuse it, or let the client send all of it."""
        self._held.bytes += len(call.body) - call.held
        call.held = len(call.body)
        if self._held.bytes > self._limits.held_bytes:
            return call.refuse(Status.RESOURCE_EXHAUSTED, "too much is sent at once; try again later")
        if len(call.body) < PREFIX.size:
            return None
        _, size = PREFIX.unpack_from(call.body)
        if size > self._limits.message_bytes:
            why = too_large(size, self._limits.message_bytes)
            return call.refuse(why.status, str(why))
        if len(call.body) > PREFIX.size + size:
            return call.refuse(Status.UNIMPLEMENTED, "there is more than one message in the request")
        if not call.measured:
            more = PREFIX.size + size - len(call.body) - call.credit
            call.measured = True
            if more > 0:
                self.inflow.ask(call, more)
        return None

    def finish(self, call: Call) -> None:
        """Give a request that is whole to its method."""
        call.whole, call.read, head = True, self.now, call.head
        self._let_go(call)
        if head.length is not None and head.length != len(call.body):
            raise StreamFault(call.number, Code.PROTOCOL_ERROR)
        if head.method is None or head.refusal is not None:
            return self.refuse(call, head.refusal or b"")
        body, call.body = call.body, b""
        try:
            call.message = message(body, packing=head.packing, most_bytes=self._limits.message_bytes)
        except Refused as fault:
            return call.refuse(fault.status, str(fault))
        if call.deadline <= self.now:
            return call.refuse(Status.DEADLINE_EXCEEDED, "the deadline was over when the request was there")
        try:
            head.method(call)
        except Exception as fault:  # noqa: BLE001  (it is nothing to the other calls, and the loop is told)
            call.refuse(Status.INTERNAL, FAILED)
            self._loop.call_exception_handler({"message": "a method of gRPC failed", "exception": fault})
        return None

    def answer(self, call: Call, content: bytes) -> None:
        """Send an answer, whose message is this."""
        if self.open.get(call.number) is not call:
            return
        size = PREFIX.size + len(content)
        if self.outflow.fits(call, size):
            self._write(whole(call.number, content))
            self._end(call.number)
        elif self._keep(call, _KEPT_BYTES + size):
            name = call.number.to_bytes(4)
            self._write(opening(name))
            self.outflow.put(call, PREFIX.pack(0, len(content)) + content, ending(name), self._loop.time())
        else:
            why = "too many answers wait to be taken; take them, or ask for less at once"
            call.refuse(Status.RESOURCE_EXHAUSTED, why)

    def _keep(self, call: Call, size: int) -> bool:
        """Have an answer wait for its client, if there is room; its request is forgotten."""
        if self._held.waiting + size > self._limits.waiting_bytes:
            return False
        self._held.waiting += size
        call.kept, call.message = size, b""
        return True

    def refuse(self, call: Call, block: bytes) -> None:
        """Send an answer that is these headers."""
        if self.open.get(call.number) is call and call.number not in self.outflow.waiting:
            self._write(refusing(call.number, block))
            self._end(call.number)

    def _end(self, number: int) -> None:
        """Forget a call that has all of its answer; what the client still sends of it means nothing."""
        call = self.open.pop(number)
        if call.kept:
            self._held.waiting -= call.kept
        if not call.whole:
            self._let_go(call)
            self._write(reset(number, Code.NO_ERROR))
            self.remember_ended(number)
        if self.idle_frames:
            self.idle_frames -= 1
        self._settle()

    def drop(self, number: int) -> None:
        """Forget a call, with what is sent of it."""
        call = self.open.pop(number, None)
        self.outflow.drop(number)
        if call is not None:
            self._let_go(call)
            self._held.waiting -= call.kept

    def drop_parts(self) -> None:
        """Forget the calls that are not whole: nothing comes any more."""
        for call in list(self.open.values()):
            if not call.whole:
                self.drop(call.number)

    def _let_go(self, call: Call) -> None:
        """Let others send what this one might have sent, or did: it is whole, or is no more."""
        self.inflow.end(call.number)
        self._held.bytes -= call.held
        call.held = 0

    def break_off(self, fault: StreamFault) -> None:
        """End a stream for what was done on it, and count that: it costs more to answer than to do."""
        self.drop(fault.number)
        self._write(reset(fault.number, fault.code))
        self.remember_ended(fault.number)
        self.spend()
        self._settle()

    def remember_ended(self, number: int) -> None:
        """Know that frames of a stream that are still to come mean nothing."""
        self.ended[number] = None
        if len(self.ended) > _MOST_ENDED:
            del self.ended[next(iter(self.ended))]

    def spend(self) -> None:
        """Count a frame that asks for nothing. Raises ConnectionFault for too many."""
        self.idle_frames += 1
        if self.idle_frames > self._limits.idle_frames:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many frames that ask for nothing")

    def limit(self, call: Call, deadline: float) -> None:
        """Have a call given up at its deadline."""
        call.deadline = deadline
        if deadline < self._due:
            self._due = deadline
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        now, self._due, self._timer = self._loop.time(), inf, None
        for call in list(self.open.values()):
            if call.deadline <= now:
                self.give_up(call, "the deadline is over")
            elif call.deadline < self._due:
                self.limit(call, call.deadline)

    def give_up(self, call: Call, why: str) -> None:
        """Refuse a call, or break its answer off."""
        if call.number in self.outflow.waiting:
            self.drop(call.number)
            self._write(reset(call.number, Code.CANCEL))
            self.remember_ended(call.number)
            self._settle()
        else:
            call.refuse(Status.DEADLINE_EXCEEDED, why)

    def check(self, slow: float) -> None:
        """Give up what was begun before `slow` and is not whole, or got nothing since."""
        stuck = self.outflow.stuck(slow)
        for call in list(self.open.values()):
            if call.number in stuck or (not call.whole and call.began < slow):
                self.give_up(call, f"the request was not sent within {self._limits.request_s:.0f} s")
