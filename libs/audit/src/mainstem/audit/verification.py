"""Holding a copy of a log against what its checkpoint promises: signatures, hashes, entries, and what they say of it.

Nothing stops at the first fault: each is told with the leaf, the file or the size that it is about.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain, combinations, groupby
from pathlib import Path
from typing import Final, NamedTuple

from mainstem.audit.entries import Fault, Reading, Unread, name_of
from mainstem.audit.log import CHECKPOINT, MOST_MISSING, Log, frame_of
from mainstem.events.frames import Damaged
from mainstem.events.ledger import CheckpointPublished
from mainstem.ledger import HASH_BYTES, Tree, leaf_hash, leaf_hashes
from mainstem.ledger.checkpoint import Checkpoint
from mainstem.ledger.entry import stands_for
from mainstem.ledger.keys import LogKey, WitnessKey
from mainstem.ledger.note import Note, NoteError
from mainstem.ledger.tiles import WIDTH, Edge, Tile, bundle

#: Of so many leaves of a bundle each may have a wrong hash or a wrong entry; of more all have the one or the other.
_MOST_TRIED: Final = 8
_KEPT: Final = "the checkpoint kept from before"

#: Told how many leaves were just checked.
Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Keys:
    """The public keys that an auditor was given, not those that lie in a copy."""

    log: LogKey
    #: Each of them must have cosigned.
    witnesses: Sequence[WitnessKey]


@dataclass(frozen=True, slots=True)
class Report:
    """What was found. The log holds when there are no faults; what is unread is none."""

    origin: str
    size: int
    root: str
    #: Names of the witnesses that cosigned the checkpoint.
    cosigned: Sequence[str]
    entries: int
    withheld: int
    #: Signed checkpoints among the entries, each held against the tree at its size.
    checkpoints: int
    topics: Mapping[str, int]
    unread: Sequence[Unread]
    faults: Sequence[Fault]

    @property
    def holds(self) -> bool:
        """Whether all that is there is as it was archived."""
        return not self.faults


class Attested(NamedTuple):
    """A root that was signed: where it is said, over how many entries."""

    where: str
    size: int
    root: bytes


class Verification:
    """One verification of a copy.

    A copy that is a `part` may withhold entries; else a missing one is a fault.
    """

    def __init__(self, log: Log, keys: Keys, *, part: bool = False) -> None:
        self._log = log
        self._keys = keys
        self._part = part
        self._faults: list[Fault] = []
        self._reading = Reading()
        self._read = 0
        #: The hashes of the leaves as the tiles have them.
        self._hashes = bytearray()
        #: Leaves whose entry has another hash than that: the entry and its hash.
        self._differing: dict[int, tuple[bytes, bytes]] = {}
        #: Digests of the frames that stubs stand for.
        self._frames: set[bytes] = set()

    def run(self, since: Note | None = None, advance: Advance = lambda _: None) -> Report:
        """Check everything that there is. `since` is a checkpoint that the auditor kept: the log must extend it."""
        cosigned = self._check_signatures(self._log.note, CHECKPOINT)
        kept = [] if since is None else self._kept(since)
        self._check_leaves(advance)
        self._check_strays()
        self._check_artifacts()
        claims = list(self._claims())
        self._check_roots([*kept, *claims])
        return Report(
            origin=self._log.checkpoint.origin,
            size=self._log.size,
            root=self._log.checkpoint.root.hex(),
            cosigned=cosigned,
            entries=self._read,
            withheld=self._log.size - self._read,
            checkpoints=len(claims),
            topics=dict(sorted(self._reading.topics.items())),
            unread=self._reading.unread,
            faults=[*self._faults, *self._reading.faults],
        )

    def _fault(self, where: str, what: str) -> None:
        self._faults.append(Fault(where, what))

    # -- signatures --

    def _check_signatures(self, note: Note, where: str) -> list[str]:
        """Check that a checkpoint is the log's and that every witness cosigned it; return those that did."""
        cosigned: list[str] = []
        try:
            note.signed_by([self._keys.log])
        except NoteError as fault:
            self._fault(where, str(fault))
        for key in self._keys.witnesses:
            try:
                note.signed_by([key])
                cosigned.append(key.name)
            except NoteError as fault:
                self._fault(where, f"no witness vouches for it: {fault}")
        if (origin := note.text.split("\n", 1)[0]) != self._keys.log.name:
            self._fault(where, f"it is of the log {origin}, not of {self._keys.log.name}")
        return cosigned

    def _kept(self, note: Note) -> list[Attested]:
        """Check the checkpoint that the auditor kept, and return what it attests of the log at hand."""
        self._check_signatures(note, _KEPT)
        kept = Checkpoint.parse(note.text)
        if kept.size > self._log.size:
            what = f"{_KEPT} has {kept.size} entries: this log is an older one, or was cut off"
            self._fault(f"size {self._log.size}", what)
            return []
        return [Attested(_KEPT, kept.size, kept.root)]

    def _claims(self) -> Iterable[Attested]:
        """Yield what the checkpoints among the entries attest; what the log did not sign attests nothing."""
        for leaf, fact in self._reading.claims:
            try:
                note = Note.parse((fact.note or "").encode())
                note.signed_by([self._keys.log])
                said = Checkpoint.parse(note.text)
            except NoteError:
                self._reading.pass_over(CheckpointPublished.TOPIC, "no checkpoint that the log signed", leaf)
                continue
            if said.size > leaf or (said.size, said.root.hex()) != (fact.size, fact.root):
                self._reading.pass_over(CheckpointPublished.TOPIC, "another checkpoint than its note", leaf)
            else:
                yield Attested(f"the checkpoint that leaf {leaf} tells of", said.size, said.root)

    # -- leaves --

    def _check_leaves(self, advance: Advance) -> None:
        edge, needed = Edge(), -(-self._log.size // WIDTH)
        count, behind = self._log.leaf_tiles()
        there = min(needed, behind, count + MOST_MISSING)
        if there < needed:
            what = (
                f"there are tiles for {there * WIDTH} entries at most, none for the others that its checkpoint tells of"
            )
            self._fault(f"size {self._log.size}", what)
        for index in range(there):
            hashes, entries = self._stored(index), self._entries(index)
            self._compare(index * WIDTH, hashes, entries)
            self._hashes += hashes
            edge, tiles = edge.append(hashes)
            self._check_tiles(tiles)
            self._read_all(index * WIDTH, entries)
            advance(len(hashes) // HASH_BYTES)
        self._check_tiles(edge.partial())

    def _stored(self, index: int) -> bytes:
        """Return the hashes of a bundle's entries from their tile; zeros when it cannot be read."""
        tile = Tile.within(0, index, self._log.size)
        wanted = tile.width * HASH_BYTES
        try:
            hashes = self._log.tile(tile)
        except OSError:
            self._fault(tile.path, f"it is missing: the hashes of leaves {_leaves(tile)}")
            return bytes(wanted)
        if len(hashes) != wanted:
            self._fault(tile.path, f"it has {len(hashes)} bytes, not {wanted}: the hashes of leaves {_leaves(tile)}")
            return bytes(wanted)
        return hashes

    def _entries(self, index: int) -> Mapping[int, bytes]:
        """Return the entries of a bundle by their places; tell when there are others than there should be."""
        width = Tile.within(0, index, self._log.size).width
        path, first = bundle(index, width).path, index * WIDTH
        try:
            entries = self._log.bundle(index)
        except Damaged as fault:
            self._fault(f"leaves {first} to {first + width - 1}", str(fault))
            return {}
        if max(entries, default=-1) >= width:
            self._fault(path, f"it holds {len(entries)} entries up to place {max(entries)}, not {width}")
        elif len(entries) < width and not self._part:
            where = next(place for place in range(width) if place not in entries)
            self._fault(f"leaf {first + where}", f"{path} holds {len(entries)} entries, not {width}")
        return {place: entry for place, entry in entries.items() if place < width}

    def _compare(self, first: int, hashes: bytes, entries: Mapping[int, bytes]) -> None:
        """Note the entries that have other hashes than those stored; where some are missing, the first of them."""
        self._read += len(entries)
        whole = len(entries) * HASH_BYTES == len(hashes)
        if whole and leaf_hashes(entries.values()) == hashes:
            return
        for place, entry in entries.items():
            found = leaf_hash(entry)
            if found != hashes[place * HASH_BYTES : (place + 1) * HASH_BYTES]:
                self._differing[first + place] = (entry, found)
                if not (whole or self._part):
                    return

    def _check_tiles(self, tiles: Iterable[tuple[Tile, bytes]]) -> None:
        """Hold the tiles above the leaves against what those below them hash to."""
        for tile, data in tiles:
            if tile.level == 0:
                continue
            try:
                stored = self._log.tile(tile)
                if stored != data:
                    below = _leaves(tile) if len(stored) != len(data) else _differing(tile, stored, data)
                    self._fault(tile.path, f"it is not what the hashes below it make, those of leaves {below}")
            except OSError:
                self._fault(tile.path, f"it is missing: what the hashes of leaves {_leaves(tile)} make")

    def _read_all(self, first: int, entries: Mapping[int, bytes]) -> None:
        for place, entry in entries.items():
            stub = stands_for(entry)
            if stub is not None:
                self._frames.add(stub[1])
            try:
                frame = self._log.frame(entry)
            except Damaged as fault:
                self._fault(f"leaf {first + place}", str(fault))
                continue
            self._reading.take(first + place, frame)

    def _check_strays(self) -> None:
        """Tell of what lies where tiles, bundles and frames do and is none of this tree."""
        frames = {frame_of(digest) for digest in self._frames}
        for folder in ("tile", "part", "frame"):
            for file in sorted(self._log.folder.glob(f"{folder}/**/*")):
                path = file.relative_to(self._log.folder).as_posix()
                if not file.is_dir() and path not in frames and not self._is_ours(path):
                    self._fault(
                        path, f"it is nothing of a tree of {self._log.size} entries: nobody signed what it holds"
                    )

    def _check_artifacts(self) -> None:
        """Tell of artifacts of the copy whose bytes are not those of their name, or that nobody finds by it."""
        for file in sorted(self._log.folder.glob("artifact/**/*")):
            if file.is_dir():
                continue
            path = file.relative_to(self._log.folder).as_posix()
            if path != f"artifact/{file.name[:2]}/{file.name}":
                self._fault(path, "it is no artifact: one stands below the first two digits of its SHA-256")
            elif not file.is_file() or sha256(file.read_bytes()).hexdigest() != file.name:
                self._fault(path, "its bytes are not those of its name, the SHA-256 that entries know it by")

    def _is_ours(self, path: str) -> bool:
        """Tell whether a tile or a bundle of the tree stands at a path, or a part of a bundle that is not there."""
        of_bundle = path.replace("part/", "tile/entries/", 1)
        try:
            tile = Tile.parse(of_bundle)
            wanted = Tile.within(tile.level, tile.index, self._log.size)
        except ValueError:
            return False
        return tile == wanted and (path == of_bundle or not (self._log.folder / of_bundle).exists())

    # -- roots --

    def _check_roots(self, attested: Sequence[Attested]) -> None:
        """Hold the tree against every root that was signed, and tell which of entry and hash is the archived one."""
        signed = Attested(CHECKPOINT, self._log.size, self._log.checkpoint.root)
        stored = Tree(bytes(self._hashes))
        if stored.size < signed.size:
            return  # said already: most of it is not there
        claims, changed = [*attested, signed], frozenset(self._differing)
        if stored.root() != signed.root and self._differing:
            found, by_bundle = self._with(changed), self._with(wrong := self._wrong_hashes())
            best = max(_agreement(claims, tree) for tree in (found, by_bundle, stored))
            if _agreement(claims, found) == best:
                stored, changed = found, frozenset[int]()
            elif _agreement(claims, by_bundle) == best:
                stored, changed = by_bundle, changed - wrong
        for leaf, (entry, _) in self._differing.items():
            hash_only = "its hash in the tile is another than that of its bytes, which were archived"
            what = "its bytes are not the ones that were archived" if leaf in changed else hash_only
            self._fault(name_of(leaf, entry), what)
        self._narrow(stored, sorted(claims, key=lambda one: one.size))

    def _with(self, leaves: Iterable[int]) -> Tree:
        """Return the tree with the hashes that the entries of some leaves have, in the place of those in the tiles."""
        hashes = bytearray(self._hashes)
        for leaf in leaves:
            hashes[leaf * HASH_BYTES : (leaf + 1) * HASH_BYTES] = self._differing[leaf][1]
        return Tree(bytes(hashes))

    def _wrong_hashes(self) -> frozenset[int]:
        """Return the leaves whose entry has the hash that the tile above wants, bundle by bundle."""
        wrong: set[int] = set()
        for index, leaves in groupby(sorted(self._differing), key=lambda leaf: leaf // WIDTH):
            above, there = self._above(index), list(leaves)
            sizes = range(1 if len(there) <= _MOST_TRIED else len(there), len(there) + 1)
            tries = chain.from_iterable(combinations(there, size) for size in sizes)
            wrong.update(next((tried for tried in tries if self._bundle_root(index, tried) == above), ()))
        return frozenset(wrong)

    def _above(self, index: int) -> bytes | None:
        """Return the root of a bundle as the tile above has it; None where there is none."""
        at = index % WIDTH * HASH_BYTES
        try:
            return self._log.tile(Tile.within(1, index // WIDTH, self._log.size))[at : at + HASH_BYTES]
        except (OSError, ValueError):
            return None

    def _bundle_root(self, index: int, leaves: Iterable[int]) -> bytes:
        """Return the root of a bundle with the hashes that the entries of some of its leaves have."""
        first = index * WIDTH
        hashes = bytearray(self._hashes[first * HASH_BYTES : (first + WIDTH) * HASH_BYTES])
        for leaf in leaves:
            hashes[(leaf - first) * HASH_BYTES : (leaf - first + 1) * HASH_BYTES] = self._differing[leaf][1]
        return Tree(bytes(hashes)).root()

    def _narrow(self, tree: Tree, attested: Sequence[Attested]) -> None:
        """Tell between which sizes the log stops being the one that was signed."""
        agreed = 0
        for one in attested:
            if tree.root(one.size) == one.root:
                agreed = one.size
                continue
            if one.where == _KEPT:
                agreed = 0  # what agrees before it may have been signed for this other history
            self._fault(
                f"leaves {agreed} to {one.size - 1}" if agreed < one.size else f"size {one.size}",
                f"{one.where} has root {one.root.hex()} over the first {one.size} entries, they have "
                f"{tree.root(one.size).hex()}: here an entry was changed with its hash, left out, put in or moved",
            )
            return


def _agreement(attested: Sequence[Attested], tree: Tree) -> int:
    """Return the largest size up to which a tree has every root that was signed."""
    agreed = 0
    for one in sorted(attested, key=lambda each: each.size):
        if tree.root(one.size) != one.root:
            break
        agreed = one.size
    return agreed


def _leaves(tile: Tile) -> str:
    """Return which leaves lie below a tile."""
    below = 1 << (8 * tile.level)
    first = tile.index * WIDTH * below
    return f"{first} to {first + tile.width * below - 1}"


def _differing(tile: Tile, stored: bytes, found: bytes) -> str:
    """Return which leaves lie below the first hash of a tile that is another, and how many more are."""
    places = [
        at // HASH_BYTES
        for at in range(0, len(found), HASH_BYTES)
        if stored[at : at + HASH_BYTES] != found[at : at + HASH_BYTES]
    ]
    below = 1 << (8 * tile.level)
    first = (tile.index * WIDTH + places[0]) * below
    more = f", and {len(places) - 1} hashes more" if len(places) > 1 else ""
    return f"{first} to {first + below - 1}{more}"


def read_note(file: Path) -> Note:
    """Return the signed checkpoint in a file; raise NoteError or OSError."""
    note = Note.parse(file.read_bytes())
    Checkpoint.parse(note.text)
    return note
