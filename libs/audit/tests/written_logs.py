"""A log of some thousand entries, as a ledger would have published and exported it."""

from dataclasses import dataclass
from pathlib import Path

from mainstem.audit.copying import Choice, Copy
from mainstem.audit.verification import Keys
from mainstem.events.catalogue import encode
from mainstem.events.envelope import begin
from mainstem.events.frames import Entry, frame
from mainstem.events.ledger import CheckpointPublished
from mainstem.events.registry import VersionApproved
from mainstem.ledger import Frontier, leaf_hashes
from mainstem.ledger.checkpoint import Checkpoint
from mainstem.ledger.entry import entry_of
from mainstem.ledger.keys import Secret
from mainstem.ledger.note import Note
from mainstem.testkit.cosigner import LOG, WITNESS

MAY = 1_367_366_400_000_000
#: Entries of the log; the last bundle is not full.
SIZE = 1_000
#: The leaf that is too long for a bundle.
LONG = 333
KEYS = Keys(LOG.log_key, [WITNESS.witness_key])


def cosigned(size: int, root: bytes, log: Secret = LOG, witness: Secret | None = WITNESS) -> Note:
    """Return a checkpoint, signed and cosigned."""
    text = Checkpoint(log.name, size, root).text()
    signatures = [log.sign(text), *([] if witness is None else [witness.cosign(text, 1_700_000_000 + size)])]
    return Note(text, tuple(signatures))


@dataclass
class Written:
    """A log in memory: the topic and the frame of each entry."""

    topics: list[str]
    frames: list[bytes]

    @property
    def hashes(self) -> bytes:
        """Return the leaf hashes."""
        return leaf_hashes(map(entry_of, self.frames))

    def note(self, size: int | None = None) -> Note:
        """Return the checkpoint over the first entries (default: all)."""
        hashes = self.hashes[: None if size is None else 32 * size]
        tree = Frontier().append(hashes)
        return cosigned(tree.size, tree.root())

    def copy_to(self, folder: Path, note: Note | None = None, choice: Choice | None = None) -> Path:
        """Write a copy and return where."""
        copy = Copy(folder, note or self.note(), choice or Choice(range(len(self.frames))))
        for topic, data in zip(self.topics, self.frames, strict=True):
            copy.take(topic, [data], leaf_hashes([entry_of(data)]))
        copy.finish()
        return folder


def write(size: int = SIZE, mark: str = "", signer: Secret = LOG) -> Written:
    """Return a log: approvals and records of a source, every hundredth entry a checkpoint of all before it.

    `mark` makes it another log, `signer` is who signs those checkpoints.
    """
    written = Written([], [])
    offsets: dict[str, int] = {}
    for leaf in range(size):
        entry = _entry(written, leaf, mark, signer)
        offset = offsets.get(entry.topic, 0)
        offsets[entry.topic] = offset + 1
        written.topics.append(entry.topic)
        written.frames.append(frame(entry._replace(offset=offset)))
    return written


def _entry(before: Written, leaf: int, mark: str, signer: Secret) -> Entry:
    if leaf == LONG:
        return Entry("src.gauge", 0, 0, leaf, None, b"w" * 70_000, ())
    if leaf % 100 == 99:
        tree = Frontier().append(before.hashes)
        note = cosigned(tree.size, tree.root(), signer).render().decode()
        fact = CheckpointPublished(ledger=LOG.name, size=tree.size, root=tree.root().hex(), note=note)
        message = encode(begin(fact, command_id=f"c{leaf}", source="/test", actor="/test", recorded_us=MAY + leaf))
    elif leaf % 3:
        return Entry("src.gauge", 0, 0, leaf, b"k", f'{{"level": {leaf}{mark}}}'.encode(), (("ce_id", b"%d" % leaf),))
    else:
        approved = VersionApproved(model="tide", version=leaf, onnx="sha256:00", approved_by=f"ann{mark}")
        message = encode(begin(approved, command_id=f"a{leaf}", source="/test", actor="ann", recorded_us=MAY + leaf))
    return Entry(message.topic, 0, 0, leaf, message.key, message.value, message.headers)
