r"""Records as the broker gives them, read so that none of them can stop a partition or take others with it.

The client below reads the name of a header as UTF-8 and nothing else: one that is not, which any writer may send,
ends the reading of its partition for ever, and what was taken from other partitions at the same time is dropped. Here
such a name is text, too: each byte that is none stands as `\xNN`. What cannot be read at all is `Unreadable`, which no
part of the client takes for an outage of the broker: the process ends, and goes on from the positions it has stored.
"""

from collections.abc import Iterator
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy, _DefaultRecordPy
from aiokafka.record.memory_records import _MemoryRecordsPy
from aiokafka.record.util import decode_varint
from typing_extensions import override

from mainstem.events.errors import MainstemError

_BASE_OFFSET: Final = slice(0, 8)


class Unreadable(MainstemError):
    """The broker gave bytes that are no records."""


class _Batch:
    """A batch that is read whole, or not at all."""

    def __init__(self, content: memoryview, batch: Any, place: str) -> None:
        self._content = content
        self._batch = batch
        self._place = place

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        try:
            return iter(list(self._batch))
        except UnicodeDecodeError:
            return iter(self._read_again())
        except Exception as fault:
            raise self._unreadable(repr(fault)) from fault

    def validate_crc(self) -> bool:
        """Return True; raise Unreadable when the batch is not what was written."""
        if not self._batch.validate_crc():
            raise self._unreadable("its checksum is that of other bytes")
        return True

    def _read_again(self) -> list[Any]:
        try:
            return list(_AnyNames(self._content))
        except Exception as fault:
            raise self._unreadable(repr(fault)) from fault

    def _unreadable(self, why: str) -> Unreadable:
        offset = int.from_bytes(self._content[_BASE_OFFSET])
        return Unreadable(f"{self._place}/{offset}: the batch cannot be read: {why}; look at the disk of the broker")


class _AnyNames(_DefaultRecordBatchPy):  # type: ignore[misc]
    """Reads a batch, far more slowly, whatever its headers are called."""

    _pos: int

    @override
    def _read_msg(self, *_: object) -> _DefaultRecordPy:
        buffer = self._buffer
        length, pos = decode_varint(buffer, self._pos)
        end = pos + length
        after_ms, pos = decode_varint(buffer, pos + 1)
        appended = self.timestamp_type == self.LOG_APPEND_TIME
        at_ms = self.max_timestamp if appended else self.first_timestamp + after_ms
        further, pos = decode_varint(buffer, pos)
        key, pos = _bytes(buffer, pos)
        value, pos = _bytes(buffer, pos)
        count, pos = decode_varint(buffer, pos)
        headers: list[tuple[str, bytes | None]] = []
        while len(headers) < count:
            name, pos = _bytes(buffer, pos)
            content, pos = _bytes(buffer, pos)
            headers.append(((name or b"").decode(errors="backslashreplace"), content))
        if pos != end:
            raise ValueError(f"a record of {length} bytes has {length + pos - end}")
        self._pos = pos
        return _DefaultRecordPy(self.base_offset + further, at_ms, self.timestamp_type, key, value, headers)


def _bytes(buffer: bytearray, pos: int) -> tuple[bytes | None, int]:
    """Return what is written at a place behind its length, and the place behind it."""
    length, pos = decode_varint(buffer, pos)
    return (None, pos) if length < 0 else (bytes(buffer[pos : pos + length]), pos + length)


class Records(_MemoryRecordsPy):  # type: ignore[misc]
    """What a fetch brought of a partition, batch by batch."""

    #: Topic and partition.
    place = ""

    @override
    def next_batch(self) -> Any:
        content, batch = self._next_slice, super().next_batch()
        return _Batch(content, batch, self.place) if isinstance(batch, DefaultRecordBatch) else batch


class _Placed(PartitionRecords):  # type: ignore[misc]
    """Records that know their partition."""

    def __init__(self, tp: TopicPartition, records: Records, *rest: object) -> None:
        records.place = f"{tp.topic}/{tp.partition}"
        super().__init__(tp, records, *rest)


def read_every_record() -> None:
    """Have the client of this process read so; to be called before a consumer is made."""
    fetcher.MemoryRecords, fetcher.PartitionRecords = Records, _Placed
