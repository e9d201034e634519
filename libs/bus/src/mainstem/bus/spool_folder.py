"""What lies in the folder of a spool: its segments, the name that its numbers go by, and who has it."""

import errno
import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from mainstem.bus.frames import Block, blocks_of, in_order
from mainstem.events.errors import MainstemError

SUFFIX = ".blocks"
_NAME = re.compile("[0-9a-f]{32}")
#: What the system says where a disk has lost what was written to it.
_LOST = {errno.EIO, errno.ENODATA, errno.EUCLEAN, errno.EBADMSG}
#: Says in a folder why its disk may not have what was written last.
_NOTE = "lost"
#: What is to be done for a folder without one.
_NAMELESS = "write there what stands between @ and / in `ce_origin` of its answers in the log, or move the folder away"


class SpoolBusy(MainstemError):
    """Another process holds the folder."""


class SpoolEarlier(MainstemError):
    """A folder holds messages of an earlier release, which this one cannot read."""


class SpoolCorrupt(MainstemError):
    """A frame, or the name of the folder, is lost: what follows is not found, or not known by its numbers."""


@dataclass(slots=True)
class Segment:
    """A file of frames, the number of its first message, and its bytes when it was looked at."""

    path: Path
    first: int
    size: int


def segments_in(folder: Path) -> list[Segment]:
    """Return the segments of a folder in their order."""
    found = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            found.append(Segment(path, int(path.stem), path.stat().st_size))
        except FileNotFoundError:
            continue  # it was released meanwhile
    return found


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Read a file: SpoolCorrupt is raised where the disk does not give its bytes back."""
    try:
        yield
    except OSError as fault:
        if fault.errno not in _LOST:
            raise
        raise broken(path, f"cannot be read: {fault}") from fault


def content_of(path: Path) -> bytes:
    """Return the bytes of a file. Raises SpoolCorrupt."""
    with reading(path):
        return path.read_bytes()


def read_at(path: Path, place: int, most: int) -> tuple[bytes, SpoolCorrupt | None]:
    """Return up to `most` bytes of a file, from a place on; and why not all where the disk does not give them back."""
    found = b""
    try:
        with reading(path), path.open("rb", buffering=0) as file:  # a buffer would drop what was read before a fault
            file.seek(place)
            while len(found) < most and (part := file.read(most - len(found))):
                found += part
    except SpoolCorrupt as fault:
        return found, fault
    return found, None


def check_full(segment: Segment, following: int | None) -> None:
    """Raise SpoolCorrupt unless a segment holds whole frames alone, up to the number that the next one begins with."""
    blocks, size = blocks_of(content_of(segment.path))
    if size != segment.size:
        raise broken(segment.path, f"holds a broken frame at byte {size}")
    if (end := end_of(blocks, segment)) != following and following is not None:
        raise broken(segment.path, f"ends before number {end}, and the next segment begins with {following}")


def end_of(blocks: Sequence[Block], segment: Segment) -> int:
    """Return the number behind the blocks that a segment begins with. Raises SpoolCorrupt if one of them is missing."""
    if len(in_order(blocks, segment.first)) < len(blocks):
        raise broken(segment.path, "lacks frames between others")
    return blocks[-1].first + blocks[-1].count if blocks else segment.first


def broken(path: Path, how: str) -> SpoolCorrupt:
    """Return what is raised for a segment that is not as it was written."""
    return SpoolCorrupt(f"{path} {how}; bring its bytes back, or move it away to go on without it")


def lose(folder: Path, fault: OSError) -> SpoolCorrupt:
    """Note that a sync failed, since the system tells that once and then forgets it; return what is raised for it.

    Nobody knows what the disk has then, and what is written behind it might not be found.
    """
    with suppress(OSError):  # where nothing can be written, whoever comes next finds that
        _write_down(folder / _NOTE, str(fault))
        sync_folder(folder)
    return _lost(folder, str(fault))


def is_lost(folder: Path) -> bool:
    """Tell whether a sync failed here, so that nobody appends any more."""
    return (folder / _NOTE).exists()


def refuse_lost(folder: Path) -> None:
    """Raise SpoolCorrupt when a sync failed here."""
    if is_lost(folder):
        raise _lost(folder, content_of(folder / _NOTE).decode("utf-8", "replace"))


def _lost(folder: Path, why: str) -> SpoolCorrupt:
    return SpoolCorrupt(f"what was written last to {folder} may not be on its disk: {why}; mend the disk")


def refuse_earlier(folder: Path) -> None:
    """Raise SpoolEarlier when messages of an earlier release lie here."""
    for path in folder.glob("*.spool"):
        if path.stat().st_size:
            raise SpoolEarlier(f"{path} was written by an earlier release: let that release send it, then move it away")


def sync_folder(folder: Path) -> None:
    """Make durable which files there are."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def lock_folder(folder: Path) -> int:
    """Return an open file that has the folder locked until it is closed. Raises SpoolBusy."""
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise SpoolBusy(f"another process holds the spool {folder}; give each process a folder of its own") from None
    return handle


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing; it stands on the disk, also where a kill came between."""
    if not folder.parent.is_dir():
        make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def name_of(folder: Path) -> str:
    """Return the folder's name for itself, given when it was first used, and on the disk since. Raises SpoolCorrupt."""
    return given_name(folder) or _name(folder)


def given_name(folder: Path) -> str | None:
    """Return the name of a folder; None when it has none yet. Raises SpoolCorrupt when it has none any more."""
    place = folder / "incarnation"
    if not place.exists():
        begun = any(segment.size for segment in segments_in(folder))
        if begun and not place.exists():  # who appends gives the name first
            raise SpoolCorrupt(f"{place} is gone, and blocks lie beside it: {_NAMELESS}")
        if not begun:
            return None
    name = content_of(place).decode("ascii", "replace")
    if not _NAME.fullmatch(name):
        raise SpoolCorrupt(f"{place} holds {name[:40]!r} and not 32 hexadecimal digits: {_NAMELESS}")
    return name


def _name(folder: Path) -> str:
    """Give a folder a name that was never given, and have it on the disk before anything goes by it."""
    name, partial = uuid4().hex, folder / "incarnation.new"
    _write_down(partial, name)
    partial.replace(folder / "incarnation")
    sync_folder(folder)
    return name


def _write_down(file: Path, text: str) -> None:
    with file.open("w") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())
