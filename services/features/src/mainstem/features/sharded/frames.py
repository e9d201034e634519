"""What the stages hand to one another: many records in one message, each known by its place in the source log."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

import msgspec
import numpy as np
import numpy.typing as npt

from mainstem.events.catalogue import Record
from mainstem.events.envelope import Headers, Message

#: A frame is closed when its payloads reach this size.
_BYTES = 256 << 10

Floats = npt.NDArray[np.float64]
Truths = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Forwarded:
    """A record of an accepted topic as it is handed on, with the arrival, in µs, that the merge gives it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    arrival: int
    timestamp: int = 0


class Carried(msgspec.Struct, frozen=True, array_like=True):
    """A record in a frame."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes]
    arrival: int


class Dealt(msgspec.Struct, frozen=True, array_like=True, tag="dealt"):
    """Records and progress markers of one source partition, in order, for one receiver."""

    topic: str
    partition: int
    records: list[Carried]

    @property
    def newest(self) -> int:
        """Return the newest instant in the frame."""
        return self.records[-1].arrival

    def forwarded(self) -> list[Record]:
        """Return the records."""
        return [
            Forwarded(self.topic, self.partition, r.offset, r.key, r.value, tuple(r.headers.items()), r.arrival)
            for r in self.records
        ]


class Partial(msgspec.Struct, frozen=True, array_like=True, tag="partial"):
    """What a shard knows of spine records of one partition, and the instants that it has passed with them."""

    shard: int
    offsets: list[int]
    values: bytes  #: float64 (record, aggregate)
    owned: bytes  #: bool, of the same shape
    reached: list[int]
    newest: int

    def arrays(self, width: int) -> tuple[Floats, Truths]:
        """Return the values, and which of them the shard knows."""
        owned = np.frombuffer(self.owned, np.bool_).reshape(len(self.offsets), width)
        return np.frombuffer(self.values).reshape(len(self.offsets), width), owned


Frame = Dealt | Partial

_encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Frame).decode


def message(topic: str, receiver: int, frame: Frame) -> Message:
    """Return the message that carries a frame to a partition of an internal topic."""
    return Message(topic, None, _encode(frame), (), receiver)


def dealt(topic: str, receiver: int, records: Iterable[Forwarded]) -> Iterator[Message]:
    """Yield the messages that carry records to a partition of an internal topic."""
    for (source, partition), run in groupby(records, key=lambda record: (record.topic, record.partition)):
        chunk: list[Carried] = []
        size = 0
        for r in run:
            chunk.append(
                Carried(r.offset, r.key, r.value, {name: value or b"" for name, value in r.headers}, r.arrival)
            )
            size += len(r.value or b"")
            if size >= _BYTES:
                yield message(topic, receiver, Dealt(source, partition, chunk))
                chunk, size = [], 0
        if chunk:
            yield message(topic, receiver, Dealt(source, partition, chunk))
