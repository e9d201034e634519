"""Flow control of HTTP/2: what may be sent, and what may come (RFC 9113, 5.2)."""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final, Protocol

from mainstem.direct.frames import (
    FRAME_BYTES,
    HEAD,
    MOST_WINDOW_BYTES,
    WINDOW_BYTES,
    Code,
    ConnectionFault,
    Kind,
    StreamFault,
    window,
)

#: Of a connection, from its first moment on. Memory is bounded by the windows of its streams.
_CONNECTION_BYTES: Final = 16 << 20


class Flowing(Protocol):
    """A stream, as far as bytes flow on it."""

    number: int
    #: What may be sent, and what the other side may send.
    window: int
    credit: int


class _Answer:
    """Content that goes out as windows allow, and the frame behind it."""

    __slots__ = ("at", "content", "end", "stream", "waits_since")

    def __init__(self, stream: Flowing, content: bytes, end: bytes, now: float) -> None:
        self.stream = stream
        self.content = content
        self.at = 0
        self.end = end
        self.waits_since = now


class Outflow:
    """Sends what does not go out at once, all streams in turn; one that is stuck holds up no other."""

    def __init__(self, write: Callable[[bytes], None], done: Callable[[int], None], most_updates: int) -> None:
        """Begin with nothing; `most_updates` of windows may come in a row with nothing sent between them."""
        self._write = write
        self._done = done
        self._most_updates = most_updates
        #: What may be sent on the connection, and on a stream that begins.
        self.window = WINDOW_BYTES
        self.initial = WINDOW_BYTES
        self.waiting: dict[int, _Answer] = {}
        #: Those of them whose streams have a window, in turn.
        self._ready: OrderedDict[int, _Answer] = OrderedDict()
        #: Updates since something was sent, which is whenever the window is not what the last of them left.
        self._updates, self._left = 0, WINDOW_BYTES
        #: The socket takes more.
        self.open = True

    def fits(self, stream: Flowing, size: int) -> bool:
        """Tell whether so many bytes may go out as one frame, now; then they count as sent."""
        if self.waiting or size > self.window or size > stream.window or size > FRAME_BYTES:
            return False
        self.window -= size
        return True

    def put(self, stream: Flowing, content: bytes, end: bytes, now: float) -> None:
        """Send content and the frame behind it as the windows allow; `done` is called with the stream's number."""
        answer = self.waiting[stream.number] = _Answer(stream, content, end, now)
        if stream.window > 0:
            self._ready[stream.number] = answer
            self.drain(now)

    def drop(self, number: int) -> None:
        """Forget what is left of an answer."""
        self.waiting.pop(number, None)
        self._ready.pop(number, None)

    def clear(self) -> None:
        """Forget all answers."""
        self.waiting.clear()
        self._ready.clear()

    def count_update(self) -> None:
        """Count an update of whatever window. Raises ConnectionFault for too many with nothing sent between them."""
        self._updates = self._updates + 1 if self.window == self._left else 1
        self._left = self.window
        if self._updates > self._most_updates:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many updates of windows with nothing sent between them")

    def widen(self, more: int, now: float) -> None:
        """Let the connection have more. Raises ConnectionFault for too much."""
        self.window += more
        self._left += more
        if self.window > MOST_WINDOW_BYTES:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, f"a window of {self.window} bytes")
        self.drain(now)

    def widen_stream(self, stream: Flowing, more: int, now: float) -> None:
        """Let a stream have more. Raises StreamFault for too much."""
        stream.window += more
        if stream.window > MOST_WINDOW_BYTES:
            raise StreamFault(stream.number, Code.FLOW_CONTROL_ERROR)
        answer = self.waiting.get(stream.number)
        if answer is not None and stream.window > 0:
            self._ready[stream.number] = answer
            self.drain(now)

    def resized(self) -> None:
        """Look at the windows of all streams again: settings changed them."""
        self._ready = OrderedDict(each for each in self.waiting.items() if each[1].stream.window > 0)

    def stuck(self, before: float) -> set[int]:
        """Return the streams that got nothing since then."""
        return {number for number, answer in self.waiting.items() if answer.waits_since < before}

    def drain(self, now: float) -> None:
        """Send what may be sent; what may not costs nothing."""
        while self.window > 0 and self.open and self._ready:
            _, answer = self._ready.popitem(last=False)
            self._send_some(answer, now)

    def _send_some(self, answer: _Answer, now: float) -> None:
        stream, rest = answer.stream, len(answer.content) - answer.at
        size = min(self.window, stream.window, FRAME_BYTES, rest)
        part = answer.content[answer.at : answer.at + size]
        answer.at += size
        answer.waits_since = now
        self.window -= size
        stream.window -= size
        self._write(HEAD.pack(size << 8 | Kind.DATA, 0, stream.number) + part)
        if size == rest:
            del self.waiting[stream.number]
            self._write(answer.end)
            self._done(stream.number)
        elif stream.window > 0:
            self._ready[stream.number] = answer


class Inflow:
    """What a client may send.

    Each stream has a small window. One whose message is larger is let have the rest as soon as that fits beside the
    large messages of other streams; so a message that was begun can be finished, and the memory is bounded.
    """

    def __init__(self, write: Callable[[bytes], None], large_bytes: int) -> None:
        self._write = write
        self._credit = WINDOW_BYTES
        self._large = large_bytes
        self._granted: dict[int, int] = {}
        self._asking: deque[tuple[Flowing, int]] = deque()

    def begin(self) -> bytes:
        """Return the frame that gives the connection its window."""
        more, self._credit = _CONNECTION_BYTES - self._credit, _CONNECTION_BYTES
        return window(0, more)

    def take(self, size: int) -> None:
        """Count bytes that came on whatever stream. Raises ConnectionFault for more than may come."""
        self._credit -= size
        if self._credit < _CONNECTION_BYTES >> 1:
            if self._credit < 0:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "more than the window of the connection")
            self._write(window(0, _CONNECTION_BYTES - self._credit))
            self._credit = _CONNECTION_BYTES

    def widen(self, stream: Flowing, more: int) -> None:
        """Let a stream have more, at once."""
        stream.credit += more
        self._write(window(stream.number, more))

    def ask(self, stream: Flowing, more: int) -> None:
        """Let a stream have more when it fits; `more` is no more than all large messages together may have."""
        self._asking.append((stream, more))
        self._grant()

    def end(self, number: int) -> None:
        """Take back what a stream was given: its message is whole, or is no more."""
        if self._granted or self._asking:
            self._large += self._granted.pop(number, 0)
            self._asking = deque(each for each in self._asking if each[0].number != number)
            self._grant()

    def _grant(self) -> None:
        while self._asking and self._asking[0][1] <= self._large:
            stream, more = self._asking.popleft()
            self._large -= more
            self._granted[stream.number] = more
            self.widen(stream, more)
