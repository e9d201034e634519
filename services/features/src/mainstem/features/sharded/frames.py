"""What the stages hand to one another: many records in one message, each known by its place in the source log."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from mainstem.events.envelope import Headers, Message
from mainstem.events.errors import NO_DOCUMENT

#: A frame is closed when what it carries reaches this size, and a record counts for so much beside its contents.
_BYTES, _RECORD_BYTES = 256 << 10, 32

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Truths = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Forwarded:
    """A record of an accepted topic as far as its row needs it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None = None
    headers: Headers = ()
    timestamp: int = 0


class Carried(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A record of an accepted topic, with what its receiver needs of it; or a progress marker."""

    offset: int
    arrival: int  #: in µs, as the merge of one worker has it; a marker stands one after what it announces
    marker: bool = False
    time: int = 0  #: when it happened, in µs
    payload: bytes | None = None  #: the source's own record
    key: bytes | None = None
    headers: Mapping[str, bytes] = {}

    @property
    def size(self) -> int:
        """Return what it takes in a frame, in bytes, more or less."""
        return _RECORD_BYTES + len(self.payload or b"") + sum(map(len, self.headers.values()))


class Dealt(msgspec.Struct, frozen=True, array_like=True, tag="dealt"):
    """Records and progress markers of one source partition, in order, for one receiver."""

    topic: str
    partition: int
    records: list[Carried]

    @property
    def newest(self) -> int:
        """Return the newest instant in the frame: what was announced last, or when the last record arrived."""
        return self.records[-1].arrival - self.records[-1].marker

    @property
    def complete_through(self) -> int:
        """Return up to which instant nothing comes after the frame."""
        return self.records[-1].arrival - 1


class Partial(msgspec.Struct, frozen=True, array_like=True, tag="partial"):
    """What a shard knows of spine records of one partition, and the instants that it has passed with them."""

    shard: int
    offsets: bytes  #: int64, rising
    values: bytes  #: float64 (record, aggregate)
    owned: bytes  #: bool, of the same shape: which of the values the shard knows
    reached: list[int]
    newest: int


@dataclass(frozen=True, slots=True)
class Part:
    """A `Partial` as arrays."""

    offsets: Ints
    values: Floats
    owned: Truths

    @staticmethod
    def of(frame: Partial, width: int) -> "Part":
        """Return the arrays of a frame about `width` aggregates."""
        offsets = np.frombuffer(frame.offsets, np.int64)
        shape = len(offsets), width
        owned = np.frombuffer(frame.owned, np.bool_).reshape(shape)
        return Part(offsets, np.frombuffer(frame.values).reshape(shape), owned)

    def after(self, offset: int) -> "Part":
        """Return what it tells of records behind an offset."""
        first = int(np.searchsorted(self.offsets, offset, side="right"))
        return Part(self.offsets[first:], self.values[first:], self.owned[first:])


Frame = Dealt | Partial

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Frame).decode


def read(value: bytes | None) -> Frame | None:
    """Return the frame in a message; None when it holds none."""
    try:
        frame: Frame = _decode(value or b"")
    except NO_DOCUMENT:
        return None
    return frame


def message(topic: str, receiver: int, frame: Frame) -> Message:
    """Return the message that carries a frame to a partition of an internal topic."""
    return Message(topic, None, _encode(frame), (), receiver)


def dealt(topic: str, receiver: int, source: tuple[str, int], records: Iterable[Carried]) -> Iterator[Message]:
    """Yield the messages that carry records of a source partition to a partition of an internal topic."""
    chunk: list[Carried] = []
    size = 0
    for record in records:
        chunk.append(record)
        size += record.size
        if size >= _BYTES:
            yield message(topic, receiver, Dealt(*source, chunk))
            chunk, size = [], 0
    if chunk:
        yield message(topic, receiver, Dealt(*source, chunk))
