"""The audit of the archive: every entry is read and hashed again, in the order of the leaves."""

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import Final, NamedTuple

from pydantic import ValidationError

from mainstem.events.frames import Damaged, Entry, unframe
from mainstem.events.ledger import CheckpointPublished
from mainstem.events.record import header
from mainstem.ledger import HASH_BYTES, Frontier, leaf_hashes
from mainstem.ledger.entry import entry_of
from mainstem.ledger_service.attested import Attested
from mainstem.ledger_service.domain import ID_BYTES, Block, Partition, frames_of, id_key, name_of, offsets_of

#: Hash, id key and place of an entry; None where there is none.
_Marks = tuple[bytes | None, bytes | None, tuple[str, int, int] | None]
_ROOT: Final = re.compile("[0-9a-f]{64}")
_NONE: Final[_Marks] = (None, None, None)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is not as it was archived: the entry (or range of entries), and what is wrong."""

    where: str
    what: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the audit found. `size` and `root` are those of the tree: of what a checkpoint attests, then of the rest."""

    size: int
    root: str
    checkpoints: int
    #: Up to which size a checkpoint that was signed and cosigned says the same.
    signed: int
    faults: tuple[Fault, ...]

    @property
    def holds(self) -> bool:
        """Whether every entry is as it was archived, as far as this archive can tell."""
        return not self.faults


class Audit:
    """Takes blocks in the order of their leaves.

    Checks of each entry: its frame can be read; its hash, id and place are the stored ones; its offset is higher than
    the one before it in its partition. Of all: leaves are dense; the root is the stored one, and at each size that a
    CheckpointPublished names it is the published one; and of what is `attested`: at each size that was signed it is
    the root that was signed, and every leaf is the published one.

    An entry and the hash beside it may differ, and both from the published hash; the next checkpoint tells which is the
    archived one, and from there on the audit goes by that. So one fault does not hide another.
    """

    def __init__(self, attested: Attested | None = None) -> None:
        self._attests = attested or Attested()
        self._claims = deque(self._attests.claims)
        self._signed = 0
        self._now = _Trees()
        self._next_leaf = 0
        self._last_offsets: dict[Partition, int] = {}
        self._faults: list[Fault] = []
        #: The blocks since the size of the last checkpoint that agreed, with the trees at their ends.
        self._since: list[tuple[_Hashes, _Trees]] = []
        self._agreed = self._named = 0
        #: Roots by size, as checkpoints told them that agreed.
        self._attested: dict[int, str] = {}
        self._checkpoints = 0
        self._broken = False

    @property
    def size(self) -> int:
        """Return the number of entries taken."""
        return self._now.size

    def take(self, block: Block) -> None:
        """Check the next block."""
        gap = range(self._next_leaf, block.first_leaf)
        if gap:
            self._fault(_leaves(gap.start, gap.stop), f"missing: behind them stand {block.name}")
        elif block.first_leaf < self._next_leaf:
            self._fault(block.name, f"leaf {self._next_leaf} should come here: these are there twice")
        self._next_leaf = block.first_leaf + block.count
        hashes = self._check_block(block)
        self._pass_over(gap, block, hashes)
        published = self._attests.compare(block, hashes.found, hashes.stored)
        self._append(_Hashes(hashes.found, published or hashes.stored))
        if block.topic == CheckpointPublished.TOPIC:
            self._check_checkpoints(block)

    def finish(self, stored: Frontier) -> Verdict:
        """Compare with the stored tree and tell the verdict."""
        roots = [tree.root().hex() for tree in self._now]
        if stored.size > self.size:
            sizes = f"the tree has {stored.size} entries, the archive {self.size}"
            self._fault(_leaves(self.size, stored.size), f"cut off: {sizes}")
        elif stored.size < self.size:
            sizes = f"the tree has {stored.size} entries, the archive {self.size}"
            self._fault(_leaves(stored.size, self.size), f"added, or the tree was set back: {sizes}")
        elif stored.root().hex() not in roots:
            self._fault("the tree", f"its root is {stored.root().hex()}, that of the entries is {roots[0]}")
        for fault in self._attests.finish(self.size):
            self._fault(*fault)
        return Verdict(self.size, roots[0], self._checkpoints, self._signed, tuple(self._faults))

    def _pass_over(self, gap: range, block: Block, hashes: "_Hashes") -> None:
        """Go on behind missing entries by the hashes that were published of them, if the block stands where it says."""
        missing = self._attests.published(gap.start, gap.stop)
        if missing is None:
            return
        here = self._attests.published(block.first_leaf, block.first_leaf + block.count)
        if here is None or here in hashes:
            self._append(_Hashes(missing, missing))

    def _append(self, hashes: "_Hashes") -> None:
        self._now = self._now.append(hashes)
        self._since.append((hashes, self._now))
        self._check_claims()

    def _check_block(self, block: Block) -> "_Hashes":
        """Check the entries of a block and return their leaf hashes, the stored ones when they cannot be read."""
        beside = block.hashes[: min(len(block.hashes) // HASH_BYTES, block.count) * HASH_BYTES]
        try:
            frames = frames_of(block)
        except Damaged as fault:
            self._fault(block.name, f"these entries cannot be read: {fault}")
            return _Hashes(beside, beside)
        hashes = leaf_hashes([entry_of(item) for item in frames])
        entries = [self._read(block, place, data) for place, data in enumerate(frames)]
        stored, found = _stored(block), [_found(*pair) for pair in zip(_cut(hashes, HASH_BYTES), entries, strict=True)]
        if stored != found:
            self._name_differences(block, stored, found)
        self._check_order(block)
        return _Hashes(hashes, beside if len(beside) == len(hashes) else hashes)

    def _read(self, block: Block, place: int, data: bytes) -> Entry | None:
        try:
            return unframe(data)
        except Damaged as fault:
            self._fault(name_of(block, place), f"it cannot be read: {fault}")
            return None

    def _name_differences(self, block: Block, stored: Sequence[_Marks], found: Sequence[_Marks]) -> None:
        for place, (kept, now) in enumerate(zip_longest(stored, found)):
            names = ("hash", "event id", "topic/partition/offset")
            other = [name for name, one, two in zip(names, kept or _NONE, now or _NONE, strict=True) if one != two]
            if other:
                self._fault(
                    name_of(block, place), f"{' and '.join(other)} of its bytes: not what was stored beside them"
                )

    def _check_order(self, block: Block) -> None:
        last = self._last_offsets.get((block.topic, block.part), -1)
        offsets = offsets_of(block)
        if not offsets:
            return  # said already: no entry has a place
        if (block.first_offset, block.last_offset) != (offsets[0], offsets[-1]):
            self._fault(block.name, f"its offsets are {offsets[0]} to {offsets[-1]}")
        for place, (low, high) in enumerate(pairwise((last, *offsets))):
            if low >= high:
                self._fault(name_of(block, place), f"offset {high} comes after offset {low} of its partition")
        self._last_offsets[block.topic, block.part] = offsets[-1]

    def _check_checkpoints(self, block: Block) -> None:
        """Hold the checkpoints of a block against the roots at their sizes; only the first that differs is told."""
        try:
            frames = frames_of(block)
        except Damaged:
            return  # said already
        for place, data in enumerate(frames):
            try:
                fact = _checkpoint(unframe(data))
            except Damaged:
                continue  # said already
            if fact is not None:
                name = name_of(block, place)
                if self._attests.told(name, fact) and not self._broken:
                    self._checkpoints += 1
                    self._compare_roots(name, fact.size, fact.root)

    def _check_claims(self) -> None:
        """Hold what was signed over no more than there is by now against the roots at its sizes."""
        while self._claims and self._claims[0].size <= self.size:
            claim = self._claims.popleft()
            self._compare_roots(claim.where, claim.size, claim.root.hex())
            self._signed = self._signed if self._broken else claim.size

    def _compare_roots(self, name: str, size: int, root: str) -> None:
        if self._broken or self._attested.get(size) == root:
            return  # one that was compared before, written once more
        trees = next((trees for _, trees in self._since if trees.size == size), None)
        agreeing = [tree for tree in trees or () if tree.root().hex() == root]
        if agreeing:
            self._go_on_from(agreeing[0])
            return
        self._broken = True
        where = _leaves(self._agreed, size) if size > self._agreed else name
        have = trees.found.root().hex() if trees else "no block's end there"
        why = "an entry was changed together with its hash" if self._named == len(self._faults) else "see above"
        self._fault(
            where,
            f"the checkpoint at {name} has root {root} over the first {size} entries, they have {have}: "
            f"{why}; no later checkpoint was compared",
        )

    def _go_on_from(self, attested: Frontier) -> None:
        """Take a tree for the archived one up to its size, and append what came after it."""
        later = [(hashes, trees) for hashes, trees in self._since if trees.size > attested.size]
        self._now = _Trees(attested, attested)
        self._since = [(_Hashes(b"", b""), self._now)]
        for hashes, _ in later:
            self._now = self._now.append(hashes)
            self._since.append((hashes, self._now))
        self._agreed, self._named = attested.size, len(self._faults)
        self._attested[attested.size] = attested.root().hex()

    def _fault(self, where: str, what: str) -> None:
        self._faults.append(Fault(where, what))


def _checkpoint(entry: Entry) -> CheckpointPublished | None:
    """Return the checkpoint of an entry; None for what is none, whatever it calls itself: it attests nothing."""
    if header(entry, "ce_type") != CheckpointPublished.TYPE.encode():
        return None
    try:
        fact = CheckpointPublished.model_validate_json(entry.value or b"")
    except ValidationError:
        return None
    return fact if _ROOT.fullmatch(fact.root) else None


class _Hashes(NamedTuple):
    """The leaf hashes of a block."""

    #: Of the entries, as they are now.
    found: bytes
    #: As they are stored beside the entries; or as they were published, where neither is that.
    stored: bytes


class _Trees(NamedTuple):
    """The two trees that these hashes make; one and the same while the hashes are."""

    found: Frontier = Frontier()
    stored: Frontier = Frontier()

    @property
    def size(self) -> int:
        """Return the number of entries."""
        return self.found.size

    def append(self, hashes: _Hashes) -> "_Trees":
        """Return the trees after a block."""
        found = self.found.append(hashes.found)
        same = self.found is self.stored and hashes.found == hashes.stored
        return _Trees(found, found if same else self.stored.append(hashes.stored))


def _stored(block: Block) -> list[_Marks]:
    """Return what the columns say of each entry."""
    places = [(block.topic, block.part, offset) for offset in offsets_of(block)]
    return list(zip_longest(_cut(block.hashes, HASH_BYTES), _cut(block.ids, ID_BYTES), places))


def _cut(data: bytes, width: int) -> list[bytes]:
    return [data[at : at + width] for at in range(0, len(data), width)]


def _found(leaf: bytes, entry: Entry | None) -> _Marks:
    """Return what its bytes say of an entry."""
    if entry is None:
        return leaf, None, None
    return leaf, id_key(header(entry, "ce_id")), (entry.topic, entry.partition, entry.offset)


def _leaves(first: int, end: int) -> str:
    return f"leaf {first}" if end == first + 1 else f"leaves {first} to {end - 1}"
