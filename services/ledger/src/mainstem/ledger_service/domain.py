"""Entries and blocks: how a record becomes bytes, how bytes become a record again, and what one block holds. Pure.

An entry is one record in one fixed layout, its *frame*. All numbers are big-endian:

    u8   version of the layout, 1
    u32  length of the topic          topic, UTF-8
    u32  partition
    i64  offset
    i64  time of the broker, ms since 1970
    i32  length of the key            -1: no key
    i32  length of the value          -1: no value, a tombstone
    u32  length of the names          names of the headers in order, each a u32 length and UTF-8
    i32  length of each header value, in the order of the names; -1: no value
         key, header values, value

Equal records have equal frames, and every byte of a record is in its frame, so the hash of an entry (RFC 6962 leaf
hash of its frame, or of the stub of a long one: `mainstem.ledger.entry`) commits to the record as it was read.

A block holds neighbouring entries of one partition:

    offsets  i64 little-endian, one an entry
    ids      16 bytes an entry, see `id_key`
    hashes   32 bytes an entry: the leaf hashes
    frames   Zstandard of the frames, each behind its length (u32)
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import accumulate, pairwise
from struct import Struct, error, pack, unpack_from
from typing import Final, NamedTuple

import cramjam

from mainstem.events.catalogue import Record
from mainstem.events.envelope import Headers
from mainstem.events.errors import MainstemError
from mainstem.events.instants import NEVER, parse_all, render
from mainstem.events.ledger import CheckpointPublished
from mainstem.events.topics import TOPICS
from mainstem.ledger import Frontier, leaf_hashes
from mainstem.ledger.entry import entry_of

Partition = tuple[str, int]

#: Entries of a block at most, so that one fault stays local.
BLOCK_ENTRIES: Final = 1_000
ID_BYTES: Final = 16
OFFSET_BYTES: Final = 8
NO_ID: Final = bytes(ID_BYTES)

_VERSION: Final = 1
_LEVEL: Final = 1
_LENGTH: Final = Struct(">I")
_HEAD: Final = Struct(">BI")
_BODY: Final = Struct(">IqqiiI")


class Damaged(MainstemError):
    """Bytes that are no frame or block of ours, or not the ones that were stored."""


class Entry(NamedTuple):
    """A record as the ledger gives it back; see `mainstem.events.catalogue.Record`."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Placed(NamedTuple):
    """An entry and where it stands in the tree."""

    leaf: int
    entry: Entry


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


def frame(record: Record) -> bytes:
    """Return the one frame of a record."""
    names: tuple[str, ...] = ()
    values: tuple[bytes | None, ...] = ()
    if record.headers:
        names, values = zip(*record.headers)  # noqa: B905  (`strict` costs half as much again)
    start, named, pack_middle = _start(record.topic), *_layout(names)
    key, value = record.key, record.value
    sizes = -1 if key is None else len(key), -1 if value is None else len(value)
    try:
        lengths = [*map(len, values)]  # type: ignore[arg-type]
    except TypeError:
        lengths = [-1 if item is None else len(item) for item in values]
        values = tuple(item or b"" for item in values)
    middle = pack_middle(record.partition, record.offset, record.timestamp, *sizes, len(named), named, *lengths)
    return b"".join((start, middle, key or b"", *values, value or b""))  # type: ignore[arg-type]


@lru_cache(maxsize=1024)
def _start(topic: str) -> bytes:
    raw = topic.encode()
    return _HEAD.pack(_VERSION, len(raw)) + raw


@lru_cache(maxsize=1024)
def _layout(names: tuple[str, ...]) -> tuple[bytes, Callable[..., bytes]]:
    """Return the names as they stand in a frame, and what packs everything from the partition to the lengths."""
    raw = [name.encode() for name in names]
    named = b"".join(_LENGTH.pack(len(name)) + name for name in raw)
    return named, Struct(f"{_BODY.format}{len(named)}s{len(names)}i").pack


def unframe(data: bytes) -> Entry:
    """Return the record of a frame; raise Damaged when these bytes are no frame."""
    try:
        version, size = _HEAD.unpack_from(data)
        at = _HEAD.size + size
        partition, offset, timestamp, key, value, names_size = _BODY.unpack_from(data, at)
        topic = data[_HEAD.size : at].decode()
        at += _BODY.size
        names, sizes = _read_names(data[at : at + names_size])
        lengths = (key, *sizes.unpack_from(data, at + names_size), value)
    except (error, ValueError) as fault:
        raise Damaged(f"{len(data)} bytes are no frame: {fault!r}") from fault
    at += names_size + sizes.size
    if version != _VERSION or at + sum(lengths) + lengths.count(-1) != len(data):
        raise Damaged(f"{len(data)} bytes are no frame of layout {_VERSION}")
    parts = _slices(data, at, lengths)
    headers = tuple(zip(names, parts[1:-1]))  # noqa: B905  (as many by construction)
    return Entry(topic, partition, offset, timestamp, parts[0], parts[-1], headers)  # type: ignore[arg-type]


def _slices(data: bytes, at: int, lengths: Sequence[int]) -> list[bytes | None]:
    if min(lengths) >= 0:
        return [data[low:high] for low, high in pairwise(accumulate(lengths, initial=at))]
    parts: list[bytes | None] = []
    for length in lengths:
        parts.append(None if length < 0 else data[at : at + length])
        at += max(0, length)
    return parts


@lru_cache(maxsize=1024)
def _read_names(data: bytes) -> tuple[tuple[str, ...], Struct]:
    names = tuple(raw.decode() for raw in _parts(data))
    return names, Struct(f">{len(names)}i")


def _parts(data: bytes) -> Iterator[bytes]:
    """Yield what stands behind each length; raise ValueError when the last is cut off."""
    at, end = 0, len(data)
    while at < end:
        (length,) = unpack_from(">I", data, at)
        at += 4 + length
        if at > end:
            raise ValueError(f"a part of {length} bytes ends at {at} of {end}")
        yield data[at - length : at]


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
    prefixed = [part for item in frames for part in (_LENGTH.pack(len(item)), item)]
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
        frames=bytes(cramjam.zstd.compress(b"".join(prefixed), level=_LEVEL)),
    )


def frames_of(block: Block) -> list[bytes]:
    """Return the frames of a block; raise Damaged, naming the block, when they cannot be read."""
    try:
        frames = list(_parts(bytes(cramjam.zstd.decompress(block.frames))))
    except (cramjam.DecompressionError, ValueError, error) as fault:
        raise Damaged(f"{block.name}: its entries cannot be read: {fault}") from fault
    if len(frames) != block.count:
        raise Damaged(f"{block.name}: it holds {len(frames)} entries")
    return frames


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


@dataclass(frozen=True, slots=True)
class State:
    """The tree, and what the next checkpoint needs to know."""

    frontier: Frontier
    #: The highest recorded time of an entry of ours, RFC 3339; None before the first.
    recorded: str | None = None
    #: Entries since the last checkpoint that are no checkpoints themselves.
    unpublished: int = 0

    def after(self, blocks: Sequence[Block], recorded: str | None) -> "State":
        """Return the state after these blocks; `recorded` is the highest recorded time among their entries."""
        added = sum(block.count for block in blocks if block.topic != CheckpointPublished.TOPIC)
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
