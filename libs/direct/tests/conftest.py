"""HTTP/2 without a socket: a connection of ours that is spoken to in bytes, and what came of that."""

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import hpack
import pytest
from typing_extensions import override

from mainstem.direct import GrpcDoor, UnaryCall, UnaryLimits
from mainstem.direct.frames import HEAD, HEAD_BYTES, PREFACE, Flag, Kind, frame
from mainstem.direct.unary import PREFIX

PATH = b"/test.Service/Echo"
REQUEST = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", PATH),
    (b":authority", b"here"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
)


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closing = False
        self.reading = True

    @override
    def write(self, data: Any) -> None:
        self.written += data

    @override
    def is_closing(self) -> bool:
        return self.closing

    @override
    def close(self) -> None:
        self.closing = True

    @override
    def abort(self) -> None:
        self.closing = True

    @override
    def write_eof(self) -> None:
        """Do nothing: what is written is all there is."""

    @override
    def pause_reading(self) -> None:
        self.reading = False

    @override
    def resume_reading(self) -> None:
        self.reading = True


@dataclass(frozen=True)
class Frame:
    kind: int
    flags: int
    number: int
    payload: bytes


def split(content: bytes) -> list[Frame]:
    """Return the frames in bytes."""
    found, at = [], 0
    while at < len(content):
        word, flags, number = HEAD.unpack_from(content, at)
        end = at + HEAD_BYTES + (word >> 8)
        found.append(Frame(word & 255, flags, number, bytes(content[at + HEAD_BYTES : end])))
        at = end
    return found


def split_bytes(content: bytes) -> list[bytes]:
    """Return frames as they are, the last maybe cut off."""
    found, at = [], 0
    while at < len(content):
        end = at + HEAD_BYTES + (int.from_bytes(content[at : at + 3]))
        found.append(content[at:end])
        at = end
    return found


@dataclass
class Peer:
    """The other side of a connection; `Echo` gives a message back, `Wait` lets it wait for the test, `Fail` raises."""

    limits: UnaryLimits = field(default_factory=UnaryLimits)
    wire: Wire = field(default_factory=Wire)
    #: What methods were given, by stream; and the calls that wait.
    taken: dict[int, bytes] = field(default_factory=dict)
    waiting: list[UnaryCall] = field(default_factory=list)

    def __post_init__(self) -> None:
        methods = {PATH: self._echo, b"/test.Service/Wait": self._wait, b"/test.Service/Fail": self._fail}
        self.door = GrpcDoor(methods, self.limits)
        self.connection = self.door()
        self.connection.connection_made(self.wire)

    def _echo(self, call: UnaryCall) -> None:
        self.taken[call.number] = call.message
        call.answer(call.message)

    def _wait(self, call: UnaryCall) -> None:
        self.taken[call.number] = call.message
        self.waiting.append(call)

    def _fail(self, call: UnaryCall) -> None:
        self.taken[call.number] = call.message
        raise KeyError("nobody thought of this")

    def say(self, *parts: bytes) -> "Peer":
        """Send bytes, each part by itself."""
        for part in parts:
            self.connection.data_received(part)
        return self

    def greet(self) -> "Peer":
        """Begin as a client does that has heard our settings."""
        return self.say(PREFACE + frame(Kind.SETTINGS, 0, 0), frame(Kind.SETTINGS, Flag.ACK, 0))

    def frames(self, *kinds: Kind) -> list[Frame]:
        """Return the frames of these kinds that were sent, all without any."""
        return [each for each in split(bytes(self.wire.written)) if not kinds or each.kind in kinds]

    def ended(self) -> dict[int, int]:
        """Return the error codes by stream; that of the connection is stream 0."""
        codes = {each.number: int.from_bytes(each.payload) for each in self.frames(Kind.RST_STREAM)}
        return codes | {each.number: int.from_bytes(each.payload[4:8]) for each in self.frames(Kind.GOAWAY)}

    def told(self, number: int = 1) -> dict[bytes, bytes]:
        """Return all headers and trailers of an answer."""
        decoder, found = hpack.Decoder(), {}
        for each in self.frames(Kind.HEADERS):
            fields = dict(decoder.decode(each.payload, raw=True))
            if each.number == number:
                found |= fields
        return found

    def body(self, number: int = 1) -> bytes:
        """Return the data of an answer."""
        return b"".join(each.payload for each in self.frames(Kind.DATA) if each.number == number)


def block(*more: tuple[bytes, bytes], encoder: hpack.Encoder | None = None, **changed: bytes) -> bytes:
    """Return a block of request headers, without a table unless one is given."""
    fields = [(name, changed.get(name.lstrip(b":").decode().replace("-", "_"), value)) for name, value in REQUEST]
    if encoder is None:
        encoder = hpack.Encoder()
        encoder.header_table_size = 0
    return encoder.encode([*fields, *more])


def headers(number: int, content: bytes, flags: int = Flag.END_HEADERS) -> bytes:
    return frame(Kind.HEADERS, flags, number, content)


def data(number: int, content: bytes, flags: int = Flag.END_STREAM) -> bytes:
    return frame(Kind.DATA, flags, number, content)


def call(number: int, content: bytes = b"hello", **changed: bytes) -> bytes:
    """Return the frames of a call."""
    return headers(number, block(**changed)) + data(number, prefixed(content))


def prefixed(content: bytes) -> bytes:
    return PREFIX.pack(0, len(content)) + content


@pytest.fixture
def h2c() -> SimpleNamespace:
    """Return the words of this file."""
    words = (Peer, block, headers, data, call, prefixed, split_bytes)
    return SimpleNamespace(**{word.__name__: word for word in words}, REQUEST=REQUEST, PATH=PATH)
