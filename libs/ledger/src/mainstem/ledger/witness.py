"""What a log asks of a witness, and what the witness answers (https://c2sp.org/tlog-witness). Pure.

Who keeps the state must judge and store in one step: see `judge`.
"""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from mainstem.ledger.checkpoint import Checkpoint
from mainstem.ledger.hashing import EMPTY_ROOT, HASH_BYTES
from mainstem.ledger.keys import LogKey
from mainstem.ledger.note import Note, NoteError, decode, number
from mainstem.ledger.proof import verify_consistency

#: Hashes of a proof at most.
MOST_HASHES: Final = 63
SIZE_TYPE: Final = "text/x.tlog.size"


@dataclass(frozen=True, slots=True)
class Submission:
    """A checkpoint to be cosigned, and the proof that it extends the one that was cosigned last."""

    old: int
    proof: tuple[bytes, ...]
    checkpoint: Note

    def render(self) -> bytes:
        """Return the body of the request."""
        lines = [f"old {self.old}", *(b64encode(one).decode() for one in self.proof), ""]
        return "".join(f"{line}\n" for line in lines).encode() + self.checkpoint.render()

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read what `render` wrote; raises NoteError."""
        above, _, below = body.partition(b"\n\n")
        try:
            first, *lines = above.decode("ascii").split("\n")
        except UnicodeDecodeError as fault:
            raise NoteError("a submission is ASCII above its checkpoint; this is not") from fault
        if len(lines) > MOST_HASHES:
            raise NoteError(f"a proof has {MOST_HASHES} hashes at most, not {len(lines)}")
        keyword, _, said = first.partition(" ")
        size, hashes = number(said), [decode(line) for line in lines]
        proof = tuple(one for one in hashes if one is not None and len(one) == HASH_BYTES)
        if keyword != "old" or size is None or len(proof) < len(hashes):
            raise NoteError("a submission reads: old size, a line for each hash, an empty line, a checkpoint")
        return cls(size, proof, Note.parse(below))


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a checkpoint is not cosigned, as the status and the body of an answer."""

    status: int
    body: str
    content_type: str = "text/plain; charset=utf-8"


def judge(body: bytes, logs: Mapping[str, LogKey], latest: Mapping[str, Checkpoint]) -> Checkpoint | Refused:
    """Return the checkpoint that may be cosigned, or why none may.

    `logs` has the key of each origin, and `latest` what was cosigned last of it. The checkpoint must be stored as the
    latest of its origin, durably, before it is cosigned, and nothing else be judged by the old one meanwhile.
    """
    try:
        asked = Submission.parse(body)
        new = Checkpoint.parse(asked.checkpoint.text)
    except NoteError as fault:
        return Refused(400, f"{fault}\n")
    if new.origin not in logs:
        return Refused(404, f"{new.origin} is no log that is known here\n")
    try:
        asked.checkpoint.signed_by([logs[new.origin]])
    except NoteError as fault:
        return Refused(403, f"{fault}\n")
    if asked.old > new.size:
        return Refused(400, f"the old size, {asked.old}, is above that of the checkpoint, {new.size}\n")
    known = latest.get(new.origin)
    if asked.old != (known.size if known else 0):
        return Refused(409, f"{known.size if known else 0}\n", SIZE_TYPE)
    return _consistent(asked, known, new)


def _consistent(asked: Submission, known: Checkpoint | None, new: Checkpoint) -> Checkpoint | Refused:
    size, root = (known.size, known.root) if known else (0, EMPTY_ROOT)
    if new.size == 0 and new.root != EMPTY_ROOT:
        return Refused(422, "a tree without entries has the digest of nothing as its root\n")
    if new.size == size and new.root != root:
        return Refused(409, f"another tree of {size} entries is known\n")
    if not verify_consistency(size, root, new.size, new.root, asked.proof):
        return Refused(422, f"the tree of {new.size} entries does not extend the one of {size} that is known\n")
    return new
