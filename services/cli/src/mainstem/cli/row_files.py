"""Feature rows as a Parquet file, written as they come."""

import json
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mainstem.cli.labels import Labels
from mainstem.cli.recomputation import Stretch
from mainstem.events.errors import Rejected
from mainstem.events.instant_columns import parse_all
from mainstem.feature_engine import CompiledSet

_ROW_GROUP = 65_536
_END = 2**63 - 1
_INSTANT = pa.timestamp("us", tz="UTC")
_ABOUT = [
    ("spine_id", pa.string()),
    ("entity", pa.string()),
    ("event_time", _INSTANT),
    ("recorded_time", _INSTANT),
    ("position", pa.int64()),
]
_LABEL = "label"


class _Waiting(NamedTuple):
    """Rows without their labels, and what these are found by."""

    rows: pa.Table
    entities: list[str]
    times_us: list[int]


class RowFile:
    """A Parquet file of rows: who and when, the position in the applied order, a column a feature, and the label.

    Null is unknown. There is a column `label` only where `labels` are given: true, false, or null when none came in
    time. Such a row waits in memory: where the label's source announces progress, until it has passed the end of the
    row's wait, and that of the rows before it; where it announces nothing, to the end of the block, so that all rows
    are in memory then. What waits for no label is written a row group at a time.

    Use `with`. The file stands under its name only when the block has ended well; until then it is
    `<name>.partial`. Its key-value metadata are the label of the feature set, its identity, and what `tell` was given.
    """

    def __init__(self, file: Path, compiled: CompiledSet, labels: Labels | None = None) -> None:
        """Raise Rejected when a feature has the name of another column."""
        self.rows = 0
        self._file = file
        self._partial = file.with_name(f"{file.name}.partial")
        self._labels = labels
        taken = {name for name, _ in _ABOUT} | ({_LABEL} if labels else set())
        if both := [name for name in compiled.names if name in taken]:
            raise Rejected(f"feature {both[0]!r} has the name of another column of a row; give it another one")
        self._about = {"mainstem.feature_set": compiled.label, "mainstem.definition": compiled.id}
        values = [(name, pa.float64()) for name in compiled.names]
        self._schema = pa.schema([*_ABOUT, *values], metadata=self._about)
        self._waiting: deque[_Waiting] = deque()
        self._ready: list[pa.Table] = []

    def __enter__(self) -> Self:
        """Begin the file; raise Rejected when it cannot be written where it is to be."""
        label = [] if self._labels is None else [pa.field(_LABEL, pa.bool_())]
        schema = pa.schema([*self._schema, *label], metadata=self._schema.metadata)
        try:
            self._writer = pq.ParquetWriter(self._partial, schema)
        except OSError as fault:
            why = fault.strerror or fault
            raise Rejected(
                f"{self._file} cannot be written ({why}); name a file in a folder that you may write"
            ) from fault
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._settle(_END)
            self._flush()
            self._writer.add_key_value_metadata(self._about)
        self._writer.close()
        if kind is None:
            self._partial.replace(self._file)
        else:
            self._partial.unlink()

    def write(self, stretch: Stretch) -> None:
        """Append rows in their order; those that wait for labels take them from what `labels` was given by then."""
        headers = [headers for _, headers in stretch.spine]
        times = [_instants([found[name] for found in headers]) for name in ("ce_time", "ce_recordedtime")]
        entities = [(record.key or b"").decode(errors="replace") for record, _ in stretch.spine]
        columns = [
            pa.array([found["ce_id"].decode() for found in headers]),
            pa.array(entities),
            *times,
            pa.array(stretch.positions),
            *(pa.array(column, from_pandas=True) for column in stretch.values.T),
        ]
        rows = pa.table(columns, schema=self._schema)
        if headers:
            self._waiting.append(_Waiting(rows, entities, times[0].cast(pa.int64()).to_pylist()))
        self.rows += len(headers)
        self._settle(_END if self._labels is None else self._labels.through)
        if sum(map(len, self._ready)) >= _ROW_GROUP:
            self._flush()

    def tell(self, **about: object) -> None:
        """Add documents to what the file says of itself."""
        self._about |= {f"mainstem.{name}": json.dumps(told) for name, told in about.items()}

    def _settle(self, through_us: int) -> None:
        """Label the rows for which no label that would count is still to come, in their order."""
        wait_us = 0 if self._labels is None else self._labels.rule.wait
        while self._waiting and max(self._waiting[0].times_us) <= through_us - wait_us:
            self._ready.append(self._labelled(self._waiting.popleft()))

    def _labelled(self, found: _Waiting) -> pa.Table:
        if self._labels is None:
            return found.rows
        labels = map(self._labels.of, found.entities, found.times_us)
        return found.rows.append_column(_LABEL, pa.array(list(labels), pa.bool_()))

    def _flush(self) -> None:
        if self._ready:
            self._writer.write_table(pa.concat_tables(self._ready))
            self._ready.clear()


def _instants(texts: list[bytes]) -> pa.Array:
    return pa.array(parse_all(texts).astype("datetime64[us]"), type=_INSTANT)


def recorded_within(stretch: Stretch, start_us: int, end_us: int) -> Stretch:
    """Return the rows whose spine record became known from `start_us` and before `end_us`."""
    recorded = parse_all([headers["ce_recordedtime"] for _, headers in stretch.spine])
    rows = np.flatnonzero((recorded >= start_us) & (recorded < end_us))
    return Stretch([stretch.spine[row] for row in rows.tolist()], stretch.values[rows], stretch.positions[rows])


def by_topic(positions: Mapping[tuple[str, int], int]) -> dict[str, dict[str, int]]:
    """Return offsets by topic and partition, as a document."""
    found: dict[str, dict[str, int]] = {}
    for (topic, partition), offset in sorted(positions.items()):
        found.setdefault(topic, {})[str(partition)] = offset
    return found
