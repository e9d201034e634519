"""What was signed, held against the archive: what entries tell of, the rows of checkpoints, and the published log."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from mainstem.audit.entries import Fault
from mainstem.audit.log import Log
from mainstem.audit.verification import Attested as Claim
from mainstem.audit.verification import Keys
from mainstem.events.errors import Rejected
from mainstem.events.ledger import CheckpointPublished
from mainstem.ledger import HASH_BYTES
from mainstem.ledger.checkpoint import Checkpoint
from mainstem.ledger.note import Note, NoteError
from mainstem.ledger.tiles import WIDTH, Edge, Tile
from mainstem.ledger_service.domain import Block, Row, name_of

_PUBLISHED: Final = "the published log"


class Published:
    """The published log as it is when this is made, before the archive is looked at: that may be ahead of it only.

    `newest` is the size of the newest checkpoint that the archive knew before.
    """

    def __init__(self, folder: Path, newest: int) -> None:
        self.log: Log | None = None
        self.faults: list[Fault] = []
        self._tile: tuple[int, bytes | None] = (-1, None)
        try:
            self.log = Log(folder)
        except Rejected as fault:
            if newest:
                self.faults.append(Fault(f"size {newest}", f"its checkpoint is not published any more: {fault}"))
            return
        if self.log.size < newest:
            what = f"{_PUBLISHED} below {folder} has {self.log.size} entries only: it was set back; bring it back"
            self.faults.append(Fault(f"size {newest}", what))

    @property
    def size(self) -> int:
        """Return the number of entries that are published."""
        return self.log.size if self.log else 0

    def hashes(self, first: int, end: int) -> bytes | None:
        """Return the published hashes of the leaves from `first` to before `end`; None where a tile is not there."""
        parts: list[bytes] = []
        for index in range(first // WIDTH, -(-end // WIDTH)):
            if self._tile[0] != index:
                self._tile = (index, self._read(Tile.within(0, index, self.size)))
            if self._tile[1] is None:
                return None
            parts.append(self._tile[1])
        begin = first // WIDTH * WIDTH
        return b"".join(parts)[(first - begin) * HASH_BYTES : (end - begin) * HASH_BYTES]

    def check(self) -> Iterator[Fault]:
        """Hold the tiles against each other and against the checkpoint over them."""
        if self.log is None:
            return
        edge = Edge()
        for index in range(-(-self.size // WIDTH)):
            tile = Tile.within(0, index, self.size)
            hashes = self._read(tile)
            if hashes is None:
                yield Fault(tile.path, f"it is missing in {_PUBLISHED}, or cut off; {_REPAIR}")
                return
            edge, full = edge.append(hashes)
            yield from self._differing(full)
        yield from self._differing(edge.partial())
        if edge.frontier().root() != self.log.checkpoint.root:
            yield Fault(f"size {self.size}", f"the tiles of {_PUBLISHED} do not hash to its checkpoint; {_REPAIR}")

    def _read(self, tile: Tile) -> bytes | None:
        """Return a tile; None when it is not there or has another length."""
        assert self.log is not None  # noqa: S101  # who asks for a tile knows of one
        try:
            data = self.log.tile(tile)
        except OSError:
            return None
        return data if len(data) == tile.width * HASH_BYTES else None

    def _differing(self, tiles: Sequence[tuple[Tile, bytes]]) -> Iterator[Fault]:
        for tile, data in tiles:
            if tile.level and self._read(tile) != data:
                yield Fault(tile.path, f"in {_PUBLISHED} it is not what the tiles below it make; {_REPAIR}")


_REPAIR: Final = "bring it back from a copy"


class Attested:
    """What is known of one archive besides its entries. Without `keys` nothing is."""

    def __init__(self, keys: Keys | None = None, rows: Sequence[Row] = (), published: Published | None = None) -> None:
        self._keys = keys
        self._published = published
        self._rows = {row.size: row for row in rows}
        self._faults: list[Fault] = list(published.faults) if published else []
        self._known: dict[str, Checkpoint] = {}
        #: What the entries told: the names of these by the sizes of their checkpoints.
        self._told: dict[int, str] = {}
        #: Leaves that are not the published ones: the first and the last of a run, and the last one's name.
        self._runs: list[tuple[int, int, str]] = []
        #: Roots that were signed and cosigned, by size; the entries must have them.
        self.claims: list[Claim] = sorted(self._claimed(), key=lambda claim: claim.size)

    def _claimed(self) -> Iterator[Claim]:
        for row in self._rows.values():
            found = self._signed(f"size {row.size}", row.note, row.size, row.root.hex())
            if found:
                yield Claim(f"the row of size {row.size}", found.size, found.root)
        if self._published and self._published.log:
            said, note = self._published.log.checkpoint, self._published.log.note
            if self._signed(f"size {said.size}", note.render().decode(), said.size, said.root.hex()):
                yield Claim(_PUBLISHED, said.size, said.root)

    def _signed(self, where: str, text: str, size: int, root: str) -> Checkpoint | None:
        """Return the checkpoint of a note that says what is said of it; tell when it is another, or not signed."""
        try:
            found = self._known.get(text) or self._verified(text)
        except NoteError as fault:
            self._faults.append(Fault(where, f"its checkpoint is not what was signed: {fault}"))
            return None
        self._known[text] = found
        if (found.size, found.root.hex()) == (size, root):
            return found
        what = f"size {size} and root {root} stand beside a signed checkpoint of size {found.size}, {found.root.hex()}"
        self._faults.append(Fault(where, what))
        return None

    def _verified(self, text: str) -> Checkpoint:
        """Return the checkpoint of a note that the log signed and every witness cosigned; raise NoteError."""
        assert self._keys is not None  # noqa: S101  # without keys nothing is asked
        note = Note.parse(text.encode())
        note.signed_by([self._keys.log])
        for key in self._keys.witnesses:
            note.signed_by([key])
        found = Checkpoint.parse(note.text)
        if found.origin != self._keys.log.name:
            raise NoteError(f"it is of the log {found.origin}, not of {self._keys.log.name}")
        return found

    def told(self, name: str, fact: CheckpointPublished) -> bool:
        """Tell whether an entry tells of a checkpoint as it was signed; none need be before the first one that was.

        One that does not attests nothing, and is no fault of the archive: whoever may write to the topic can say so.
        """
        if self._keys is None:
            return True
        if fact.note is None:
            return not self._told
        try:
            found = self._known.get(fact.note) or self._verified(fact.note)
        except NoteError:
            return False
        self._known[fact.note] = found
        if (found.size, found.root.hex()) != (fact.size, fact.root):
            return False
        self._told[fact.size] = name
        return True

    def published(self, first: int, end: int) -> bytes | None:
        """Return the published hashes of the leaves from `first` to before `end`; None unless all are published."""
        if self._published is None or not 0 <= first < end <= self._published.size:
            return None
        return self._published.hashes(first, end)

    def compare(self, block: Block, found: bytes, stored: bytes) -> bytes | None:
        """Note which leaves of a block are not the published ones, in neither of their two hashes.

        Return the hashes that the block should have if there are such leaves, and all of its leaves are published.
        """
        first = block.first_leaf
        end = min(first + block.count, self._published.size if self._published else 0)
        wanted = self.published(first, end)
        if wanted is None or found.startswith(wanted):
            return None
        before = len(self._runs), self._runs[-1:]
        for place in range(end - first):
            at = slice(place * HASH_BYTES, (place + 1) * HASH_BYTES)
            if wanted[at] not in (found[at], stored[at]):
                self._note(first + place, name_of(block, place))
        changed = before != (len(self._runs), self._runs[-1:])
        return wanted if changed and len(wanted) == len(found) else None

    def _note(self, leaf: int, name: str) -> None:
        if self._runs and self._runs[-1][1] == leaf - 1:
            self._runs[-1] = (self._runs[-1][0], leaf, name)
        else:
            self._runs.append((leaf, leaf, name))

    def finish(self, size: int) -> list[Fault]:
        """Return all that is wrong with an archive of so many entries."""
        for first, last, name in self._runs:
            where = name if first == last else f"leaves {first} to {last}"
            self._faults.append(
                Fault(where, "not what was published: changed with its hash, left out, put in or moved")
            )
        for claim in self.claims:
            if claim.size > size:
                what = f"{claim.where} is signed over {claim.size} entries, the archive has {size}: some were cut off"
                self._faults.append(Fault(f"size {claim.size}", what))
        self._faults += self._unpaired()
        return [*self._faults, *(self._published.check() if self._published else ())]

    def _unpaired(self) -> Iterator[Fault]:
        """Tell of entries without a row, and of rows without an entry though a later one has one."""
        for size in sorted(self._told.keys() - self._rows.keys()):
            yield Fault(f"size {size}", f"{self._told[size]} tells of its checkpoint, and the row of that is gone")
        for size in sorted(self._rows.keys() - self._told.keys()):
            if size < max(self._told, default=0):
                yield Fault(
                    f"size {size}", "its checkpoint has a row, and no entry tells of it as others do of later ones"
                )
