"""Sealed entries: a Parquet file, a row an entry (ADR 18)."""

import io
from collections.abc import Sequence
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from mainstem.events.frames import Damaged, Entry, frame
from mainstem.ledger_service.domain import Placed

_SCHEMA: Final = pa.schema(
    [
        ("leaf", pa.int64()),
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("timestamp", pa.timestamp("ms", tz="UTC")),
        ("key", pa.binary()),
        ("headers", pa.list_(pa.struct([("name", pa.string()), ("value", pa.binary())]))),
        ("value", pa.binary()),
    ]
)


def write_segment(placed: Sequence[Placed]) -> bytes:
    """Return the file of entries; their leaves follow one another."""
    entries = [each.entry for each in placed]
    columns = {
        "leaf": [each.leaf for each in placed],
        "topic": [entry.topic for entry in entries],
        "partition": [entry.partition for entry in entries],
        "offset": [entry.offset for entry in entries],
        "timestamp": [entry.timestamp for entry in entries],
        "key": [entry.key for entry in entries],
        "headers": [[{"name": name, "value": value} for name, value in entry.headers] for entry in entries],
        "value": [entry.value for entry in entries],
    }
    out = io.BytesIO()
    pq.write_table(pa.table(columns, _SCHEMA), out, compression="zstd", use_dictionary=["topic"])
    return out.getvalue()


def read_segment(content: bytes) -> tuple[int, list[bytes]]:
    """Return the first leaf of a file and the frames of its entries. Raises Damaged when it is none."""
    try:
        table = pq.read_table(io.BytesIO(content), schema=_SCHEMA)
        columns = [table[name].to_pylist() for name in ("topic", "partition", "offset", "key", "value")]
        times = table["timestamp"].cast(pa.int64()).to_pylist()
        headers = [[(pair["name"], pair["value"]) for pair in pairs] for pairs in table["headers"].to_pylist()]
        first = table["leaf"][0].as_py()
    except (pa.ArrowException, OSError, ValueError, IndexError, TypeError, KeyError) as fault:
        raise Damaged(f"{len(content)} bytes are no sealed entries: {fault}") from fault
    rows = zip(*columns, times, headers, strict=True)
    return first, [
        frame(Entry(topic, partition, offset, time, key, value, tuple(pairs)))
        for topic, partition, offset, key, value, time, pairs in rows
    ]
