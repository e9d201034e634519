"""The spool: messages on local disk until the log has them, so that a broker's outage loses none and stops nobody.

A folder of segments, each named after its first sequence number, holds frames one behind the other:
payload length (u32), CRC-32 (u32) of what follows, sequence (u64), payload; little endian.
A killed process loses nothing that `append` returned for, since the page cache outlives it; a segment is made durable
when it is full, so a power cut can cost what stands in the last one.
"""

import asyncio
import fcntl
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from errno import ENOSPC
from pathlib import Path
from struct import Struct
from uuid import uuid4
from zlib import crc32

import msgspec

from mainstem.bus.port import Publisher
from mainstem.events.envelope import Headers, Message
from mainstem.events.errors import MainstemError

SEGMENT_BYTES = 8 << 20

_FRAME = Struct("<IIQ")
_SEQUENCE = Struct("<Q")
_SUFFIX = ".spool"
#: What one `publish` takes; a producer writes that much to a partition as one batch.
_SEND_BYTES = 256 << 10
_SEND_MESSAGES = 200


class SpoolFull(MainstemError):
    """The spool cannot take more: its cap is reached or the disk is full. Nothing of the call was kept."""


class SpoolBusy(MainstemError):
    """Another process holds the folder."""


class SpoolCorrupt(MainstemError):
    """A segment before the last holds a frame that cannot be read; what follows it cannot be found."""


class _Spooled(msgspec.Struct, array_like=True):
    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    partition: int | None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Spooled).decode


@dataclass(slots=True)
class _Segment:
    path: Path
    first: int
    size: int


@dataclass(frozen=True, slots=True)
class _Cursor:
    """Where `read` stopped: the next number, the segment by its first number, the place in it."""

    sequence: int
    segment: int
    at: int


class Spool:
    """An append-only queue in a folder of its own, for one process. Close it to give the folder free."""

    def __init__(self, folder: Path, cap_bytes: int) -> None:
        """Open the folder, make it if it is missing, and cut off a frame that a kill left unfinished.

        Raises SpoolBusy when another process holds it, and SpoolCorrupt.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._cap = cap_bytes
        self._segment_bytes = min(SEGMENT_BYTES, cap_bytes // 8)
        self._lock = _locked(folder)
        #: Who the sequence numbers belong to; a folder that is lost comes back as somebody else.
        self.incarnation = _incarnation(folder)
        first = _Segment(folder / f"{0:020}{_SUFFIX}", 0, 0)
        self._segments = [_Segment(path, int(path.stem), path.stat().st_size) for path in _paths(folder)] or [first]
        self._next = self._recover()
        self._out = _open(self._segments[-1])
        self._cursor = _Cursor(self._segments[0].first, self._segments[0].first, 0)
        self._added = asyncio.Event()

    @property
    def next_sequence(self) -> int:
        """Return the number that the next message gets."""
        return self._next

    @property
    def size(self) -> int:
        """Return the bytes on disk."""
        return sum(segment.size for segment in self._segments)

    def append(self, messages: Sequence[Message]) -> None:
        """Keep all messages or none; they survive the death of this process. Raises SpoolFull."""
        frames = b"".join(_frame(self._next + i, message) for i, message in enumerate(messages))
        if self.size + len(frames) > self._cap:
            raise SpoolFull(
                f"the spool {self._folder} holds {self.size} of at most {self._cap} bytes; start the broker"
            )
        try:
            if self._segments[-1].size >= self._segment_bytes:
                self._roll(self._next)
            self._write(frames)
        except OSError as fault:
            raise SpoolFull(f"the spool {self._folder} cannot be written: {fault}; free space on its disk") from fault
        self._segments[-1].size += len(frames)
        self._next += len(messages)
        self._added.set()

    def skip_to(self, sequence: int) -> None:
        """Never give a number below `sequence` again; for a spool that lost in a power cut what was sent already."""
        if sequence > self._next:
            self._roll(sequence)
            self._next = sequence

    def read(self, sequence: int) -> list[tuple[int, Message]]:
        """Return some messages from `sequence` on (or from the oldest kept), with their numbers; empty at the end.

        Raises SpoolCorrupt when a frame cannot be read any more.
        """
        if sequence != self._cursor.sequence:
            self._cursor = _Cursor(sequence, self._segments[0].first, 0)
        for segment in [s for s in self._segments if s.first >= self._cursor.segment]:
            if segment.first != self._cursor.segment:
                self._cursor = _Cursor(sequence, segment.first, 0)
            while self._cursor.at < segment.size:
                found = [pair for pair in self._read_on(segment) if pair[0] >= sequence]
                if found:
                    return found
        return []

    def _read_on(self, segment: _Segment) -> list[tuple[int, Message]]:
        """Read on in a segment from the cursor, and move it."""
        with segment.path.open("rb") as file:
            file.seek(self._cursor.at)
            head = file.read(_FRAME.size)
            content = head + file.read(max(_SEND_BYTES, _FRAME.unpack(head)[0]))
        frames = _frames(content)[:_SEND_MESSAGES]
        if not frames:
            raise SpoolCorrupt(f"{segment.path} holds a broken frame; move it away to go on without it")
        size = sum(_FRAME.size + len(payload) for _, payload in frames)
        self._cursor = _Cursor(frames[-1][0] + 1, segment.first, self._cursor.at + size)
        return [(number, _message(payload)) for number, payload in frames]

    async def wait(self, sequence: int) -> None:
        """Return when there is a message numbered `sequence` or higher."""
        while self._next <= sequence:
            self._added.clear()
            await self._added.wait()

    def release(self, below: int) -> None:
        """Remove the segments that hold nothing but numbers below `below`; the last one stays."""
        while len(self._segments) > 1 and self._segments[1].first <= below:
            self._segments.pop(0).path.unlink()

    def close(self) -> None:
        """Make everything durable and give the folder free."""
        os.fsync(self._out)
        os.close(self._out)
        os.close(self._lock)

    def _write(self, frames: bytes) -> None:
        """Write all of it or cut off what was written of it."""
        try:
            written = os.write(self._out, frames)
            if written < len(frames):
                raise OSError(ENOSPC, f"{written} of {len(frames)} bytes were taken")
        except OSError:
            os.ftruncate(self._out, self._segments[-1].size)
            raise

    def _roll(self, first: int) -> None:
        """Make the last segment durable and begin one whose first number is `first`."""
        os.fsync(self._out)
        segment = _Segment(self._folder / f"{first:020}{_SUFFIX}", first, 0)
        out = _open(segment)
        os.close(self._out)
        self._segments.append(segment)
        self._out = out

    def _recover(self) -> int:
        """Return the number behind the last whole frame, after cutting off what follows it in the last segment."""
        for segment in self._segments[:-1]:
            if _end(segment)[1] != segment.size:
                raise SpoolCorrupt(f"{segment.path} holds a broken frame; move it away to go on without it")
        last = self._segments[-1]
        number, last.size = _end(last)
        if last.path.exists():
            os.truncate(last.path, last.size)
        return number


async def send(
    spool: Spool,
    publisher: Publisher,
    start: int,
    stream: str,
    sent: Callable[[Sequence[Message], int], Awaitable[None]],
) -> None:
    """Publish the spool for ever, from the number `start` on, in its order.

    The origin of a message is `<stream>@<incarnation>/<sequence>`. When some are acknowledged, `sent` is called with
    them and the number that follows, and only then are they forgotten: it keeps that number in a transaction.
    After a crash the messages from the number kept last are published again under the same origins.
    """
    while True:
        found = spool.read(start)
        if not found:
            await spool.wait(start)
            continue
        messages = [_with_origin(message, f"{stream}@{spool.incarnation}/{number}") for number, message in found]
        await publisher.publish(messages)
        start = found[-1][0] + 1
        await sent(messages, start)
        spool.release(start)


def _with_origin(message: Message, origin: str) -> Message:
    headers = (*message.headers, ("ce_origin", origin.encode()))
    return Message(message.topic, message.key, message.value, headers, message.partition)


def _message(payload: memoryview) -> Message:
    found = _decode(payload)
    return Message(found.topic, found.key, found.value, found.headers, found.partition)


def _frame(sequence: int, m: Message) -> bytes:
    payload = _encode((m.topic, m.key, m.value, m.headers, m.partition))
    return _FRAME.pack(len(payload), crc32(payload, crc32(_SEQUENCE.pack(sequence))), sequence) + payload


def _frames(content: bytes) -> list[tuple[int, memoryview]]:
    """Return number and payload of every frame up to the first that is not whole."""
    view, at, found = memoryview(content), 0, []
    while at + _FRAME.size <= len(view):
        length, checksum, sequence = _FRAME.unpack_from(view, at)
        payload = view[at + _FRAME.size : at + _FRAME.size + length]
        if len(payload) < length or crc32(payload, crc32(_SEQUENCE.pack(sequence))) != checksum:
            break
        found.append((sequence, payload))
        at += _FRAME.size + length
    return found


def _end(segment: _Segment) -> tuple[int, int]:
    """Return the number and the place behind the last whole frame of a segment."""
    frames = _frames(segment.path.read_bytes() if segment.path.exists() else b"")
    size = sum(_FRAME.size + len(payload) for _, payload in frames)
    return (frames[-1][0] + 1 if frames else segment.first), size


def _open(segment: _Segment) -> int:
    return os.open(segment.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def _paths(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{_SUFFIX}"))


def _locked(folder: Path) -> int:
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise SpoolBusy(f"another process holds the spool {folder}; give each process a folder of its own") from None
    return handle


def _incarnation(folder: Path) -> str:
    """Return the folder's name for itself, given when it was first used."""
    place = folder / "incarnation"
    if not place.exists():
        partial = folder / "incarnation.new"
        partial.write_text(uuid4().hex)
        partial.replace(place)
    return place.read_text()
