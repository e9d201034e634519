"""The rows that a batch scores, as they stand in a file or in a dataset of the platform."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import quote

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from mainstem.cli.calls import CallRefused, get
from mainstem.cli.connection import setting
from mainstem.events.errors import Rejected
from mainstem.storage import Artifacts

#: Rows that are held in memory, asked about and written together, at most.
STRETCH: Final = 65_536
#: In a CSV file a cell without content is unknown, a text "NA" is one.
_CSV: Final = ds.CsvFileFormat(convert_options=pc.ConvertOptions(null_values=[""], strings_can_be_null=True))
_DEFINITION: Final = b"mainstem.definition"

#: Of a text file what type a column is kept as that nobody reads, by the type that was guessed.
Kept = Callable[[pa.DataType], pa.DataType]


def _as_text(_: pa.DataType) -> pa.DataType:
    return pa.string()


def _as_written(guessed: pa.DataType) -> pa.DataType:
    """Return the type that stands in JSON, which has no instants."""
    return pa.string() if pa.types.is_timestamp(guessed) else guessed


_FORMATS: Final[Mapping[str, tuple[ds.FileFormat, Kept | None]]] = {
    ".parquet": (ds.ParquetFileFormat(), None),
    ".csv": (_CSV, _as_text),
    ".ndjson": (ds.JsonFileFormat(), _as_written),
    ".jsonl": (ds.JsonFileFormat(), _as_written),
}


@dataclass(frozen=True, slots=True)
class Source:
    """Rows in their order. `definition` is the identity of the feature set that their features are of, where it says.

    A text file says of no column what it holds: `kept` does.
    """

    name: str
    found: pa.Schema
    #: Returns the rows with columns of these types.
    opened: Callable[[pa.Schema], ds.Dataset]
    definition: str | None = None
    kept: Kept | None = None

    @property
    def columns(self) -> list[str]:
        """Return the names of its columns."""
        names: list[str] = self.found.names
        return names

    def schema(self, read: Mapping[str, pa.DataType]) -> pa.Schema:
        """Return its columns; those of a text file that are `read` are of that type."""
        if self.kept is None:
            return self.found.remove_metadata()
        return pa.schema([(field.name, read.get(field.name) or self.kept(field.type)) for field in self.found])

    def stretches(self, read: Mapping[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
        """Yield all rows in their order, `STRETCH` at once at most. Raises Rejected for what cannot be read."""
        try:
            for rows in self.opened(self.schema(read)).to_batches(batch_size=STRETCH):
                yield from (rows.slice(at, STRETCH) for at in range(0, len(rows), STRETCH))
        except (pa.ArrowException, OSError) as fault:
            raise Rejected(f"{self.name} cannot be read: {fault}") from fault

    def keys(self, rows: pa.RecordBatch, column: str) -> list[str | None]:
        """Return a column of some rows as texts; raise Rejected when it holds nothing of the kind."""
        try:
            found: list[str | None] = rows[column].cast(pa.string()).to_pylist()
        except pa.ArrowException as fault:
            raise Rejected(f"column {column!r} of {self.name} holds no keys: {fault}") from fault
        return found


def open_file(file: Path) -> Source:
    """Return the rows of a file, which is what its name ends with. Raises Rejected for one that cannot be read."""
    known = _FORMATS.get(file.suffix.lower())
    if known is None:
        raise Rejected(f"{file} is none of {', '.join(_FORMATS)}; give it the name of what it holds")
    try:
        found = ds.dataset(file, format=known[0]).schema
    except (pa.ArrowException, OSError) as fault:
        raise Rejected(f"{file} cannot be read: {fault}") from fault
    told = (found.metadata or {}).get(_DEFINITION)
    opened = partial(ds.dataset, file, format=known[0])
    return Source(str(file), found, lambda schema: opened(schema=schema), told.decode() if told else None, known[1])


def open_dataset(wanted: str) -> Source:
    """Return the rows of a dataset, by its id or the beginning of it.

    Raises CallRefused when it is none or not built yet, ArtifactMissing or ArtifactCorrupt when its file is not whole.
    """
    found = get("training", f"/v1/datasets/{quote(wanted, safe='')}")
    row, manifest = found["dataset"], found["manifest"]
    if row is None:
        raise CallRefused(f"request {wanted!r} has led to no dataset; see `mainstem dataset show {wanted}`")
    content = Artifacts(Path(setting("MAINSTEM_ARTIFACTS"))).get(row["parquet"])
    table = pq.read_table(pa.BufferReader(content))
    definition = manifest and manifest["feature_set"]["id"]
    return Source(row["dataset"], table.schema, lambda _: ds.dataset(table), definition)
