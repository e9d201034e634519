"""Frames: how a record becomes bytes, and how bytes become a record again. Pure.

A frame is one record in one fixed layout. All numbers are big-endian:

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

Equal records have equal frames, and every byte of a record is in its frame, so a hash of it commits to the record as
it was read.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from struct import Struct, error, unpack_from
from typing import Final, NamedTuple

from mainstem.events.envelope import Headers
from mainstem.events.errors import MainstemError
from mainstem.events.record import Record

_VERSION: Final = 1
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
    names = tuple(raw.decode() for raw in parts(data))
    return names, Struct(f">{len(names)}i")


def parts(data: bytes) -> Iterator[bytes]:
    """Yield what stands behind each length; raise ValueError when the last is cut off."""
    at, end = 0, len(data)
    while at < end:
        (length,) = unpack_from(">I", data, at)
        at += 4 + length
        if at > end:
            raise ValueError(f"a part of {length} bytes ends at {at} of {end}")
        yield data[at - length : at]
