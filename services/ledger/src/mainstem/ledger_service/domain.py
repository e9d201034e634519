"""Entries and blocks: which leaf an entry is, and what one block holds. Pure.

An entry is one record as its frame (`mainstem.events.frames`); its leaf is the RFC 6962 hash of that, or of
the stub of a long one (`mainstem.ledger.entry`).

A block holds neighbouring entries of one partition:

    offsets  i64 little-endian, one an entry
    ids      16 bytes an entry, see `id_key`
    hashes   32 bytes an entry: the leaf hashes
    frames   Zstandard of the frames, each behind its length (u32); empty once they are sealed (ADR 18)
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from struct import Struct, error, pack, unpack_from
from typing import Final, NamedTuple

import cramjam

from mainstem.events.frames import Damaged, Entry, frame, parts, unframe
from mainstem.events.instant_columns import parse_all
from mainstem.events.instants import NEVER, render
from mainstem.events.ledger import CheckpointPublished, ReceiptIssued
from mainstem.events.record import Record
from mainstem.events.topics import TOPICS
from mainstem.ledger import Frontier, leaf_hashes
from mainstem.ledger.entry import entry_of

Partition = tuple[str, int]

#: Entries of a block at most, so that one fault stays local.
BLOCK_ENTRIES: Final = 1_000
ID_BYTES: Final = 16
OFFSET_BYTES: Final = 8
NO_ID: Final = bytes(ID_BYTES)

_LEVEL: Final = 1
#: Begins what stands in the place of frames that cannot be had; no Zstandard begins so.
_UNREADABLE: Final = b"\0"
_LENGTH: Final = Struct(">I")


class Placed(NamedTuple):
    """An entry and where it stands in the tree."""

    leaf: int
    entry: Entry


class Row(NamedTuple):
    """A checkpoint as it was kept when it was published."""

    size: int
    root: bytes
    note: str


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring entries of one partition, as they are stored."""

    first_leaf: int
    count: int
    topic: str
    part: int
    first_offset: int
    last_offset: int
    offsets: bytes
    ids: bytes
    hashes: bytes
    frames: bytes

    @property
    def name(self) -> str:
        """Say where the block stands."""
        last = self.first_leaf + self.count - 1
        offsets = f"{self.first_offset} to {self.last_offset}"
        return f"leaves {self.first_leaf} to {last} ({self.topic}/{self.part}, offsets {offsets})"


def id_key(event_id: bytes | None) -> bytes:
    """Return the 16 bytes by which an event is found: its id where that is 32 hexadecimal digits, else a digest of it.

    An entry without an id has sixteen zeros.
    """
    if not event_id:
        return NO_ID
    if len(event_id) == 2 * ID_BYTES:
        try:
            return bytes.fromhex(event_id.decode("ascii"))
        except ValueError:
            pass
    return blake2b(event_id, digest_size=ID_BYTES).digest()


def cut(records: Sequence[Record], ids: Sequence[bytes | None], first_leaf: int) -> list[Block]:
    """Return the blocks of the records, partition by partition, the first leaf of the first being `first_leaf`.

    Records of one partition keep their order. `ids` are the records' event ids.
    """
    places: dict[Partition, list[int]] = {}
    for row, record in enumerate(records):
        places.setdefault(_place(record), []).append(row)
    blocks: list[Block] = []
    for rows in places.values():
        for at in range(0, len(rows), BLOCK_ENTRIES):
            chosen = rows[at : at + BLOCK_ENTRIES]
            blocks.append(_block([records[i] for i in chosen], [ids[i] for i in chosen], first_leaf))
            first_leaf += len(chosen)
    return blocks


def _block(records: Sequence[Record], ids: Sequence[bytes | None], first_leaf: int) -> Block:
    frames = [frame(record) for record in records]
    count = len(records)
    return Block(
        first_leaf=first_leaf,
        count=count,
        topic=records[0].topic,
        part=records[0].partition,
        first_offset=records[0].offset,
        last_offset=records[-1].offset,
        offsets=pack(f"<{count}q", *[record.offset for record in records]),
        ids=b"".join(map(id_key, ids)),
        hashes=leaf_hashes([entry_of(item) for item in frames]),
        frames=pack_frames(frames),
    )


def pack_frames(frames: Sequence[bytes]) -> bytes:
    """Return frames as a block holds them."""
    prefixed = [part for item in frames for part in (_LENGTH.pack(len(item)), item)]
    return bytes(cramjam.zstd.compress(b"".join(prefixed), level=_LEVEL))


def frames_of(block: Block) -> list[bytes]:
    """Return the frames of a block; raise Damaged, naming the block, when they cannot be read."""
    if block.frames.startswith(_UNREADABLE):
        why = block.frames.removeprefix(_UNREADABLE).decode()
        raise Damaged(f"{block.name}: its entries are not in the database, and cannot be read elsewhere: {why}")
    try:
        frames = list(parts(bytes(cramjam.zstd.decompress(block.frames))))
    except (cramjam.DecompressionError, ValueError, error) as fault:
        raise Damaged(f"{block.name}: its entries cannot be read: {fault}") from fault
    if len(frames) != block.count:
        raise Damaged(f"{block.name}: it holds {len(frames)} entries")
    return frames


def without_entries(block: Block, why: str) -> Block:
    """Return a block whose sealed entries cannot be read, for this reason."""
    return replace(block, frames=_UNREADABLE + why.encode())


def entries_of(block: Block) -> list[Entry]:
    """Return the entries of a block in order; raise Damaged when one cannot be read."""
    return [unframe(item) for item in frames_of(block)]


def placed(block: Block, place: int) -> Placed:
    """Return one entry of a block; raise Damaged when it cannot be read."""
    return Placed(block.first_leaf + place, unframe(frames_of(block)[place]))


def id_places(block: Block, key: bytes) -> list[int]:
    """Return the places in the block of entries whose `id_key` begins with `key`."""
    ids = block.ids
    return [at // ID_BYTES for at in range(0, len(ids), ID_BYTES) if ids.startswith(key, at)]


def offsets_of(block: Block) -> tuple[int, ...]:
    """Return the stored offsets of the entries."""
    return unpack_from(f"<{len(block.offsets) // OFFSET_BYTES}q", block.offsets)


def name_of(block: Block, place: int) -> str:
    """Name an entry by what the columns say: its bytes may be the ones that were changed."""
    offsets = offsets_of(block)
    offset = offsets[place] if place < len(offsets) else "?"
    event_id = block.ids[place * ID_BYTES : (place + 1) * ID_BYTES].hex()
    return f"leaf {block.first_leaf + place} ({block.topic}/{block.part}/{offset}, event id {event_id})"


#: What the ledger itself says of its tree: nothing that asks for another checkpoint.
_OWN: Final = (CheckpointPublished.TOPIC, ReceiptIssued.TOPIC)
#: The topics of whose entries it issues receipts.
WITH_RECEIPTS: Final = tuple(topic.pattern for topic in TOPICS if topic.receipts)


@dataclass(frozen=True, slots=True)
class State:
    """The tree, and what the next checkpoint needs to know."""

    frontier: Frontier
    #: The highest recorded time of an entry of ours, RFC 3339; None before the first.
    recorded: str | None = None
    #: Entries since the last checkpoint, but for those by which the ledger told of it.
    unpublished: int = 0

    def after(self, blocks: Sequence[Block], recorded: str | None) -> "State":
        """Return the state after these blocks; `recorded` is the highest recorded time among their entries."""
        added = sum(block.count for block in blocks if block.topic not in _OWN)
        return State(
            self.frontier.append(b"".join(block.hashes for block in blocks)),
            max(filter(None, (self.recorded, recorded)), default=None),
            self.unpublished + added,
        )


def last_recorded(records: Sequence[Record], headers: Sequence[Mapping[str, bytes]]) -> str | None:
    """Return the highest recorded time that a service of ours wrote; sources may write what they like."""
    ours = [
        found["ce_recordedtime"]
        for record, found in zip(records, headers, strict=True)
        if "ce_recordedtime" in found and not record.topic.startswith("src.")
    ]
    latest = int(parse_all(ours).max(initial=NEVER))
    return None if latest == NEVER else render(latest)


def second_copies(
    records: Sequence[Record], fresh: Sequence[Record], before: Mapping[Partition, int]
) -> Counter[Partition]:
    """Count by partition the records that lie ahead of `before`, the next offsets, and were not let in."""
    if len(fresh) == len(records):
        return Counter()
    ahead = (_place(record) for record in records if record.offset >= before.get(_place(record), 0))
    return Counter(ahead) - Counter(map(_place, fresh))


def _place(record: Record) -> Partition:
    return record.topic, record.partition


def belongs(topic: str) -> bool:
    """Tell whether a topic is one of the catalogue's, or of a family of its."""
    return any(_matches(topic, row.pattern) for row in TOPICS)


def _matches(topic: str, pattern: str) -> bool:
    prefix, family, _ = pattern.partition("{")
    return topic.startswith(prefix) and len(topic) > len(prefix) if family else topic == pattern
