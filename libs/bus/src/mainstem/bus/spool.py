"""The spool: blocks on local disk until the log has what they stand for, so that an outage loses none, stops nobody.

A folder of segments, each named after its first number, holds frames one behind the other (`frames`), and the name
that the folder's numbers go by. One process appends (`Spool`), one reads and removes (`Tail`); it may be the same one.

What `append` returned for survives the death of the process, since the page cache outlives it, and a power cut once
it is synced: by every `append`, or soon after (`keep_synced`). Nothing is read before it is synced, so what was sent is
never lost here and its numbers are never given again.
"""

import asyncio
import fcntl
import os
import re
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from errno import ENOSPC
from itertools import pairwise
from pathlib import Path
from threading import Event
from typing import NamedTuple
from uuid import uuid4

from mainstem.bus.frames import HEAD_BYTES, Block, blocks_of, frame_of, goes_on, is_shorter, size_of
from mainstem.events.errors import MainstemError

SEGMENT_BYTES = 8 << 20
#: Between an append and the sync that takes it to the disk, with all that came meanwhile.
SYNC_S = 0.02

_SUFFIX = ".blocks"
_NAME = re.compile("[0-9a-f]{32}")
#: What is to be done for a folder without one.
_NAMELESS = "write there what stands between @ and / in `ce_origin` of its answers in the log, or move the folder away"
#: One read is about so much.
_READ_BYTES = 256 << 10
#: The reader looks this often for what another process appended.
_POLL_S = 0.01


class SpoolFull(MainstemError):
    """The spool cannot take more: its cap is reached or the disk is full. Nothing of the block was kept."""


class SpoolBusy(MainstemError):
    """Another process holds the folder."""


class SpoolEarlier(MainstemError):
    """A folder holds messages of an earlier release, which this one cannot read."""


class SpoolCorrupt(MainstemError):
    """A frame, or the name of the folder, cannot be read: what follows is not found, or not known by its numbers."""


@dataclass(slots=True)
class _Segment:
    path: Path
    first: int
    size: int


class _Cursor(NamedTuple):
    """Where reading stopped: the next number, the segment by its first number, the place in it."""

    number: int
    segment: int
    at: int


class Spool:
    """The end of a folder that is written, for one process. Close it to give the folder free."""

    def __init__(self, folder: Path, cap_bytes: int, *, sync_each: bool = False) -> None:
        """Open the folder, make it if it is missing, and cut off a frame that a kill left unfinished.

        Raises SpoolBusy when another process holds it, SpoolEarlier, and SpoolCorrupt; then the folder is as it was.
        """
        _make(folder)
        self._folder = folder
        self._cap = cap_bytes
        self._sync_each = sync_each
        self._segment_bytes = min(SEGMENT_BYTES, cap_bytes // 8)
        with ExitStack() as stack:
            self._lock = _locked(folder)
            stack.callback(os.close, self._lock)
            self.incarnation = _incarnation(folder)
            _refuse_others(folder)
            segments = _segments(folder) or [_Segment(folder / f"{0:020}{_SUFFIX}", 0, 0)]
            self._last = segments[-1]
            self._next, self._last.size = _recovered(segments)
            self._size = sum(segment.size for segment in segments)
            self._out = _open(self._last.path)
            _sync_folder(folder)
            stack.pop_all()
        #: There is something to make durable, or nothing any more for ever.
        self._unsynced, self._left = Event(), False

    @property
    def next_number(self) -> int:
        """Return the number of the first message of the next block."""
        return self._next

    @property
    def size(self) -> int:
        """Return the bytes on disk."""
        self._size = sum(segment.size for segment in _segments(self._folder))
        return self._size

    @property
    def reserve(self) -> int:
        """Return the bytes that a writer who need not keep everything leaves to others: an eighth of the cap."""
        return self._cap // 8

    def append(self, payload: bytes, count: int, *, leave: int = 0) -> int:
        """Keep a block that stands for `count` messages, and return the number of the first.

        Raises SpoolFull, also when fewer than `leave` bytes would be left below the cap.
        """
        first = self._next
        frame = frame_of(Block(first, count, payload))
        most = self._cap - leave
        if self._size + len(frame) > most and self.size + len(frame) > most:
            raise SpoolFull(
                f"the spool {self._folder} holds {self._size} of at most {self._cap} bytes; start the broker"
            )
        try:
            if self._last.size >= self._segment_bytes:
                self._roll()
            self._write(frame)
        except OSError as fault:
            raise SpoolFull(f"the spool {self._folder} cannot be written: {fault}; free space on its disk") from fault
        self._last.size += len(frame)
        self._size += len(frame)
        self._next += count
        if not (self._sync_each or self._unsynced.is_set()):
            self._unsynced.set()
        return first

    def sync(self) -> None:
        """Make durable what is appended, a moment after it was, until `leave`; for a thread of its own."""
        while not self._left:
            self._unsynced.wait()
            time.sleep(SYNC_S)
            self._unsynced.clear()
            with suppress(FileNotFoundError):  # another was begun since, which had this one synced and then sent
                _sync(self._last.path)

    def leave(self) -> None:
        """End what `sync` does."""
        self._left = True
        self._unsynced.set()

    def close(self) -> None:
        """Make everything durable and give the folder free."""
        os.fsync(self._out)
        os.close(self._out)
        os.close(self._lock)

    def _write(self, frame: bytes) -> None:
        """Write all of it or cut off what was written of it."""
        try:
            written = os.write(self._out, frame)
            if written < len(frame):
                raise OSError(ENOSPC, f"{written} of {len(frame)} bytes were taken")
            if self._sync_each:
                os.fdatasync(self._out)
        except OSError:
            os.ftruncate(self._out, self._last.size)
            raise

    def _roll(self) -> None:
        """Make the last segment durable and begin another, once its name is."""
        os.fdatasync(self._out)
        segment = _Segment(self._folder / f"{self._next:020}{_SUFFIX}", self._next, 0)
        with ExitStack() as stack:
            out = _open(segment.path)
            stack.callback(os.close, out)
            _sync_folder(self._folder)
            stack.pop_all()
        os.close(self._out)
        self._last, self._out = segment, out


def check(folder: Path) -> None:
    """Raise SpoolCorrupt unless all bytes of a folder that nobody appends to are of whole frames; change nothing."""
    _incarnation(folder)
    for segment in _segments(folder):
        if blocks_of(segment.path.read_bytes())[1] != segment.size:
            raise SpoolCorrupt(f"{segment.path} holds a broken frame; bring its bytes back, or move it away")


class Tail:
    """The end of a folder that is read, for one process: what was there, and durable, at the last `sync`."""

    def __init__(self, folder: Path) -> None:
        """Read what a spool left in a folder, or leaves in it now. Raises SpoolCorrupt when its name cannot be read."""
        self.folder = folder
        #: Who the numbers belong to; a folder that is lost comes back as somebody else.
        self.incarnation = _incarnation(folder)
        self._segments: list[_Segment] = []
        self._cursor = _Cursor(0, 0, 0)
        #: Where a frame was not whole, and how many bytes there were of it and behind it.
        self._torn: tuple[_Cursor, int] | None = None

    def sync(self) -> None:
        """Make durable what is there, and take notice of it."""
        found = _segments(self.folder)
        if found and found[-1:] != self._segments[-1:]:
            _sync(found[-1].path)
        self._segments = found

    def read(self, number: int) -> list[Block]:
        """Return some blocks, from the one with message `number` in it or the oldest kept on; empty at the end.

        Raises SpoolCorrupt.
        """
        if number != self._cursor.number:
            self._cursor = _Cursor(number, 0, 0)
        for segment in [each for each in self._segments if each.first >= self._cursor.segment]:
            if segment.first != self._cursor.segment:
                self._cursor = _Cursor(number, segment.first, 0)
            while blocks := self._read_on(segment):
                found = [block for block in blocks if block.first + block.count > number]
                if found:
                    return found
        return []

    def end(self) -> int:
        """Return the number behind the last whole block."""
        if not self._segments:
            return 0
        last = self._segments[-1]
        return _end(blocks_of(last.path.read_bytes()[: last.size])[0], last)

    async def wait(self) -> None:
        """Return when there may be something behind what was read last."""
        while True:
            await asyncio.sleep(_POLL_S)
            for segment in _segments(self.folder):
                if segment.size > (self._cursor.at if segment.first == self._cursor.segment else 0):
                    return

    def release(self, below: int) -> None:
        """Remove the segments that hold nothing but numbers below `below`; the last one stays."""
        there = _segments(self.folder)
        for segment, after in pairwise(there):
            if after.first <= below:
                segment.path.unlink()
        self._segments = [segment for segment in self._segments if segment.path.exists()]

    def _read_on(self, segment: _Segment) -> list[Block]:
        """Read on in a segment from the cursor, and move it."""
        left, last = max(0, segment.size - self._cursor.at), segment is self._segments[-1]
        with segment.path.open("rb") as file:
            file.seek(self._cursor.at)
            head = file.read(min(left, HEAD_BYTES))
            torn = left < size_of(head)
            wanted = min(left, max(_READ_BYTES, size_of(head)))
            content = b"" if torn else head + file.read(wanted - len(head))
        if last and (len(head) < min(left, HEAD_BYTES) or not (torn or len(content) == wanted)):
            return []  # who writes took back what the disk had no room for
        blocks, size = blocks_of(content)
        if left and not blocks and not (torn and last and self._unfinished(segment, left)):
            raise SpoolCorrupt(f"{segment.path} holds a broken frame; move it away to go on without it")
        if blocks:
            number = blocks[-1].first + blocks[-1].count
            self._cursor = _Cursor(max(number, self._cursor.number), segment.first, self._cursor.at + size)
        return blocks

    def _unfinished(self, segment: _Segment, left: int) -> bool:
        """Tell whether the frame at the cursor is still being written, and not broken in its length alone.

        That is looked for only when there are more bytes than before, as who writes adds them. Not for any whole frame
        behind it: what is written then is what callers said, and may look like one.
        """
        torn = self._cursor, left
        if torn == self._torn:
            return True
        self._torn = torn
        with segment.path.open("rb") as file:
            file.seek(self._cursor.at)
            return not is_shorter(file.read(left))


async def keep_synced(spool: Spool) -> None:
    """Make durable for ever what is appended: a power cut costs what came in the last `SYNC_S` and two syncs."""
    try:
        await asyncio.to_thread(spool.sync)
    finally:
        spool.leave()


def _recovered(segments: Sequence[_Segment]) -> tuple[int, int]:
    """Return the number and the place behind the last whole frame, after cutting off what follows it."""
    for segment in segments[:-1]:
        if blocks_of(segment.path.read_bytes())[1] != segment.size:
            raise SpoolCorrupt(f"{segment.path} holds a broken frame; move it away to go on without it")
    last = segments[-1]
    if not last.path.exists():
        return last.first, 0
    content = last.path.read_bytes()
    blocks, size = blocks_of(content)
    number = _end(blocks, last)
    if goes_on(content, size + 1, number):
        raise SpoolCorrupt(
            f"{last.path} holds a broken frame at byte {size} and whole ones behind it, which are not cut off: "
            "bring its bytes back, or move it away to go on without it"
        )
    os.truncate(last.path, size)
    return number, size


def _end(blocks: Sequence[Block], segment: _Segment) -> int:
    """Return the number behind the last of the blocks that a segment begins with."""
    return blocks[-1].first + blocks[-1].count if blocks else segment.first


def _segments(folder: Path) -> list[_Segment]:
    """Return the segments of a folder in their order."""
    found = []
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        try:
            found.append(_Segment(path, int(path.stem), path.stat().st_size))
        except FileNotFoundError:
            continue  # it was released meanwhile
    return found


def _refuse_others(folder: Path) -> None:
    """Raise SpoolEarlier when messages of an earlier release lie here."""
    for path in folder.glob("*.spool"):
        if path.stat().st_size:
            raise SpoolEarlier(f"{path} was written by an earlier release: let that release send it, then move it away")


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def _sync(file: Path) -> None:
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fdatasync(handle)
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _locked(folder: Path) -> int:
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise SpoolBusy(f"another process holds the spool {folder}; give each process a folder of its own") from None
    return handle


def _make(folder: Path) -> None:
    """Make a folder, and those above it that are missing; it stands on the disk, also where a kill came between."""
    if not folder.parent.is_dir():
        _make(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _incarnation(folder: Path) -> str:
    """Return the folder's name for itself, given when it was first used, and on the disk since."""
    place = folder / "incarnation"
    if not place.exists():
        _name(folder, place)
    name = place.read_text("ascii", "replace")
    if not _NAME.fullmatch(name):
        raise SpoolCorrupt(f"{place} holds {name[:40]!r} and not 32 hexadecimal digits: {_NAMELESS}")
    return name


def _name(folder: Path, place: Path) -> None:
    """Give a folder a name that was never given, and have it on the disk before anything goes by it."""
    if any(segment.size for segment in _segments(folder)):
        raise SpoolCorrupt(f"{place} is gone, and blocks lie beside it: {_NAMELESS}")
    partial = folder / "incarnation.new"
    with partial.open("w") as file:
        file.write(uuid4().hex)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(place)
    _sync_folder(folder)
