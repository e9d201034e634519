"""A log as files: how they are found and read. What they promise is held against them in `verification`.

checkpoint          the signed checkpoint
tile/<level>/…      hashes, and tile/entries/… bundles of entries (https://c2sp.org/tlog-tiles)
part/…              in the place of a bundle: those of its entries that the copy has
frame/<sha256>      the frame that a stub stands for
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from stat import S_ISREG
from struct import Struct, error
from typing import Final

from mainstem.events.errors import Rejected
from mainstem.events.frames import Damaged
from mainstem.ledger import HASH_BYTES
from mainstem.ledger.checkpoint import Checkpoint
from mainstem.ledger.entry import stands_for
from mainstem.ledger.note import Note, NoteError
from mainstem.ledger.tiles import ENTRIES, ENTRY_BYTES, WIDTH, Tile, TileTree, unpack_entries

CHECKPOINT: Final = "checkpoint"

_PLACED: Final = Struct(">BH")
#: Of so many tiles more than are there a log is still read, to tell which are missing.
MOST_MISSING: Final = 1_000
_MOST_OF_A_NOTE: Final = 64 << 10
_MOST_OF_A_BUNDLE: Final = WIDTH * (_PLACED.size + ENTRY_BYTES)


def read_file(file: Path, most: int) -> bytes:
    """Return what a regular file of so many bytes at most holds; raise OSError for anything else, also a link."""
    about = file.lstat()
    if not S_ISREG(about.st_mode):
        raise OSError(f"{file} is no file")
    if about.st_size > most:
        raise OSError(f"{file} has {about.st_size} bytes, more than the {most} that it may have")
    return file.read_bytes()


def read_tile(folder: Path, tile: Tile) -> bytes:
    """Return a tile, cut from the full one where that took its place; raise OSError when there is none."""
    try:
        return read_file(folder / tile.path, WIDTH * HASH_BYTES)
    except FileNotFoundError:
        if tile.width == WIDTH:
            raise
        return read_file(folder / replace(tile, width=WIDTH).path, WIDTH * HASH_BYTES)[: tile.width * HASH_BYTES]


def part_of(bundle: Tile) -> str:
    """Return where the chosen entries of a bundle stand, below the log."""
    return bundle.path.replace("tile/entries", "part", 1)


def frame_of(digest: bytes) -> str:
    """Return where the frame with this SHA-256 stands, below the log."""
    return f"frame/{digest.hex()}"


def pack_part(entries: Iterable[tuple[int, bytes]]) -> bytes:
    """Return entries with their places in the bundle, as a part has them."""
    return b"".join(_PLACED.pack(place, len(entry)) + entry for place, entry in entries)


def unpack_part(data: bytes) -> dict[int, bytes]:
    """Return the entries of a part by their places; raise ValueError when it is damaged."""
    entries: dict[int, bytes] = {}
    at = 0
    try:
        while at < len(data):
            place, length = _PLACED.unpack_from(data, at)
            at += _PLACED.size + length
            if at > len(data) or place <= max(entries, default=-1):
                raise ValueError(f"a part is cut off or out of order at its entry {len(entries)}; it is damaged")
            entries[place] = data[at - length : at]
    except error as fault:
        raise ValueError(f"a part ends within its entry {len(entries)}; it is damaged") from fault
    return entries


class Log:
    """Reads a log below a folder. Nothing that it returns is verified.

    Raises Rejected for a folder without a readable checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.note = Note.parse(read_file(folder / CHECKPOINT, _MOST_OF_A_NOTE))
            self.checkpoint = Checkpoint.parse(self.note.text)
        except OSError as fault:
            raise Rejected(
                f"{folder} is no copy of a log, or an unfinished one: no {CHECKPOINT} can be read"
            ) from fault
        except NoteError as fault:
            raise Rejected(f"{folder / CHECKPOINT} is no signed checkpoint: {fault}; export anew") from fault

    @property
    def size(self) -> int:
        """Return the number of entries of the log, as its checkpoint says."""
        return self.checkpoint.size

    @property
    def bundles(self) -> range:
        """Return the numbers of the bundles; raise Rejected for more than the copy can hold.

        A size may say what it likes, and whoever reads them all would be busy as long.
        """
        needed, (there, _) = -(-self.size // WIDTH), self.leaf_tiles()
        if needed > there + MOST_MISSING:
            raise Rejected(
                f"the checkpoint below {self.folder} tells of {self.size} entries, and there are tiles for "
                f"{there * WIDTH} at most: it is of another log, or was changed; run `mainstem audit verify` on it"
            )
        return range(needed)

    def leaf_tiles(self) -> tuple[int, int]:
        """Return how many tiles of leaf hashes are there, and the number behind the last one's."""
        paths = (file.relative_to(self.folder).as_posix() for file in self.folder.glob("tile/0/**/*"))
        found = set(filter(None, map(_number_behind, paths)))
        return len(found), max(found, default=0)

    def held(self) -> str:
        """Return a digest of which files with entries there are, how long, and when they were changed; hexadecimal."""
        found = sha256()
        for part in ("tile/entries", "part", "frame"):
            for file in sorted((self.folder / part).rglob("*")):
                about = file.lstat()
                if S_ISREG(about.st_mode):
                    name = file.relative_to(self.folder)
                    found.update(f"{name}\0{about.st_size}\0{about.st_mtime_ns}\0".encode())
        return found.hexdigest()

    def tile(self, tile: Tile) -> bytes:
        """Return the bytes of a tile; raise OSError when there is none."""
        return read_tile(self.folder, tile)

    def tree(self) -> TileTree:
        """Return the tree by its tiles."""
        return TileTree(self.size, self.tile)

    def bundle(self, index: int) -> Mapping[int, bytes]:
        """Return the entries of a bundle that the copy has, by their places; raise Damaged for one that is damaged."""
        tile = Tile.within(ENTRIES, index, self.size)
        try:
            entries = self._whole(tile)
            if entries is None:
                entries = self._part(tile)
        except (OSError, ValueError) as fault:
            first = index * WIDTH
            raise Damaged(f"{tile.path}, leaves {first} to {first + tile.width - 1}: {fault}") from fault
        return entries

    def _whole(self, tile: Tile) -> Mapping[int, bytes] | None:
        try:
            return dict(enumerate(unpack_entries(read_file(self.folder / tile.path, _MOST_OF_A_BUNDLE))))
        except FileNotFoundError:
            return None

    def _part(self, tile: Tile) -> Mapping[int, bytes]:
        try:
            return unpack_part(read_file(self.folder / part_of(tile), _MOST_OF_A_BUNDLE))
        except FileNotFoundError:
            return {}

    def entries(self, first: int = 0) -> Iterator[tuple[int, bytes]]:
        """Yield leaf and entry of all that the copy has from a leaf on; raise Damaged for a damaged bundle."""
        for index in self.bundles[first // WIDTH :]:
            for place, entry in self.bundle(index).items():
                if first <= index * WIDTH + place < self.size:
                    yield index * WIDTH + place, entry

    def entry(self, leaf: int) -> bytes:
        """Return an entry; raise Rejected when the log or the copy does not have it."""
        if not 0 <= leaf < self.size:
            raise Rejected(f"the log below {self.folder} has leaves 0 to {self.size - 1}, no leaf {leaf}")
        index, place = divmod(leaf, WIDTH)
        found = self.bundle(index).get(place)
        if found is None:
            raise Rejected(f"leaf {leaf} was withheld from {self.folder}; ask for a copy that has it")
        return found

    def frame(self, entry: bytes) -> bytes:
        """Return the frame of an entry: itself, or what it stands for; raise Damaged when that is not there."""
        stub = stands_for(entry)
        if stub is None:
            return entry
        length, digest = stub
        try:
            data = read_file(self.folder / frame_of(digest), length)
        except OSError as fault:
            raise Damaged(f"the frame that it stands for, {frame_of(digest)}, cannot be read") from fault
        if len(data) != length or sha256(data).digest() != digest:
            raise Damaged(f"{frame_of(digest)} is not the frame that it stands for")
        return data


def _number_behind(path: str) -> int:
    """Return the number behind that of the tile at a path; 0 for what is none."""
    try:
        return Tile.parse(path).index + 1
    except ValueError:
        return 0
