"""What a log says of itself: its origin, and the size and root of its tree (https://c2sp.org/tlog-checkpoint)."""

import re
from base64 import b64encode
from dataclasses import dataclass
from typing import Final, Self

from mainstem.ledger.hashing import HASH_BYTES
from mainstem.ledger.note import NoteError, decode

_SIZE: Final = re.compile("0|[1-9][0-9]{0,19}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The tree of a log at one size. Raises NoteError when origin, size and root can be none of a tree."""

    origin: str
    size: int
    root: bytes
    #: Lines that others may add; ours has none.
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.origin or any("\n" in line or not line for line in (self.origin, *self.extensions)):
            raise NoteError("the origin and the extensions of a checkpoint are lines that are not empty")
        if not 0 <= self.size < 2**63 or len(self.root) != HASH_BYTES:
            raise NoteError(f"a tree has 0 to 2^63 - 1 entries and a root of {HASH_BYTES} bytes; {self.size} given")

    def text(self) -> str:
        """Return the text that is signed."""
        lines = (self.origin, str(self.size), b64encode(self.root).decode(), *self.extensions)
        return "".join(f"{line}\n" for line in lines)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `text` gave; raises NoteError."""
        origin, size, root, *extensions = [*text.removesuffix("\n").split("\n"), "", ""][: max(3, text.count("\n"))]
        data = decode(root)
        if not text.endswith("\n") or not _SIZE.fullmatch(size) or data is None:
            raise NoteError("a checkpoint reads: origin, size and base64 of the root, each on a line")
        return cls(origin, int(size), data, tuple(extensions))
