"""Files of records, read row by row: NDJSON byte for byte, CSV by the columns of the contract, Parquet by its types."""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

import orjson

from mainstem.events.errors import Rejected
from mainstem.project.contract import SourceContract

Row = dict[str, object]


class RecordFile(Protocol):
    """A file of records."""

    def count(self) -> int:
        """Return how many records it holds; raise Rejected, naming the line, when it cannot be read to its end."""

    def records(self) -> Iterator[bytes]:
        """Yield each record as JSON, in the order of the file."""


def open_records(file: Path, contract: Callable[[], SourceContract]) -> RecordFile:
    """Return the file by its suffix; `contract` is asked for only where the file itself does not say its types.

    Raises Rejected for a suffix that is none of `.ndjson`, `.jsonl`, `.csv` and `.parquet`.
    """
    match file.suffix.lower():
        case ".ndjson" | ".jsonl":
            return NdjsonFile(file)
        case ".csv":
            return CsvFile(file, contract())
        case ".parquet":
            return ParquetFile(file)
        case other:
            raise Rejected(f"{file} ends in {other!r}; name it .ndjson, .jsonl, .csv or .parquet after what it holds")


class NdjsonFile:
    """One JSON object a line; empty lines are passed over."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def count(self) -> int:
        """Read every line once; raise Rejected for the first that is no JSON object."""
        return sum(1 for _ in self._lines(check=True))

    def records(self) -> Iterator[bytes]:
        """Yield the lines, byte for byte."""
        return self._lines(check=False)

    def _lines(self, *, check: bool) -> Iterator[bytes]:
        with self._file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                if check:
                    _check(f"{self._file}:{number}", line)
                yield line.strip()


class CsvFile:
    """A header, then a record a line; an empty cell is null.

    A cell of a number or boolean column that reads as such becomes one; any other cell stays the text it is, so that
    it is refused by the contract and not here.
    """

    def __init__(self, file: Path, contract: SourceContract) -> None:
        self._file = file
        self._readers = {name: _READERS.get(column.kind, str) for name, column in contract.columns.items()}

    def count(self) -> int:
        """Read every line once; raise Rejected for the first whose cells are not those of the header."""
        return sum(1 for _ in self._rows())

    def records(self) -> Iterator[bytes]:
        """Yield the rows as JSON objects."""
        for row in self._rows():
            yield orjson.dumps({name: self._value(name, cell) for name, cell in row.items()})

    def _rows(self) -> Iterator[Mapping[str, str]]:
        with self._file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            try:
                for row in reader:
                    if None in row or None in row.values():
                        asked = f"{len(reader.fieldnames or ())} cells as in the header"
                        raise Rejected(
                            f"{self._file}:{reader.line_num} does not have {asked}; mend it, nothing was sent"
                        )
                    yield row
            except (csv.Error, UnicodeDecodeError) as fault:
                where = f"{self._file}:{reader.line_num + 1}"
                raise Rejected(f"{where} is no CSV in UTF-8: {fault}; mend it, nothing was sent") from fault

    def _value(self, name: str, cell: str) -> object:
        if not cell:
            return None
        try:
            return self._readers.get(name, str)(cell)
        except (ValueError, KeyError):
            return cell


class ParquetFile:
    """A Parquet file; instants become RFC 3339, NaN becomes null."""

    def __init__(self, file: Path) -> None:
        import pyarrow  # noqa: PLC0415  (slow to import)
        import pyarrow.parquet  # noqa: PLC0415

        try:
            self._parquet = pyarrow.parquet.ParquetFile(file)
        except pyarrow.ArrowException as fault:
            raise Rejected(f"{file} is no Parquet: {fault}; name it after what it holds") from fault

    def count(self) -> int:
        """Return the number of rows that the file says it has."""
        return int(self._parquet.metadata.num_rows)

    def records(self) -> Iterator[bytes]:
        """Yield the rows as JSON objects."""
        for batch in self._parquet.iter_batches():
            yield from map(partial(orjson.dumps, default=str), batch.to_pylist())


def in_batches(records: Iterable[bytes], most: int, most_bytes: int) -> Iterator[list[bytes]]:
    """Yield the records in lists of at most `most` and, unless it is a single one, `most_bytes`."""
    batch: list[bytes] = []
    size = 0
    for record in records:
        if batch and (len(batch) == most or size + len(record) > most_bytes):
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += len(record)
    if batch:
        yield batch


def _check(where: str, line: bytes) -> None:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError as fault:
        raise Rejected(f"{where} is no JSON: {fault}; mend it, nothing was sent") from fault
    if not isinstance(found, dict):
        raise Rejected(f"{where} holds no object; write one object a line, nothing was sent")


def _number(cell: str) -> float:
    try:
        return int(cell)
    except ValueError:
        return float(cell)


_READERS: Mapping[str, Callable[[str], object]] = {
    "fixed": _number,
    "boolean": {"true": True, "false": False}.__getitem__,
}
