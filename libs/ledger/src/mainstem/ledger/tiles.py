"""A tree as files: 256 hashes each, and the entries beside them (https://c2sp.org/tlog-tiles)."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from struct import Struct
from typing import Final, Self

from mainstem.ledger.frontier import Frontier
from mainstem.ledger.hashing import HASH_BYTES, check_whole, parents
from mainstem.ledger.path import consistency, inclusion, root

#: Hashes of a full tile, and entries of a full bundle.
WIDTH: Final = 256
#: Bytes of an entry at most.
ENTRY_BYTES: Final = 65_535

#: The level of bundles of entries.
ENTRIES: Final = -1

#: A bundle with more entries than that is not read on.
_MOST_ENTRIES: Final = 4 * WIDTH
_HEIGHT: Final = 8  #: of the subtree over a tile
_PATH: Final = re.compile(
    r"tile/(entries|[0-9]|[1-5][0-9]|6[0-3])/((?:x[0-9]{3}/)*)([0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?"
)
_LENGTH: Final = Struct(">H")


@dataclass(frozen=True, slots=True)
class Tile:
    """Which hashes: the `width` first of the tile of a level; level -1 is the bundle of entries."""

    level: int
    index: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        """Return where it stands below the log's prefix."""
        rest, last = divmod(self.index, 1000)
        name = f"{last:03}"
        while rest:
            rest, last = divmod(rest, 1000)
            name = f"x{last:03}/{name}"
        partial = "" if self.width == WIDTH else f".p/{self.width}"
        return f"tile/{'entries' if self.level == ENTRIES else self.level}/{name}{partial}"

    @classmethod
    def within(cls, level: int, index: int, size: int) -> Self:
        """Return the tile as a tree of so many entries has it; raises ValueError where it has none."""
        width = min(WIDTH, (size >> (_HEIGHT * max(level, 0))) - index * WIDTH)
        if width < 1:
            raise ValueError(f"a tree of {size} entries has no tile {index} of level {level}")
        return cls(level, index, width)

    @classmethod
    def parse(cls, path: str) -> Self:
        """Read what `path` gave; raises ValueError for what is the path of no tile."""
        found = _PATH.fullmatch(path)
        if found is None:
            raise ValueError(f"{path!r} is the path of no tile")
        level, above, last, width = found.groups()
        index = int("".join(re.findall("[0-9]{3}", above)) + last)
        tile = cls(ENTRIES if level == "entries" else int(level), index, WIDTH if width is None else int(width))
        if tile.path != path or (width is not None and tile.width >= WIDTH):
            raise ValueError(f"{path!r} is the path of no tile")
        return tile


def bundle(index: int, width: int = WIDTH) -> Tile:
    """Return which entries: the first `width` of a bundle."""
    return Tile(ENTRIES, index, width)


@dataclass(frozen=True, slots=True)
class Edge:
    """What must be kept of a tree to go on with its tiles: of each level the hashes that fill no tile yet."""

    size: int = 0
    levels: tuple[bytes, ...] = ()

    def append(self, leaves: bytes) -> tuple[Self, list[tuple[Tile, bytes]]]:
        """Return the edge after appending leaf hashes, and the tiles that they filled, lower levels first."""
        check_whole(leaves)
        full: list[tuple[Tile, bytes]] = []
        levels, rising = list(self.levels), leaves
        for level in range(64 // _HEIGHT):
            if not rising:
                break
            if level == len(levels):
                levels.append(b"")
            first = self.size >> (_HEIGHT * (level + 1))
            whole = levels[level] + rising
            count = len(whole) // (WIDTH * HASH_BYTES)
            tiles = [whole[n * WIDTH * HASH_BYTES : (n + 1) * WIDTH * HASH_BYTES] for n in range(count)]
            full += [(Tile(level, first + n), tile) for n, tile in enumerate(tiles)]
            levels[level] = whole[count * WIDTH * HASH_BYTES :]
            rising = b"".join(map(_top, tiles))
        return type(self)(self.size + len(leaves) // HASH_BYTES, tuple(levels)), full

    @classmethod
    def at(cls, size: int, read: Callable[[Tile], bytes]) -> Self:
        """Return the edge of a tree of so many entries from its tiles; raises ValueError for one of another length."""
        levels: list[bytes] = []
        while passed := size >> (_HEIGHT * len(levels)):
            level, (index, width) = len(levels), divmod(passed, WIDTH)
            levels.append(_checked(Tile(level, index, width), read) if width else b"")
        return cls(size, tuple(levels))

    def frontier(self) -> Frontier:
        """Return the roots of the complete subtrees."""
        peaks: list[bytes] = []
        for hashes in reversed(self.levels):
            place, width = 0, len(hashes) // HASH_BYTES
            for bit in reversed(range(_HEIGHT)):
                if width >> bit & 1:
                    end = place + (HASH_BYTES << bit)
                    peaks.append(_top(hashes[place:end]))
                    place = end
        return Frontier(self.size, tuple(peaks))

    def partial(self) -> list[tuple[Tile, bytes]]:
        """Return the tiles at the right edge that are not full, lower levels first."""
        return [
            (Tile(level, self.size >> (_HEIGHT * (level + 1)), len(hashes) // HASH_BYTES), hashes)
            for level, hashes in enumerate(self.levels)
            if hashes
        ]


def _top(tile: bytes) -> bytes:
    """Return the root of a full tile."""
    while len(tile) > HASH_BYTES:
        tile = parents(tile)
    return tile


class TileTree:
    """The tree of a log by its tiles; `read` gives the bytes of one and may raise what it likes.

    Nothing is verified but widths: hold the root against a signed checkpoint first.
    Raises ValueError for a tile of another length.
    """

    def __init__(self, size: int, read: Callable[[Tile], bytes]) -> None:
        self.size = size
        self._read = read
        self._tiles: dict[Tile, bytes] = {}

    def root(self, size: int | None = None) -> bytes:
        """Return the root of the first `size` entries (default: all)."""
        return root(self._subtree, self._within(self.size if size is None else size))

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """Return the audit path of an entry; see `mainstem.ledger.path.inclusion`."""
        return inclusion(self._subtree, index, self._within(size))

    def consistency(self, old: int, size: int) -> list[bytes]:
        """Return the proof that one tree extends another; see `mainstem.ledger.path.consistency`."""
        return consistency(self._subtree, old, self._within(size))

    def leaf(self, index: int) -> bytes:
        """Return the hash of an entry."""
        return self._subtree(0, index)

    def _within(self, size: int) -> int:
        if not 0 <= size <= self.size:
            raise ValueError(f"the tree has {self.size} entries, not {size}")
        return size

    def _subtree(self, height: int, index: int) -> bytes:
        """Return the hash over a complete subtree: the `index`-th of 2^height entries."""
        level, above = divmod(height, _HEIGHT)
        count = 1 << above
        number, place = divmod(index * count, WIDTH)
        hashes = self._tile(Tile.within(level, number, self.size))[place * HASH_BYTES : (place + count) * HASH_BYTES]
        return _top(hashes)

    def _tile(self, tile: Tile) -> bytes:
        if tile not in self._tiles:
            self._tiles[tile] = _checked(tile, self._read)
        return self._tiles[tile]


def _checked(tile: Tile, read: Callable[[Tile], bytes]) -> bytes:
    data = read(tile)
    if len(data) != tile.width * HASH_BYTES:
        raise ValueError(f"{tile.path} has {len(data)} bytes, not {tile.width * HASH_BYTES}; it is damaged")
    return data


def pack_entries(entries: Iterable[bytes]) -> bytes:
    """Return a bundle of entries; raises ValueError for one that is too long."""
    parts: list[bytes] = []
    for entry in entries:
        if len(entry) > ENTRY_BYTES:
            raise ValueError(f"an entry of {len(entry)} bytes is too long: {ENTRY_BYTES} at most")
        parts += (_LENGTH.pack(len(entry)), entry)
    return b"".join(parts)


def unpack_entries(data: bytes) -> list[bytes]:
    """Return the entries of a bundle; raises ValueError when it is damaged."""
    entries: list[bytes] = []
    at = 0
    while at < len(data):
        begin = at + _LENGTH.size
        end = begin + (_LENGTH.unpack_from(data, at)[0] if begin <= len(data) else 0)
        if begin > len(data) or end > len(data):
            raise ValueError(f"a bundle ends within its entry {len(entries)}; it is damaged")
        if len(entries) == _MOST_ENTRIES:
            raise ValueError(f"a bundle holds more than {_MOST_ENTRIES} entries; it is damaged")
        entries.append(data[begin:end])
        at = end
    return entries
