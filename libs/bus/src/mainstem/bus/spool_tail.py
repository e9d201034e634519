"""The end of a spool that is read: every block in its order, durable, until it is released."""

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from errno import ENOENT
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from mainstem.bus.frames import HEAD_BYTES, Block, blocks_of, in_order, is_shorter, size_of
from mainstem.bus.spool_folder import (
    Segment,
    SpoolCorrupt,
    broken,
    given_name,
    is_lost,
    lose,
    read_at,
    segments_in,
)

#: One read is about so much.
_READ_BYTES = 256 << 10
#: The reader looks this often for what another process appended.
_POLL_S = 0.01


class _Cursor(NamedTuple):
    """Where reading stopped: the number asked for next, the segment by its first number, the place in it.

    `follows` is the number that the block in that place is to have; -1 before a segment is entered.
    """

    number: int
    segment: int = 0
    at: int = 0
    follows: int = -1


class Tail:
    """The end of a folder that is read, for one process."""

    def __init__(self, folder: Path) -> None:
        """Read what a spool left in a folder, or leaves in it now.

        Raises SpoolCorrupt when its name cannot be read, and FileNotFoundError when nobody has given it one yet: only
        who appends does.
        """
        self.folder = folder
        name = given_name(folder)
        if name is None:
            raise FileNotFoundError(ENOENT, "nobody has begun a spool here yet", str(folder))
        #: Who the numbers belong to; a folder that is lost comes back as somebody else.
        self.incarnation = name
        #: What was there when it was read last.
        self._segments: list[Segment] = []
        self._cursor = _Cursor(0)
        #: Where a frame was not whole, and how many bytes there were of it and behind it.
        self._torn: tuple[_Cursor, int] | None = None

    def read(self, number: int) -> Sequence[Block]:
        """Return some blocks, from the one with message `number` in it or the oldest kept on; empty at the end.

        They are durable then: first they are read, since whole frames stay, and then synced. Raises SpoolCorrupt, also
        when that fails, once: then nobody appends any more, no number can be given again, and all can be read that is
        there. Where the folder was moved there is nothing, whatever lies in its place.
        """
        self._segments = segments_in(self.folder)
        try:
            found = self._read(number)
            if found and self._cursor.segment == self._segments[-1].first:
                self._sync(self._segments[-1].path)
        except (SpoolCorrupt, FileNotFoundError):
            if self.is_there():
                raise
            return []
        return found if self.is_there() else []

    def _read(self, number: int) -> Sequence[Block]:
        if number != self._cursor.number:
            self._cursor = _Cursor(number)
        for segment in [each for each in self._segments if each.first >= self._cursor.segment]:
            self._enter(segment)
            while blocks := self._read_on(segment):
                found = [block for block in blocks if block.first + block.count > number]
                if found:
                    return found
        return []

    def end(self) -> int:
        """Return the number behind the last block; where one cannot be read, behind that before: `read` finds it."""
        return self._end()[0]

    def refuse_shorter(self, number: int) -> None:
        """Raise SpoolCorrupt when the blocks, or those that the disk gives back, end before a number.

        Those that follow were given before, or cannot be told from such. Of a folder that was moved nothing is said.
        """
        end, unreadable = self._end()
        if end < number and self.is_there():
            raise unreadable or SpoolCorrupt(
                f"{self.folder} ends before number {number}, up to which it was sent; move it away"
            )

    def _end(self) -> tuple[int, SpoolCorrupt | None]:
        segments = segments_in(self.folder)
        if not segments:
            return 0, None
        last = segments[-1]
        content, unreadable = read_at(last.path, 0, last.size)
        blocks = in_order(blocks_of(content)[0], last.first)
        return blocks[-1].first + blocks[-1].count if blocks else last.first, unreadable

    def is_there(self) -> bool:
        """Tell whether the folder lies where it lay, and no other in its place; also when it has lost its name."""
        try:
            return given_name(self.folder) == self.incarnation
        except FileNotFoundError:
            return False
        except SpoolCorrupt:
            return True

    async def wait(self) -> None:
        """Return when there may be something behind what was read last, or another folder in the place of this one."""
        while True:
            await asyncio.sleep(_POLL_S)
            for segment in segments_in(self.folder):
                if segment.size != (self._cursor.at if segment.first == self._cursor.segment else 0):
                    return

    def release(self, below: int) -> None:
        """Remove the segments that hold nothing but numbers below `below`; the last one stays.

        Where the folder was moved nothing is removed, whatever lies in its place. Raises OSError when the disk does not
        let go of one.
        """
        try:
            handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return
        try:
            there = segments_in(self.folder)
            if self.is_there():  # and was all the time: nobody moves a folder back
                for segment, after in pairwise(there):
                    if after.first <= below:
                        with suppress(FileNotFoundError):
                            os.unlink(segment.path.name, dir_fd=handle)
                        os.fsync(handle)  # before the next: a power cut leaves no gap
        finally:
            os.close(handle)

    def _enter(self, segment: Segment) -> None:
        """Have the cursor in a segment: at its begin, unless it is there. Raises SpoolCorrupt if blocks are missing."""
        number, follows, first = self._cursor.number, self._cursor.follows, segment.first
        if follows >= 0 and first == self._cursor.segment:
            return
        if not (follows < 0 or first == follows or follows < first <= number):
            raise broken(segment.path, f"begins with number {first}, and what is before it ends at {follows}")
        self._cursor = _Cursor(number, first, 0, first)

    def _read_on(self, segment: Segment) -> Sequence[Block]:
        """Read on in a segment from the cursor, and move it."""
        left, last = segment.size - self._cursor.at, segment is self._segments[-1]
        if left < 0:
            raise broken(segment.path, "is shorter than what was read of it")
        content, unreadable = read_at(segment.path, self._cursor.at, min(left, _READ_BYTES))
        wanted = size_of(content[:HEAD_BYTES])
        torn = left < wanted
        if len(content) < min(left, _READ_BYTES) and last and unreadable is None:
            return []  # who writes took back what the disk had no room for
        if len(content) < wanted <= left and unreadable is None:
            begun = content
            content, unreadable = read_at(segment.path, self._cursor.at, wanted)
            if last and not content.startswith(begun):
                return []  # and wrote something else
        blocks = in_order(blocks_of(content)[0], self._cursor.follows)
        if left and not blocks and unreadable is not None:
            raise unreadable
        if left and not blocks and not (torn and last and self._unfinished(segment, left, content)):
            raise broken(segment.path, f"holds a broken frame at byte {self._cursor.at}")
        if blocks:
            follows = blocks[-1].first + blocks[-1].count
            at = self._cursor.at + sum(HEAD_BYTES + len(block.payload) for block in blocks)
            self._cursor = _Cursor(max(follows, self._cursor.number), segment.first, at, follows)
        return blocks

    def _unfinished(self, segment: Segment, left: int, begun: bytes) -> bool:
        """Tell whether the frame at the cursor is still being written, and not broken in its length alone.

        That is looked for only when there are more bytes than before, as who writes adds them. Not for any whole frame
        behind it: what is written then is what callers said, and may look like one. What begins otherwise than it did
        was taken back meanwhile.
        """
        torn = self._cursor, left
        if torn == self._torn:
            return True
        content, unreadable = read_at(segment.path, self._cursor.at, left)
        if not content.startswith(begun):
            return True
        if unreadable is not None:
            raise unreadable
        self._torn = torn
        return not is_shorter(content)

    def _sync(self, file: Path) -> None:
        """Make durable what others wrote to a file, or have nobody write to it any more."""
        handle = os.open(file, os.O_RDONLY)
        try:
            os.fdatasync(handle)
        except OSError as fault:
            if not is_lost(self.folder):
                raise lose(self.folder, fault) from fault
        finally:
            os.close(handle)
