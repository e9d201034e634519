"""Feature rows as a Parquet file, written as they come."""

from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mainstem.cli.recomputation import Stretch
from mainstem.events.instants import parse_all
from mainstem.feature_engine import CompiledSet

_ROW_GROUP = 65_536
_INSTANT = pa.timestamp("us", tz="UTC")


class RowFile:
    """A Parquet file of rows: spine_id, entity, event_time, recorded_time, then a column a feature; null = unknown.

    Use `with`. The file stands under its name only when the block has ended well; until then it is `<name>.partial`.
    """

    def __init__(self, file: Path, compiled: CompiledSet) -> None:
        self.rows = 0
        self._file = file
        self._partial = file.with_name(f"{file.name}.partial")
        self._schema = pa.schema(
            [
                ("spine_id", pa.string()),
                ("entity", pa.string()),
                ("event_time", _INSTANT),
                ("recorded_time", _INSTANT),
                *((name, pa.float64()) for name in compiled.names),
            ],
            metadata={"mainstem.feature_set": compiled.name, "mainstem.definition": compiled.id},
        )
        self._waiting: list[pa.Table] = []

    def __enter__(self) -> Self:
        self._writer = pq.ParquetWriter(self._partial, self._schema)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()
        self._writer.close()
        if kind is None:
            self._partial.replace(self._file)
        else:
            self._partial.unlink()

    def write(self, stretch: Stretch) -> None:
        """Append rows in their order."""
        headers = [headers for _, headers in stretch.spine]
        columns = [
            pa.array([found["ce_id"].decode() for found in headers]),
            pa.array([(record.key or b"").decode() for record, _ in stretch.spine]),
            *(_instants([found[name] for found in headers]) for name in ("ce_time", "ce_recordedtime")),
            *(pa.array(column, from_pandas=True) for column in stretch.values.T),
        ]
        self._waiting.append(pa.table(columns, schema=self._schema))
        self.rows += len(headers)
        if sum(map(len, self._waiting)) >= _ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting))
            self._waiting.clear()


def _instants(texts: list[bytes]) -> pa.Array:
    return pa.array(parse_all(texts).astype("datetime64[us]"), type=_INSTANT)


def recorded_within(stretch: Stretch, start_us: int, end_us: int) -> Stretch:
    """Return the rows whose spine record became known from `start_us` and before `end_us`."""
    recorded = parse_all([headers["ce_recordedtime"] for _, headers in stretch.spine])
    rows = np.flatnonzero((recorded >= start_us) & (recorded < end_us))
    return Stretch([stretch.spine[row] for row in rows.tolist()], stretch.values[rows])
