"""The log as files: tiles of hashes, and the checkpoint over them (https://c2sp.org/tlog-tiles)."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from mainstem.audit.log import CHECKPOINT, read_tile
from mainstem.events.errors import MainstemError
from mainstem.events.frames import Damaged
from mainstem.ledger import HASH_BYTES
from mainstem.ledger.checkpoint import Checkpoint
from mainstem.ledger.keys import LogKey
from mainstem.ledger.note import Note, NoteError
from mainstem.ledger.tiles import Edge, Tile, TileTree
from mainstem.storage.files import make_folder, replace_file


class Forked(MainstemError):
    """What was signed and what is stored are not one history: nothing may be signed until a person has looked."""


class Folder:
    """The files of one log. Whoever writes is the only one; everything is durable when a call returns."""

    def __init__(self, folder: Path, key: LogKey) -> None:
        self._folder = folder
        self._key = key

    def signed(self) -> Note | None:
        """Return the checkpoint that was written last; raise Forked for one that is not this log's."""
        try:
            note = Note.parse((self._folder / CHECKPOINT).read_bytes())
            note.signed_by([self._key])
            origin = Checkpoint.parse(note.text).origin
        except FileNotFoundError:
            return None
        except NoteError as fault:
            raise Forked(f"{self._folder / CHECKPOINT}: {fault}; bring the file or the key back") from fault
        if origin != self._key.name:
            raise Forked(f"{self._folder / CHECKPOINT} is of {origin}, not of {self._key.name}")
        return note

    def size(self) -> int:
        """Return how many entries the checkpoint covers; 0 when there is none. Raises Forked as `signed` does."""
        note = self.signed()
        return 0 if note is None else Checkpoint.parse(note.text).size

    def read(self, tile: Tile) -> bytes:
        """Return a tile, cut from the full one where that took its place; raise OSError when it cannot be read."""
        return read_tile(self._folder, tile)

    def give(self, tile: Tile) -> bytes:
        """Return a tile for whoever asks.

        Raises FileNotFoundError when there is none, Damaged for what is no regular file of its length: nothing else
        that may lie there is given away.
        """
        try:
            data = self.read(tile)
        except FileNotFoundError:
            raise
        except OSError as fault:
            raise Damaged(f"{tile.path} cannot be read: {fault}; {_REPAIR}") from fault
        if len(data) != tile.width * HASH_BYTES:
            raise Damaged(f"{tile.path} has {len(data)} bytes, not {tile.width * HASH_BYTES}; {_REPAIR}")
        return data

    def edge(self) -> Edge:
        """Return the tree under the last checkpoint; raise Forked when the tiles are not those of it."""
        note = self.signed()
        if note is None:
            return Edge()
        signed = Checkpoint.parse(note.text)
        try:
            edge = Edge.at(signed.size, self.read)
        except (OSError, ValueError) as fault:
            raise Forked(f"the tiles below {self._folder} cannot be read: {fault}; {_REPAIR}") from fault
        if edge.frontier().root() != signed.root:
            raise Forked(f"the tiles below {self._folder} do not hash to its checkpoint; {_REPAIR}")
        return edge

    def tree(self, size: int) -> TileTree:
        """Return the tree of so many entries; its tiles must have been written."""
        return TileTree(size, self.read)

    def write_tiles(self, tiles: Iterable[tuple[Tile, bytes]]) -> None:
        """Write tiles."""
        for tile, data in tiles:
            file = self._folder / tile.path
            make_folder(file.parent)
            replace_file(file, data)

    def write_checkpoint(self, note: Note) -> None:
        """Write the checkpoint; all its tiles must be there."""
        make_folder(self._folder)
        replace_file(self._folder / CHECKPOINT, note.render())


_REPAIR: Final = "bring them back from a copy or an export"
