"""The rows of a dataset as a table: its columns, its Parquet file, and a hash that no file format enters into."""

import io
import json
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mainstem.training.history.log import Dataset

#: What a feature's column begins with; the other columns have no dot in their names.
FEATURE: Final = "x."

_INSTANT: Final = pa.timestamp("us", tz="UTC")
#: Name in the hash, and bytes of a value, by type of column.
_KINDS: Final[dict[object, tuple[str, str]]] = {
    pa.string(): ("text", ""),
    pa.int64(): ("int64", "<i8"),
    _INSTANT: ("instant_us", "<i8"),
    pa.float64(): ("float64", "<f8"),
    pa.bool_(): ("boolean", "|u1"),
}


def table_of(dataset: Dataset, features: Sequence[str], held_out_from_us: int) -> pa.Table:
    """Return the rows as a table, a column a feature (null = unknown) between what names a row and what is learnt."""
    columns = {
        "id": pa.array(dataset.ids, pa.string()),
        "spine_id": pa.array(dataset.spine_ids, pa.string()),
        "entity": pa.array(dataset.entities, pa.string()),
        "recorded_time": pa.array(dataset.recorded_us, _INSTANT),
        "event_time": pa.array(dataset.time_us, _INSTANT),
        **{
            f"{FEATURE}{name}": pa.array(dataset.x[:, number], pa.float64(), from_pandas=True)
            for number, name in enumerate(features)
        },
        "y": pa.array(dataset.y, pa.int64()),
        "held_out": pa.array(dataset.recorded_us >= held_out_from_us, pa.bool_()),
    }
    return pa.table(columns)


def to_parquet(table: pa.Table) -> bytes:
    """Return a Parquet file of the table."""
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()


def from_parquet(content: bytes) -> pa.Table:
    """Return the table in a Parquet file; raise ValueError when it is none."""
    return pq.read_table(io.BytesIO(content))


def features(table: pa.Table) -> NDArray[np.float64]:
    """Return the features as [rows, features], NaN for unknown."""
    columns = [table[name].to_numpy() for name in table.column_names if name.startswith(FEATURE)]
    return np.column_stack(columns) if columns else np.empty((table.num_rows, 0))


def logical_hash(table: pa.Table) -> str:
    """Return `sha256:` and a digest of what a table says: equal for equal content, in whatever file it lay.

    Hashed are the names and types of the columns and the number of rows, as JSON; then column by column which values
    are there (a bit a row, the first in the lowest bit) and the values, little-endian, a null as zero. Of texts the
    lengths in bytes come before the texts themselves. Raises ValueError for a type that no dataset has.
    """
    state = sha256(json.dumps([table.num_rows, *_schema(table)], separators=(",", ":")).encode())
    for column in table.columns:
        for part in _bytes_of(column):
            state.update(part)
    return f"sha256:{state.hexdigest()}"


def _schema(table: pa.Table) -> list[tuple[str, str]]:
    unknown = [f"{field.name} {field.type}" for field in table.schema if field.type not in _KINDS]
    if unknown:
        raise ValueError(f"columns {', '.join(unknown)} are of no type that a dataset has; build it again")
    return [(field.name, _KINDS[field.type][0]) for field in table.schema]


def _bytes_of(column: pa.ChunkedArray) -> Iterator[bytes]:
    """Yield what stands for a column, a chunk after another; where one chunk ends and the next begins is not in it."""
    yield np.packbits(pc.is_valid(column).to_numpy(), bitorder="little").tobytes()
    if column.type == pa.string():
        yield pc.binary_length(column.fill_null("")).to_numpy().astype("<i8").tobytes()
        for chunk in column.chunks:
            yield "".join(chunk.fill_null("").to_pylist()).encode()
        return
    code = _KINDS[column.type][1]
    for chunk in column.chunks:
        yield _numbers(chunk).astype(code).tobytes()


def _numbers(chunk: pa.Array) -> NDArray[np.generic]:
    plain = chunk.cast(pa.int64()) if chunk.type == _INSTANT else chunk
    found: NDArray[np.generic] = plain.fill_null(False if plain.type == pa.bool_() else 0).to_numpy(
        zero_copy_only=False
    )
    return found
