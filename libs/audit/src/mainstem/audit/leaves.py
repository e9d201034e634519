"""Entries of a log, each held against the tree under its checkpoint as it is read."""

from functools import cached_property, lru_cache
from typing import Final

from mainstem.audit.log import Log
from mainstem.events.frames import Damaged
from mainstem.ledger import HASH_BYTES, Frontier, leaf_hash
from mainstem.ledger.tiles import WIDTH, Edge, Tile

#: Tiles that need not be proven again, 8 KiB each.
_MOST_KEPT: Final = 1_024


class Leaves:
    """Holds entries against the root that the checkpoint tells of. Who signed that root is another question."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._hashes = lru_cache(_MOST_KEPT)(self._proven)

    def check(self, leaf: int, entry: bytes) -> None:
        """Raise Damaged for an entry that does not stand at a leaf of the tree, and for a tile that is none of it."""
        index, place = divmod(leaf, WIDTH)
        if leaf_hash(entry) != self._hashes(0, index)[place * HASH_BYTES : (place + 1) * HASH_BYTES]:
            raise Damaged(f"leaf {leaf} is not as it was archived; {self._advice}")

    def _proven(self, level: int, index: int) -> bytes:
        """Return the hashes of a tile, which those above it lead to the root."""
        try:
            tile = Tile.within(level, index, self._log.size)
            hashes = self._log.tile(tile)
        except (OSError, ValueError) as fault:
            raise Damaged(f"tile {index} of level {level} cannot be read: {fault}; {self._advice}") from fault
        if tile.width < WIDTH:
            holds = hashes == self._edge.levels[level]
        else:
            place = index % WIDTH * HASH_BYTES
            above = self._hashes(level + 1, index // WIDTH)[place : place + HASH_BYTES]
            holds = len(hashes) == WIDTH * HASH_BYTES and Frontier().append(hashes).root() == above
        if not holds:
            raise Damaged(f"{tile.path} does not lead to the root of the checkpoint; {self._advice}")
        return hashes

    @cached_property
    def _edge(self) -> Edge:
        """Return the tiles that are not full, which make the root."""
        try:
            edge = Edge.at(self._log.size, self._log.tile)
        except (OSError, ValueError) as fault:
            raise Damaged(f"the tiles at the edge of the tree cannot be read: {fault}; {self._advice}") from fault
        if edge.frontier().root() != self._log.checkpoint.root:
            raise Damaged(f"the tiles at the edge of the tree do not make the root of the checkpoint; {self._advice}")
        return edge

    @property
    def _advice(self) -> str:
        return f"run `mainstem audit verify {self._log.folder}`"
