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

Equal records have equal frames, and every byte of a record is in its frame, so the hash of an entry
(RFC 6962 leaf hash of its frame) commits to the record as it was read.

A block holds neighbouring entries of one partition:

    offsets  i64 little-endian, one an entry
    ids      16 bytes an entry, see `id_key`
    hashes   32 bytes an entry: the leaf hashes
    frames   Zstandard of the frames, each behind its length (u32)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import groupby
from struct import Struct, error, pack, unpack_from
from typing import Final, NamedTuple

import cramjam

from mainstem.events.catalogue import Record
from mainstem.events.envelope import Headers
from mainstem.events.errors import MainstemError
from mainstem.ledger import HASH_BYTES, leaf_hashes

#: Entries of a block at most, so that one fault stays local.
BLOCK_ENTRIES: Final = 1_000
ID_BYTES: Final = 16
NO_ID: Final = bytes(ID_BYTES)

_VERSION: Final = 1
_LEVEL: Final = 1
_LENGTH: Final = Struct(">I")
_HEAD: Final = Struct(">BI")
_BODY: Final = Struct(">IqqiiI")

_pack_length = _LENGTH.pack
_pack_body = _BODY.pack


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
    headers = record.headers
    names, values = tuple(zip(*headers, strict=True)) if headers else ((), ())
    named, sizes = _names(names)
    key, value = record.key, record.value
    body = _pack_body(
        record.partition,
        record.offset,
        record.timestamp,
        -1 if key is None else len(key),
        -1 if value is None else len(value),
        len(named),
    )
    try:
        lengths = sizes.pack(*map(len, values))
    except TypeError:  # a header without a value
        lengths = sizes.pack(*(-1 if item is None else len(item) for item in values))
        values = tuple(item or b"" for item in values)
    return b"".join((_topic(record.topic), body, named, lengths, key or b"", *values, value or b""))


@lru_cache(maxsize=1024)
def _topic(name: str) -> bytes:
    raw = name.encode()
    return _HEAD.pack(_VERSION, len(raw)) + raw


@lru_cache(maxsize=1024)
def _names(names: tuple[str, ...]) -> tuple[bytes, Struct]:
    raw = [name.encode() for name in names]
    return b"".join(_pack_length(len(name)) + name for name in raw), Struct(f">{len(names)}i")


def unframe(data: bytes) -> Entry:
    """Return the record of a frame; raise Damaged when these bytes are no frame."""
    try:
        version, size = _HEAD.unpack_from(data)
        at = _HEAD.size + size
        partition, offset, timestamp, key_size, value_size, names_size = _BODY.unpack_from(data, at)
        topic = data[_HEAD.size : at].decode()
        at += _BODY.size
        names, sizes = _read_names(data[at : at + names_size])
        at += names_size
        lengths = (key_size, *sizes.unpack_from(data, at), value_size)
    except (error, UnicodeDecodeError, ValueError) as fault:
        raise Damaged(f"{len(data)} bytes are no frame: {fault!r}") from fault
    at += sizes.size
    parts: list[bytes | None] = []
    for length in lengths:
        if length < 0:
            parts.append(None)
        else:
            parts.append(data[at : at + length])
            at += length
    if version != _VERSION or at != len(data):
        raise Damaged(f"a frame of layout {version} ends at byte {at} of {len(data)}")
    headers = tuple(zip(names, parts[1:-1], strict=True))
    return Entry(topic, partition, offset, timestamp, parts[0], parts[-1], headers)  # type: ignore[arg-type]


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
    order = sorted(range(len(records)), key=lambda i: (records[i].topic, records[i].partition))
    blocks: list[Block] = []
    for _, group in groupby(order, key=lambda i: (records[i].topic, records[i].partition)):
        rows = list(group)
        for at in range(0, len(rows), BLOCK_ENTRIES):
            chosen = rows[at : at + BLOCK_ENTRIES]
            blocks.append(_block([records[i] for i in chosen], [ids[i] for i in chosen], first_leaf))
            first_leaf += len(chosen)
    return blocks


def _block(records: Sequence[Record], ids: Sequence[bytes | None], first_leaf: int) -> Block:
    frames = [frame(record) for record in records]
    prefixed = [part for item in frames for part in (_pack_length(len(item)), item)]
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
        hashes=leaf_hashes(frames),
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


def places(block: Block, key: bytes) -> list[int]:
    """Return the places in the block of entries whose `id_key` begins with `key`."""
    ids = block.ids
    return [at // ID_BYTES for at in range(0, len(ids), ID_BYTES) if ids.startswith(key, at)]


def offsets_of(block: Block) -> tuple[int, ...]:
    """Return the offsets of the entries; raise Damaged when their number is not the block's."""
    if len(block.offsets) != 8 * block.count:
        raise Damaged(f"{block.name}: {len(block.offsets)} bytes are not the offsets of {block.count} entries")
    return unpack_from(f"<{block.count}q", block.offsets)


def stored_hashes(block: Block) -> list[bytes]:
    """Return the stored leaf hashes one by one."""
    return [block.hashes[at : at + HASH_BYTES] for at in range(0, len(block.hashes), HASH_BYTES)]
