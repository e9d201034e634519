"""Copying a log: its entries, proven as they come, into the files that others read and verify (ADR 14)."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from pathlib import Path

from mainstem.audit.log import CHECKPOINT, frame_of, pack_part, part_of
from mainstem.events.errors import Rejected
from mainstem.events.frames import Damaged
from mainstem.ledger import HASH_BYTES, leaf_hashes
from mainstem.ledger.checkpoint import Checkpoint
from mainstem.ledger.entry import entry_of
from mainstem.ledger.note import Note
from mainstem.ledger.tiles import WIDTH, Edge, bundle, pack_entries


@dataclass(frozen=True, slots=True)
class Choice:
    """Which entries a copy has."""

    leaves: range
    #: Names of topics, or beginnings of names that end with `*`; None stands for all.
    topics: tuple[str, ...] | None = None

    def has_topic(self, topic: str) -> bool:
        """Tell whether entries of a topic are in it."""
        return self.topics is None or any(
            topic.startswith(wanted[:-1]) if wanted.endswith("*") else topic == wanted for wanted in self.topics
        )


@dataclass(slots=True)
class Copied:
    """What a copy has."""

    entries: int = 0
    withheld: int = 0
    bytes: int = 0


class Copy:
    """Writes a copy of a log at the size of a checkpoint, entry after entry, in the order of the leaves.

    Tiles are always whole; of the entries, those that were chosen. The checkpoint is written last, so a folder with one
    is a whole copy. Raises Rejected for a folder that holds something already.
    """

    def __init__(self, folder: Path, note: Note, choice: Choice) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            full = any(folder.iterdir())
        except OSError as fault:
            raise Rejected(f"{folder} cannot be made: {fault}; name a folder where you may write") from fault
        if full:
            raise Rejected(f"{folder} is not empty; name a folder that is not there yet")
        self.copied = Copied()
        self._folder = folder
        self._note = note
        self.checkpoint = Checkpoint.parse(note.text)
        self._choice = choice
        self._edge = Edge()
        #: Entries of the bundle that is not full yet; None for those that are withheld.
        self._bundle: list[bytes | None] = []

    @property
    def size(self) -> int:
        """Return how many entries were taken."""
        return self._edge.size

    def take(self, topic: str, frames: Sequence[bytes], hashes: bytes) -> None:
        """Take the next frames, all of a topic, with the leaf hashes that the archive holds beside them.

        Those behind the size of the checkpoint are left out. Raises Damaged, naming the leaf, when a hash is not that
        of its frame: such an archive is not copied.
        """
        frames = frames[: self.checkpoint.size - self.size]
        entries = [entry_of(frame) for frame in frames]
        found = leaf_hashes(entries)
        if found != hashes[: len(found)]:
            raise Damaged(f"leaf {self.size + _first_difference(found, hashes)} of {topic} is not as it was archived")
        chosen = self._choice.has_topic(topic)
        for leaf, frame, entry in zip(count(self.size), frames, entries):
            given = chosen and leaf in self._choice.leaves
            if given and entry is not frame:
                self._write(frame_of(sha256(frame).digest()), frame)
            self._add(leaf, entry if given else None)
        self._edge, tiles = self._edge.append(found)
        for tile, data in tiles:
            self._write(tile.path, data)

    def finish(self) -> Copied:
        """Write what is left, the checkpoint last, and tell what the copy has.

        Raises Damaged when the entries do not make the tree of the checkpoint.
        """
        root = self._edge.frontier().root()
        if (self.size, root) != (self.checkpoint.size, self.checkpoint.root):
            raise Damaged(
                f"the archive has {self.size} entries with root {root.hex()}; the checkpoint that was signed over "
                f"{self.checkpoint.size} says {self.checkpoint.root.hex()}: run `mainstem audit verify`"
            )
        if self._bundle:
            self._write_bundle(self.size // WIDTH)
        for tile, data in self._edge.partial():
            self._write(tile.path, data)
        os.sync()  # all of it, before the checkpoint says that it is there
        self._write(CHECKPOINT, self._note.render())
        os.sync()
        return self.copied

    def _add(self, leaf: int, entry: bytes | None) -> None:
        self._bundle.append(entry)
        if entry is None:
            self.copied.withheld += 1
        else:
            self.copied.entries += 1
        if len(self._bundle) == WIDTH:
            self._write_bundle(leaf // WIDTH)

    def _write_bundle(self, index: int) -> None:
        entries, self._bundle = self._bundle, []
        tile = bundle(index, len(entries))
        given = [(place, entry) for place, entry in enumerate(entries) if entry is not None]
        if len(given) == len(entries):
            self._write(tile.path, pack_entries(entry for _, entry in given))
        elif given:
            self._write(part_of(tile), pack_part(given))

    def _write(self, path: str, data: bytes) -> None:
        file = self._folder / path
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        except OSError as fault:
            raise Rejected(f"{file} cannot be written: {fault}; export to where there is room") from fault
        self.copied.bytes += len(data)


def _first_difference(found: bytes, stored: bytes) -> int:
    places = range(0, len(found), HASH_BYTES)
    return next(at // HASH_BYTES for at in places if found[at : at + HASH_BYTES] != stored[at : at + HASH_BYTES])
