"""All that proves one entry, in one text that is checked offline (https://c2sp.org/tlog-proof)."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from mainstem.ledger.checkpoint import Checkpoint
from mainstem.ledger.hashing import HASH_BYTES
from mainstem.ledger.keys import LogKey, WitnessKey
from mainstem.ledger.note import Note, NoteError, decode, number
from mainstem.ledger.proof import verify_inclusion

_HEAD: Final = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where an entry stands, its audit path, and the signed checkpoint of the tree that holds it."""

    index: int
    path: tuple[bytes, ...]
    checkpoint: Note
    #: Vouched for by nobody.
    extra: bytes | None = None

    def render(self) -> bytes:
        """Return the receipt as it travels."""
        extra = [] if self.extra is None else [f"extra {b64encode(self.extra).decode()}"]
        lines = [_HEAD, *extra, f"index {self.index}", *(b64encode(one).decode() for one in self.path), ""]
        return "".join(f"{line}\n" for line in lines).encode() + self.checkpoint.render()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read what `render` wrote; raises NoteError."""
        above, _, below = data.partition(b"\n\n")
        try:
            head, *lines = above.decode("ascii").split("\n")
        except UnicodeDecodeError as fault:
            raise NoteError("a receipt is ASCII above its checkpoint; this is not") from fault
        more = lines.pop(0).removeprefix("extra ") if lines and lines[0].startswith("extra ") else None
        keyword, _, said = (lines.pop(0) if lines else "").partition(" ")
        index, extra = number(said), None if more is None else decode(more)
        path = tuple(one for one in map(decode, lines) if one is not None and len(one) == HASH_BYTES)
        whole = len(path) == len(lines) and (more is None or extra is not None)
        if head != _HEAD or keyword != "index" or index is None or not whole:
            raise NoteError(f"a receipt reads: {_HEAD}, index, a line for each hash, an empty line, a checkpoint")
        return cls(index, path, Note.parse(below), extra)

    def verify(self, leaf: bytes, log: LogKey, witnesses: Sequence[WitnessKey] = (), needed: int = 0) -> Checkpoint:
        """Return the checkpoint that proves the entry with this leaf hash.

        Raises NoteError unless the checkpoint is the log's, so many of the witnesses cosigned it, and the path leads
        from the entry to its root.
        """
        self.checkpoint.signed_by([log])
        if needed:
            cosigned = self.checkpoint.signed_by(witnesses)
            if len(cosigned) < needed:
                raise NoteError(f"the checkpoint is cosigned by {len(cosigned)} known witnesses, not by {needed}")
        found = Checkpoint.parse(self.checkpoint.text)
        if found.origin != log.name:
            raise NoteError(f"the checkpoint is of {found.origin}, not of {log.name}")
        if not verify_inclusion(leaf, self.index, found.size, self.path, found.root):
            raise NoteError(f"the path does not lead from entry {self.index} to the root at size {found.size}")
        return found
