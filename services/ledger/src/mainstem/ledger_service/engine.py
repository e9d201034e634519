"""The audit of the archive: every entry is read and hashed again, in the order of the leaves."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from mainstem.events.catalogue import header
from mainstem.events.ledger import CheckpointPublished
from mainstem.ledger import HASH_BYTES, Frontier, leaf_hashes
from mainstem.ledger_service.domain import (
    ID_BYTES,
    Block,
    Damaged,
    Entry,
    Partition,
    frames_of,
    id_key,
    offsets_of,
    unframe,
)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is not as it was archived: the entry (or range of entries), and what is wrong."""

    where: str
    what: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the audit found. `size` and `root` are those of the entries as they are now."""

    size: int
    root: str
    checkpoints: int
    faults: tuple[Fault, ...]

    @property
    def holds(self) -> bool:
        """Whether every entry is as it was archived, as far as this archive can tell."""
        return not self.faults


class Audit:
    """Takes blocks in the order of their leaves.

    Checks of each entry: its frame can be read; its hash, id and place are the stored ones; its offset is higher than
    the one before it in its partition. Of all: leaves are dense; the root is the stored one, and at each size that a
    CheckpointPublished names it is the published one.
    """

    def __init__(self) -> None:
        self._frontier = Frontier()
        self._faults: list[Fault] = []
        self._last_offsets: dict[Partition, int] = {}
        self._checkpoints: Counter[bool] = Counter()
        #: Roots at the ends of blocks, from the last checkpoint on.
        self._roots: dict[int, str] = {0: Frontier().root().hex()}

    @property
    def size(self) -> int:
        """Return the number of entries taken."""
        return self._frontier.size

    def take(self, block: Block) -> None:
        """Check the next block."""
        if block.first_leaf != self.size:
            self._fault(block.name, f"it should begin at leaf {self.size}: entries are missing, or there twice")
        hashes = block.hashes
        try:
            frames = frames_of(block)
        except Damaged as fault:
            self._fault(block.name, f"its entries cannot be read ({fault}); restore these leaves from a backup")
        else:
            hashes = leaf_hashes(frames)
            self._check_entries(block, frames, hashes)
        self._frontier = self._frontier.append(hashes[: len(hashes) // HASH_BYTES * HASH_BYTES])
        self._roots[self.size] = self._frontier.root().hex()

    def finish(self, stored: Frontier) -> Verdict:
        """Compare with the stored tree and tell the verdict."""
        root = self._frontier.root().hex()
        if stored.size != self.size:
            self._fault("the tree", f"it has {stored.size} entries, the archive {self.size}; the end was cut or added")
        elif stored.root().hex() != root:
            self._fault("the tree", f"its root is {stored.root().hex()}, that of the entries {root}")
        return Verdict(self.size, root, self._checkpoints.total(), tuple(self._faults))

    def _check_entries(self, block: Block, frames: Sequence[bytes], hashes: bytes) -> None:
        entries = [self._read(block, place, data) for place, data in enumerate(frames)]
        if not self._is_sound(block, entries, hashes):
            for place, entry in enumerate(entries):
                self._check_entry(block, place, entry, hashes)
        self._last_offsets[block.topic, block.part] = block.last_offset
        if block.topic == CheckpointPublished.TOPIC:
            for place, entry in enumerate(entries):
                if entry is not None:
                    self._check_checkpoint(_name(block, place), entry)

    def _read(self, block: Block, place: int, data: bytes) -> Entry | None:
        try:
            return unframe(data)
        except Damaged as fault:
            self._fault(_name(block, place), f"it cannot be read: {fault}")
            return None

    def _is_sound(self, block: Block, entries: Sequence[Entry | None], hashes: bytes) -> bool:
        """Check all entries at once, which is the case that has to be quick."""
        offsets = offsets_of(block)
        before = self._last_offsets.get((block.topic, block.part), -1)
        return (
            None not in entries
            and hashes == block.hashes
            and block.first_offset == offsets[0] > before
            and block.last_offset == offsets[-1]
            and all(low < high for low, high in zip(offsets, offsets[1:], strict=False))
            and all(
                (entry.topic, entry.partition, entry.offset) == (block.topic, block.part, offset)
                for entry, offset in zip(entries, offsets, strict=True)
                if entry
            )
            and block.ids == b"".join(id_key(header(entry, "ce_id")) for entry in entries if entry)
        )
