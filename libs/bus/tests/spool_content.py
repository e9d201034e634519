"""What a spool has, as tests look at it."""

from io import BufferedReader, FileIO
from pathlib import Path

from mainstem.bus.spool_tail import Tail


def everything(folder, start=0):
    """Return number and content of every block from a number on."""
    tail, found = Tail(folder), []
    while batch := tail.read(start):
        found += batch
        start = batch[-1].first + batch[-1].count
    return [(block.first, block.payload.rstrip(b".").decode()) for block in found]


def segments(folder):
    """Return the files of a folder in their order."""
    return sorted(folder.glob("*.blocks"))


def flip(path: Path, place: int) -> None:
    """Change a byte of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def lose_sector(monkeypatch, file: Path, place: int) -> None:
    """Have the disk give back what stands in a file before a place, and nothing else of it."""

    class Disk(FileIO):
        def readinto(self, into):
            if self.tell() >= place:
                raise OSError(5, "Input/output error")
            return super().readinto(memoryview(into)[: place - self.tell()])

        def read(self, size=-1):
            into = bytearray(size if size >= 0 else place + 1)
            return bytes(into[: self.readinto(into)]) + (b"" if size >= 0 else self.read(1))

    def open_path(path, mode="r", buffering=-1, **kwargs):
        if path != file:
            return opened(path, mode, buffering, **kwargs)
        return BufferedReader(Disk(path)) if buffering else Disk(path)

    opened = Path.open
    monkeypatch.setattr(Path, "open", open_path)
