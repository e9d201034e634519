"""The spool: blocks on local disk until the log has what they stand for, so that an outage loses none, stops nobody.

A folder of segments, each named after its first number, holds frames one behind the other (`frames`), and the name
that the folder's numbers go by. One process appends (`Spool`), one reads and removes (`Tail`); it may be the same one.

What `append` returned for survives the death of the process, since the page cache outlives it, and a power cut once
it is synced: by every `append`, or soon after (`keep_synced`). Nothing is read before it is synced, so what was sent is
never lost here and its numbers are never given again.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from errno import ENOSPC
from itertools import pairwise
from pathlib import Path
from threading import Event, Lock
from typing import NamedTuple

from mainstem.bus.frames import HEAD_BYTES, Block, blocks_of, frame_of, goes_on, is_shorter, size_of
from mainstem.bus.spool_folder import (
    SUFFIX,
    Segment,
    SpoolCorrupt,
    lock_folder,
    make_folder,
    name_of,
    refuse_earlier,
    segments_in,
    sync_folder,
)
from mainstem.events.errors import MainstemError

SEGMENT_BYTES = 8 << 20
#: Between an append and the sync that takes it to the disk, with all that came meanwhile.
SYNC_S = 0.02

#: One read is about so much.
_READ_BYTES = 256 << 10
#: The reader looks this often for what another process appended.
_POLL_S = 0.01


class SpoolFull(MainstemError):
    """The spool cannot take more: its cap is reached or the disk is full. Nothing of the block is given.

    Nothing of it was kept, either, unless a sync failed: then whoever keeps the spool synced hears of it, too.
    """


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
        make_folder(folder)
        self._folder = folder
        self._cap = cap_bytes
        self._sync_each = sync_each
        self._segment_bytes = min(SEGMENT_BYTES, cap_bytes // 8)
        with ExitStack() as stack:
            self._lock = lock_folder(folder)
            stack.callback(os.close, self._lock)
            self.incarnation = name_of(folder)
            refuse_earlier(folder)
            segments = segments_in(folder) or [Segment(folder / f"{0:020}{SUFFIX}", 0, 0)]
            self._last = segments[-1]
            self._next, self._last.size = _recovered(segments)
            self._size = sum(segment.size for segment in segments)
            self._out = _open(self._last.path)
            sync_folder(folder)
            stack.pop_all()
        #: There is something to make durable, or nothing any more for ever.
        self._unsynced, self._left = Event(), False
        #: Held by who syncs the last segment, or begins another; why one could not be synced.
        self._turn = Lock()
        self._lost: OSError | None = None

    @property
    def next_number(self) -> int:
        """Return the number of the first message of the next block."""
        return self._next

    @property
    def size(self) -> int:
        """Return the bytes on disk."""
        self._size = sum(segment.size for segment in segments_in(self._folder))
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
            self._last.size += len(frame)
            self._size += len(frame)
            self._next += count
            if self._sync_each:  # what is written stays, whatever comes of this: it may have been read
                self._sync()
        except OSError as fault:
            raise SpoolFull(f"the spool {self._folder} cannot be written: {fault}; free space on its disk") from fault
        if not (self._sync_each or self._unsynced.is_set()):
            self._unsynced.set()
        return first

    def sync(self) -> None:
        """Make durable what is appended, a moment after it was, until `leave`; for a thread of its own.

        Raises OSError when something could not be made durable: nobody knows what the disk has then.
        """
        while True:
            self._unsynced.wait()
            time.sleep(SYNC_S)
            self._unsynced.clear()
            with self._turn:
                if self._left:
                    return
                self._sync()

    def leave(self) -> None:
        """End what `sync` does."""
        self._left = True
        self._unsynced.set()

    def close(self) -> None:
        """Make everything durable and give the folder free."""
        self.leave()
        with self._turn:
            os.fsync(self._out)
            os.close(self._out)
        os.close(self._lock)

    def _sync(self) -> None:
        """Make the last segment durable; once that failed it goes on failing, whatever the disk says later."""
        try:
            os.fdatasync(self._out)
        except OSError as fault:
            self._lost = self._lost or fault
        if self._lost:
            self._unsynced.set()
            raise self._lost

    def _write(self, frame: bytes) -> None:
        """Write all of it or cut off what was written of it."""
        try:
            written = os.write(self._out, frame)
            if written < len(frame):
                raise OSError(ENOSPC, f"{written} of {len(frame)} bytes were taken")
        except OSError:
            os.ftruncate(self._out, self._last.size)
            raise

    def _roll(self) -> None:
        """Make the last segment durable and begin another, once its name is."""
        self._sync()
        segment = Segment(self._folder / f"{self._next:020}{SUFFIX}", self._next, 0)
        with ExitStack() as stack:
            out = _open(segment.path)
            stack.callback(os.close, out)
            sync_folder(self._folder)
            stack.pop_all()
        with self._turn:
            os.close(self._out)
            self._last, self._out = segment, out


def check(folder: Path) -> None:
    """Raise SpoolCorrupt unless all bytes of a folder that nobody appends to are of whole frames; change nothing."""
    name_of(folder)
    for segment in segments_in(folder):
        if blocks_of(segment.path.read_bytes())[1] != segment.size:
            raise SpoolCorrupt(f"{segment.path} holds a broken frame; bring its bytes back, or move it away")


class Tail:
    """The end of a folder that is read, for one process: what was there, and durable, at the last `sync`."""

    def __init__(self, folder: Path) -> None:
        """Read what a spool left in a folder, or leaves in it now. Raises SpoolCorrupt when its name cannot be read."""
        self.folder = folder
        #: Who the numbers belong to; a folder that is lost comes back as somebody else.
        self.incarnation = name_of(folder)
        self._segments: list[Segment] = []
        self._cursor = _Cursor(0, 0, 0)
        #: Where a frame was not whole, and how many bytes there were of it and behind it.
        self._torn: tuple[_Cursor, int] | None = None

    def sync(self) -> None:
        """Make durable what is there, and take notice of it."""
        found = segments_in(self.folder)
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
            for segment in segments_in(self.folder):
                if segment.size > (self._cursor.at if segment.first == self._cursor.segment else 0):
                    return

    def release(self, below: int) -> None:
        """Remove the segments that hold nothing but numbers below `below`; the last one stays."""
        there = segments_in(self.folder)
        for segment, after in pairwise(there):
            if after.first <= below:
                segment.path.unlink()
        self._segments = [segment for segment in self._segments if segment.path.exists()]

    def _read_on(self, segment: Segment) -> list[Block]:
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

    def _unfinished(self, segment: Segment, left: int) -> bool:
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


def _recovered(segments: Sequence[Segment]) -> tuple[int, int]:
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


def _end(blocks: Sequence[Block], segment: Segment) -> int:
    """Return the number behind the last of the blocks that a segment begins with."""
    return blocks[-1].first + blocks[-1].count if blocks else segment.first


def _sync(file: Path) -> None:
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fdatasync(handle)
    finally:
        os.close(handle)


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
