"""The spool: blocks on local disk until the log has what they stand for, so that an outage loses none, stops nobody.

A folder of segments, each named after its first number, holds frames one behind the other (`frames`), and the name
that the folder's numbers go by. One process appends (`Spool`), one reads and removes (`Tail`); it may be the same one.

What `append` returned for survives the death of the process, since the page cache outlives it, and a power cut once
it is synced: by every `append`, or soon after (`keep_synced`). What is read is synced before it is given, so what was
sent is never lost here and its numbers are never given again. After a sync that failed nobody appends any more.
"""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from errno import EBADF, EMFILE, ENFILE, ENOSPC
from itertools import pairwise
from pathlib import Path
from threading import Event, Lock

from mainstem.bus.frames import Block, blocks_of, frame_of, goes_on
from mainstem.bus.spool_folder import (
    SUFFIX,
    Segment,
    SpoolCorrupt,
    broken,
    check_full,
    content_of,
    end_of,
    lock_folder,
    lose,
    make_folder,
    name_of,
    refuse_earlier,
    refuse_lost,
    segments_in,
    sync_folder,
)
from mainstem.events.errors import MainstemError

SEGMENT_BYTES = 8 << 20
#: Between an append and the sync that takes it to the disk, with all that came meanwhile.
SYNC_S = 0.02
#: What the system says where the disk was not asked: the spool is closed, or a folder cannot be opened.
_NOT_TRIED = {EBADF, EMFILE, ENFILE}


class SpoolFull(MainstemError):
    """The spool cannot take more: its cap is reached, the disk is full, or a sync failed. The block is not recorded.

    Nothing of it was written, either, unless it was its own sync that failed: then it may be read all the same.
    """


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
            refuse_lost(folder)
            segments = segments_in(folder) or [Segment(folder / f"{0:020}{SUFFIX}", 0, 0)]
            self._last = segments[-1]
            self._next, self._last.size = _recovered(segments)
            self._size = sum(segment.size for segment in segments)
            self._out = _open(self._last.path)
            stack.callback(os.close, self._out)
            sync_folder(folder)
            stack.pop_all()
        #: There is something to make durable, or nothing any more for ever.
        self._unsynced, self._left = Event(), False
        #: Held by who syncs the last segment, or begins another; why nobody knows what the disk has.
        self._turn = Lock()
        self._lost: SpoolCorrupt | None = None

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
        if self._lost:
            raise self._refusal(self._lost) from self._lost
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
        except (OSError, SpoolCorrupt) as fault:
            raise self._refusal(fault) from fault
        if not (self._sync_each or self._unsynced.is_set()):
            self._unsynced.set()
        return first

    def sync(self) -> None:
        """Make durable what is appended, a moment after it was, until `leave`; for a thread of its own.

        Raises SpoolCorrupt when something could not be made durable: nothing is appended any more then, by nobody.
        """
        while True:
            self._unsynced.wait()
            time.sleep(SYNC_S)
            self._unsynced.clear()
            with self._turn:
                if self._lost:
                    raise self._lost
                if self._left:
                    return
                self._sync()

    def leave(self) -> None:
        """End what `sync` does."""
        self._left = True
        self._unsynced.set()

    def close(self) -> None:
        """Make everything durable and give the folder free; it is free also where SpoolCorrupt is raised."""
        self.leave()
        with ExitStack() as stack:
            stack.callback(os.close, self._lock)
            stack.enter_context(self._turn)
            out, self._out = self._out, -1
            stack.callback(os.close, out)
            self._durably(os.fsync, out)

    def _sync(self) -> None:
        """Make the last segment durable, unless whoever reads has found that the disk lost some of it."""
        self._durably(os.fdatasync, self._out)
        try:
            refuse_lost(self._folder)
        except SpoolCorrupt as fault:
            self._lose(fault)
            raise

    def _durably(self, do: Callable[..., None], *args: int | Path) -> None:
        """Do what makes something durable, or takes it back; where that fails nothing is taken any more."""
        try:
            do(*args)
        except OSError as fault:
            if fault.errno in _NOT_TRIED:
                raise
            lost = lose(self._folder, fault)
            self._lose(lost)
            raise lost from fault

    def _lose(self, lost: SpoolCorrupt) -> None:
        """Take nothing more, and have whoever keeps it synced hear of it."""
        self._lost = lost
        self._unsynced.set()

    def _refusal(self, fault: Exception) -> SpoolFull:
        """Return what is raised where nothing can be written."""
        return SpoolFull(f"the spool {self._folder} cannot be written: {fault}; free space on its disk, or mend it")

    def _write(self, frame: bytes) -> None:
        """Write all of it or cut off what was written of it."""
        try:
            written = os.write(self._out, frame)
            if written < len(frame):
                raise OSError(ENOSPC, f"{written} of {len(frame)} bytes were taken")
        except OSError:
            self._durably(os.ftruncate, self._out, self._last.size)
            raise

    def _roll(self) -> None:
        """Make the last segment durable and begin another, once its name is."""
        self._sync()
        segment = Segment(self._folder / f"{self._next:020}{SUFFIX}", self._next, 0)
        with ExitStack() as stack:
            out = _open(segment.path)
            stack.callback(os.close, out)
            self._durably(sync_folder, self._folder)
            stack.pop_all()
        with self._turn:
            os.close(self._out)
            self._last, self._out = segment, out


def check(folder: Path) -> None:
    """Raise SpoolCorrupt unless a folder that nobody appends to holds whole frames, none missing; change nothing."""
    name_of(folder)
    segments = segments_in(folder)
    following = [*(segment.first for segment in segments[1:]), None]
    for segment, number in zip(segments, following, strict=False):
        check_full(segment, number)


async def keep_synced(spool: Spool) -> None:
    """Make durable for ever what is appended: a power cut costs what came in the last `SYNC_S` and two syncs."""
    try:
        await asyncio.to_thread(spool.sync)
    finally:
        spool.leave()


def _recovered(segments: Sequence[Segment]) -> tuple[int, int]:
    """Return the number and the place behind the last whole frame, after cutting off what follows it."""
    for segment, following in pairwise(segments):
        check_full(segment, following.first)
    last = segments[-1]
    if not last.path.exists():
        return last.first, 0
    content = content_of(last.path)
    blocks, size = blocks_of(content)
    number = end_of(blocks, last)
    if goes_on(content, size + 1, number):
        raise broken(last.path, f"holds a broken frame at byte {size} and whole ones behind it, which are not cut off")
    os.truncate(last.path, size)
    return number, size


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
