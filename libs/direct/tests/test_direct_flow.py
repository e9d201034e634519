"""What waits for a window: it goes out in turn, and what may not go costs nothing meanwhile."""

from dataclasses import dataclass

import pytest

from mainstem.direct.flow import Outflow
from mainstem.direct.frames import FRAME_BYTES, HEAD, HEAD_BYTES, Code, ConnectionFault, Kind

MANY = 256
END = b"end"


@dataclass
class Stream:
    """A stream that counts how often somebody looks at its window."""

    number: int
    width: int = 0
    credit: int = 0
    looks: int = 0

    @property
    def window(self) -> int:
        self.looks += 1
        return self.width

    @window.setter
    def window(self, width: int) -> None:
        self.width = width


class Sent:
    """What goes out of many streams that each have an answer waiting."""

    def __init__(self, width: int, window: int, size: int = 10) -> None:
        self.frames: list[tuple[int, int]] = []
        self.done: list[int] = []
        self.outflow = Outflow(self.write, self.done.append, 1_000)
        self.outflow.window = window
        self.streams = [Stream(number, width) for number in range(1, 2 * MANY, 2)]
        for stream in self.streams:
            self.outflow.put(stream, bytes(size), END, 0.0)

    def write(self, content: bytes) -> None:
        if content != END:
            word, _, number = HEAD.unpack_from(content)
            assert (word & 255, word >> 8) == (Kind.DATA, len(content) - HEAD_BYTES)
            self.frames.append((number, word >> 8))

    def looks(self) -> int:
        """Return how often windows were looked at since the last time."""
        found = sum(stream.looks for stream in self.streams)
        for stream in self.streams:
            stream.looks = 0
        return found


def test_more_window_for_the_connection_costs_nothing_while_no_stream_has_one() -> None:
    sent = Sent(width=0, window=1_000)
    sent.looks()
    sent.outflow.widen(1, 0.0)
    assert (sent.looks(), sent.frames) == (0, [])


def test_a_byte_more_costs_as_much_as_one_frame_however_many_wait() -> None:
    sent = Sent(width=1_000, window=0)
    sent.looks()
    sent.outflow.widen(1, 0.0)
    assert sent.frames == [(1, 1)]
    assert sent.looks() < 10


def test_more_window_for_a_stream_looks_at_no_other() -> None:
    sent = Sent(width=0, window=1_000)
    sent.looks()
    sent.outflow.widen_stream(sent.streams[7], 4, 0.0)
    assert sent.frames == [(sent.streams[7].number, 4)]
    assert sent.looks() < 10


def test_streams_go_on_in_turn_a_frame_each() -> None:
    sent = Sent(width=1 << 20, window=0, size=FRAME_BYTES + 5)
    sent.outflow.widen(MANY * (FRAME_BYTES + 5), 0.0)
    numbers = [stream.number for stream in sent.streams]
    assert sent.frames == [(number, size) for size in (FRAME_BYTES, 5) for number in numbers]
    assert (sent.done, sent.outflow.waiting) == (numbers, {})


def test_windows_that_settings_gave_or_took_are_heeded() -> None:
    sent = Sent(width=4, window=0)
    for number, stream in enumerate(sent.streams):
        stream.width += -5 if number else 6
    sent.outflow.resized()
    sent.outflow.widen(1_000, 0.0)
    assert (sent.frames, sent.done) == ([(1, 10)], [1])


def test_what_is_dropped_is_not_sent() -> None:
    sent = Sent(width=10, window=0)
    sent.outflow.drop(1)
    sent.outflow.widen(10, 0.0)
    assert sent.frames == [(3, 10)]


def test_updates_in_a_row_that_nothing_is_sent_between_are_limited() -> None:
    sent = Sent(width=0, window=0)
    for _ in range(3):
        for _ in range(1_000):
            sent.outflow.count_update()
            sent.outflow.widen(1, 0.0)
        sent.outflow.widen_stream(sent.streams[0], 1, 0.0)
    for _ in range(1_000):
        sent.outflow.count_update()
    with pytest.raises(ConnectionFault) as flood:
        sent.outflow.count_update()
    assert flood.value.code is Code.ENHANCE_YOUR_CALM
