"""What the rows of a batch say to a model: its features, or entities whose features are looked up; see ADR 23."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mainstem.cli.batch.source import Source
from mainstem.events.errors import Rejected
from mainstem.events.instants import render
from mainstem.inference import Tensor
from mainstem.inference.tensors import texts
from mainstem.project.columns import Column
from mainstem.training.history.table import FEATURE

#: Rows of one call: it fills the batcher, which runs what it has at 64 rows, and delays no other caller for long.
CALL: Final = 256
_INPUT: Final = "features"
_DTYPES: Final[Mapping[str, type[np.generic]]] = {"INT64": np.int64, "BOOL": np.bool_}


class Part(NamedTuple):
    """What one call asks: the places of its rows in their stretch, the tensors that say them, whom it is about."""

    places: npt.NDArray[np.intp]
    tensors: Sequence[Tensor]
    entity: str | None = None


class Inputs(Protocol):
    """How rows are said to a model."""

    #: What the rows bring, for people, and what they could bring and do not.
    by: str
    unsaid: Sequence[str]

    @property
    def read(self) -> Mapping[str, pa.DataType]:
        """Return the columns that are read, with their types in a text file."""

    def kept(self, columns: Sequence[str]) -> list[str]:
        """Return the columns that stand beside the answers."""

    def check(self, rows: pa.RecordBatch, first: int) -> None:
        """Raise Rejected, naming the row, for what the door would refuse; `first` is the number of the first."""

    def parts(self, rows: pa.RecordBatch) -> Iterator[Part]:
        """Yield the calls that ask about each of the rows once."""


class Features:
    """Rows that bring the features of the model; null and NaN are unknown."""

    by = "features"
    unsaid: Sequence[str] = ()

    def __init__(self, source: str, columns: Sequence[str]) -> None:
        """Read these columns, in the order of the model's features."""
        self._source = source
        self._columns = columns

    @property
    def read(self) -> Mapping[str, pa.DataType]:
        """Return the columns of the features."""
        return dict.fromkeys(self._columns, pa.float64())

    def kept(self, columns: Sequence[str]) -> list[str]:
        """Return all columns that are no feature of the model: the record of an answer has these."""
        return [name for name in columns if name not in self._columns]

    def check(self, rows: pa.RecordBatch, first: int) -> None:
        """Raise Rejected for a column that holds no numbers, and for an infinity."""
        infinite = np.argwhere(np.isinf(self._matrix(rows)))
        if len(infinite):
            row, column = infinite[0].tolist()
            found = f"row {first + row} of {self._source} has an infinity for {self._columns[column]!r}"
            raise Rejected(f"{found}, which no event can carry; leave it empty if it is unknown")

    def parts(self, rows: pa.RecordBatch) -> Iterator[Part]:
        """Yield `CALL` rows after the other."""
        values = self._matrix(rows)
        for at in range(0, len(values), CALL):
            part = values[at : at + CALL]
            yield Part(np.arange(at, at + len(part)), [Tensor(_INPUT, part)])

    def _matrix(self, rows: pa.RecordBatch) -> npt.NDArray[np.float64]:
        found = np.empty((len(rows), len(self._columns)))
        for number, name in enumerate(self._columns):
            try:
                cells = rows[name].cast(pa.float64())
            except pa.ArrowException as fault:
                raise Rejected(f"column {name!r} of {self._source} holds no numbers: {fault}") from fault
            found[:, number] = cells.to_numpy(zero_copy_only=False)
        return found


class Entities:
    """Rows that describe entities by columns of the spine; null and NaN are unknown."""

    by = "entity"

    def __init__(self, source: str, columns: Mapping[str, Column], unsaid: Sequence[str]) -> None:
        """Read these columns, which are as the contract of the spine says; the others are not there."""
        self.unsaid = unsaid
        self._source = source
        self._columns = columns

    @property
    def read(self) -> Mapping[str, pa.DataType]:
        """Return the columns that describe."""
        types = {"FP64": pa.float64(), "INT64": pa.float64(), "BOOL": pa.bool_()}
        return {name: types.get(_datatype(column), pa.string()) for name, column in self._columns.items()}

    def kept(self, columns: Sequence[str]) -> list[str]:
        """Return all columns: they say which entity it is."""
        return list(columns)

    def check(self, rows: pa.RecordBatch, first: int) -> None:
        """Raise Rejected for a value that the contract of the spine does not allow."""
        for name, column in self._columns.items():
            for row, value in enumerate(self._values(name, rows), first):
                complaint = None if value is None else column.complaint(value)
                if complaint is not None:
                    raise Rejected(f"row {row} of {self._source}, column {name!r}: {complaint[1]}")

    def parts(self, rows: pa.RecordBatch) -> Iterator[Part]:
        """Yield calls of `CALL` rows at most, those together of which the same is known.

        A tensor of texts or whole numbers has no cell for what is unknown: the column is left out then.
        """
        values = {name: self._values(name, rows) for name in self._columns}
        gaps = [name for name, column in self._columns.items() if _datatype(column) != "FP64"]
        for at in range(0, len(rows), CALL):
            end = min(at + CALL, len(rows))
            known: dict[tuple[str, ...], list[int]] = {}
            for place in range(at, end):
                known.setdefault(tuple(name for name in gaps if values[name][place] is not None), []).append(place)
            for names, places in known.items():
                said = [name for name in self._columns if name in names or name not in gaps]
                yield Part(np.array(places), [self._tensor(name, values[name], places) for name in said or gaps[:1]])

    def _tensor(self, name: str, values: Sequence[Any], places: Sequence[int]) -> Tensor:
        cells, datatype = [values[place] for place in places], _datatype(self._columns[name])
        if datatype == "BYTES" and None not in cells:
            return Tensor(name, texts([cell.encode() for cell in cells]))
        # NaN says in every column that it is unknown.
        dtype = np.float64 if None in cells else _DTYPES.get(datatype, np.float64)
        return Tensor(name, np.array(cells, dtype))

    def _values(self, name: str, rows: pa.RecordBatch) -> Sequence[object]:
        cells, column = rows[name], self._columns[name]
        if pa.types.is_timestamp(cells.type):
            if cells.type.tz is None:
                raise Rejected(f"column {name!r} of {self._source} has instants without a zone; give them one")
            instants = cells.cast(pa.timestamp("us", cells.type.tz), safe=False).cast(pa.int64()).to_pylist()
            return [None if instant is None else render(instant) for instant in instants]
        found: list[object] = cells.to_pylist()
        return [_number(value, column.integer) for value in found] if column.kind == "fixed" else found


def inputs_of(source: Source, features: Sequence[str], spine: Callable[[], Mapping[str, Column]]) -> Inputs:
    """Return how the rows of a source are said to a model with these features.

    By the features if all are there, by themselves or as `x.NAME`, which is what datasets call them; else by the
    columns of the `spine` that are there. Raises Rejected, saying what is missing, when it is neither, or not clear.
    """
    there = set(source.columns)
    columns = [name if name in there else f"{FEATURE}{name}" for name in features]
    lacking = [name for name, column in zip(features, columns, strict=True) if column not in there]
    if not lacking:
        return Features(source.name, columns)
    described = spine()
    missing = f"{source.name} has no column {', '.join(lacking)}, which the model reads"
    if brought := [name for name in features if name not in lacking and name not in described]:
        raise Rejected(f"{missing}, but {', '.join(brought)}; add what is missing, or bring no feature to look up all")
    if not there & described.keys():
        raise Rejected(f"{missing}, nor one that describes an entity: {', '.join(described)}; add the ones or others")
    said = {name: column for name, column in described.items() if name in there}
    return Entities(source.name, said, [name for name in described if name not in there])


def each_about_one(parts: Iterator[Part], entities: Sequence[str | None]) -> Iterator[Part]:
    """Yield calls about the same rows, each about one of the entities, which are those of the rows of the stretch."""
    for part in parts:
        chosen: dict[str | None, list[int]] = {}
        for at, place in enumerate(part.places.tolist()):
            chosen.setdefault(entities[place], []).append(at)
        for entity, rows in chosen.items():
            yield Part(part.places[rows], [Tensor(said.name, said.values[rows]) for said in part.tensors], entity)


def _datatype(column: Column) -> str:
    if column.kind == "fixed":
        return "INT64" if column.integer else "FP64"
    return "BOOL" if column.kind == "boolean" else "BYTES"


def _number(value: object, integer: bool) -> object:
    """Return a number as JSON has it, None for NaN, whole if the column is and it is; what is no number as it is."""
    number = float(value) if isinstance(value, Decimal) else value
    if not isinstance(number, float):
        return number
    if math.isnan(number):
        return None
    return int(number) if integer and number.is_integer() else number
