"""What the entries of a log say, one after the other: which cannot be read, and what they claim of the log itself."""

from collections import Counter
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from mainstem.events.catalogue import BY_TYPE, decode
from mainstem.events.data import ProgressReached, RecordAccepted
from mainstem.events.errors import Undecodable
from mainstem.events.features import RowComputed
from mainstem.events.frames import Damaged, Entry, unframe
from mainstem.events.ledger import CheckpointPublished
from mainstem.events.record import header
from mainstem.events.serving import Predicted, ShadowScored
from mainstem.project.records import UNREADABLE

_SOURCES: Final = "src."
#: Of these there are so many that they are held against their schema where they are read, and here against JSON.
_MANY: Final = frozenset(
    fact.TYPE.encode() for fact in (ProgressReached, RecordAccepted, RowComputed, Predicted, ShadowScored)
)
_KNOWN: Final = frozenset(name.encode() for name in BY_TYPE)


class _Object(msgspec.Struct):
    """Any JSON object."""


_OBJECT: Final = msgspec.json.Decoder(_Object)


class Fault(NamedTuple):
    """Something that is not as it was archived: the leaf, the file or the size, and what is wrong."""

    where: str
    what: str


@dataclass(slots=True)
class Unread:
    """Entries that no reader of this release understands: archived as what they are, and passed over."""

    topic: str
    why: str
    first_leaf: int
    count: int = 0


class Claim(NamedTuple):
    """An entry that tells of a checkpoint."""

    leaf: int
    fact: CheckpointPublished


class Reading:
    """Takes the frames of entries in the order of their leaves.

    Each must be a frame, and its offset higher than the one before it in its partition. What calls itself an event of
    ours and is none, or of a type or version that is not known, is *unread*: that is no fault of the log.
    """

    def __init__(self) -> None:
        self.topics = Counter[str]()
        self.claims: list[Claim] = []
        self.faults: list[Fault] = []
        self._unread: dict[tuple[str, str], Unread] = {}
        self._offsets: dict[tuple[str, int], int] = {}

    @property
    def unread(self) -> list[Unread]:
        """Return what could not be read, by topic and reason."""
        return [self._unread[key] for key in sorted(self._unread)]

    def take(self, leaf: int, frame: bytes) -> None:
        """Read the next frame."""
        try:
            entry = unframe(frame)
        except Damaged as fault:
            self.faults.append(Fault(f"leaf {leaf}", str(fault)))
            return
        topic, partition, offset = entry[:3]
        self.topics[topic] += 1
        last = self._offsets.get((topic, partition), -1)
        if offset <= last:
            self.faults.append(Fault(named(leaf, entry), f"it comes after offset {last} of its partition"))
        self._offsets[topic, partition] = offset
        if why := self._why_unread(leaf, entry):
            self.pass_over(topic, why, leaf)

    def pass_over(self, topic: str, why: str, leaf: int) -> None:
        """Count an entry as unread."""
        self._unread.setdefault((topic, why), Unread(topic, why, leaf)).count += 1

    def _why_unread(self, leaf: int, entry: Entry) -> str | None:
        kind = header(entry, "ce_type")
        if entry.topic.startswith(_SOURCES) and kind not in _MANY:
            return None  # whatever a source says: ingestion judges it
        if kind is None:
            return "no ce_type"
        if kind not in _KNOWN:
            return f"unknown type {printable(kind.decode(errors='replace'))}"
        try:
            if kind in _MANY:
                _OBJECT.decode(entry.value or b"")
            else:
                self._read(leaf, entry)
        except (Undecodable, *UNREADABLE):
            return f"no {kind.decode()}"
        return None

    def _read(self, leaf: int, entry: Entry) -> None:
        fact = decode(entry).fact
        if isinstance(fact, CheckpointPublished) and entry.topic == CheckpointPublished.TOPIC:
            self.claims.append(Claim(leaf, fact))


def named(leaf: int, entry: Entry) -> str:
    """Name an entry by its leaf, its place and its event id."""
    event_id = printable((header(entry, "ce_id") or b"none").decode(errors="replace"))
    return f"leaf {leaf} ({printable(entry.topic)}/{entry.partition}/{entry.offset}, event id {event_id})"


def printable(text: str) -> str:
    """Return a text of somebody else's as it may stand in a report: nothing in it ends a line or moves a cursor."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def name_of(leaf: int, frame: bytes | None) -> str:
    """Name an entry as well as its bytes allow."""
    try:
        return f"leaf {leaf}" if frame is None else named(leaf, unframe(frame))
    except Damaged:
        return f"leaf {leaf}"
