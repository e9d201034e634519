"""The accepted records of a feature set as columns, in the order in which they were applied.

What a value rests on is a few rows of them: those of the same key, applied before, within reach.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from mainstem.events.errors import Rejected
from mainstem.events.instants import render
from mainstem.feature_engine import CompiledSet, Kind
from mainstem.feature_engine.reference import Applied
from mainstem.features.history import History, Origin, Since
from mainstem.ledger_service.domain import Placed

Ints = NDArray[np.int64]
Cells = NDArray[np.generic]

#: Stands for null in columns of instants.
_NO_TIME: Final = np.iinfo(np.int64).min
_PLACES: Final = ("position", "time_us", "arrival_us", "leaf", "partition", "offset")


class Place(NamedTuple):
    """Where a record stands: the `place` of what a `Stream` gives."""

    leaf: int  #: of the accepted record
    source: str  #: topic, partition and offset of the source's own
    event_time: str


@dataclass(frozen=True, slots=True)
class Key:
    """The rows of each text that a category holds."""

    rows: Ints  #: by text, and below it in the applied order
    starts: Ints  #: where those of each text begin, and where the last end


@dataclass(frozen=True)
class Stream:
    """The records of one stream in the applied order, a row each.

    `places` are columns too: position in the applied order of the set, event time and arrival in µs, leaf, and where
    the record stood in its source. Categories are numbers, `texts` says what they stand for.
    """

    places: Mapping[str, Ints]
    cells: Mapping[str, Cells]
    texts: Mapping[str, Sequence[str]]
    keys: Mapping[str, Key]

    @cached_property
    def codes(self) -> dict[str, dict[str, int]]:
        """The number of each text, by column."""
        return {name: {text: code for code, text in enumerate(texts)} for name, texts in self.texts.items()}

    @cached_property
    def by_leaf(self) -> Ints:
        """The rows in the order of their leaves."""
        return np.argsort(self.places["leaf"])

    def row_of(self, leaf: int) -> int | None:
        """Return the row of the record at a leaf; None when there is none."""
        leaves = self.places["leaf"]
        at = int(np.searchsorted(leaves, leaf, sorter=self.by_leaf))
        if at == len(leaves) or leaves[self.by_leaf[at]] != leaf:
            return None
        return int(self.by_leaf[at])

    def of(self, by: str, text: object) -> Ints:
        """Return the rows of a text in the applied order."""
        code = self.codes[by].get(text) if isinstance(text, str) else None
        if code is None:
            return np.empty(0, np.int64)
        key = self.keys[by]
        return key.rows[key.starts[code] : key.starts[code + 1]]

    def before(self, by: str, text: object, position: int) -> Ints:
        """Return the rows of a text that were applied before a position, in order."""
        rows = self.of(by, text)
        return rows[: np.searchsorted(self.places["position"][rows], position)]

    def after(self, by: str, text: object, position: int) -> Ints:
        """Return the rows of a text that were applied after a position, in order."""
        rows = self.of(by, text)
        return rows[np.searchsorted(self.places["position"][rows], position, side="right") :]

    def records(self, name: str, rows: Ints) -> Iterator[tuple[int, Applied]]:
        """Yield the records of rows as the reference takes them, each behind its position; `name` is the stream's."""
        numbers = [self.places[of][rows].tolist() for of in _PLACES]
        cells = [self._values(column, rows) for column in self.cells]
        names = tuple(self.cells)
        for position, time_us, arrival_us, leaf, partition, offset, *values in zip(*numbers, *cells, strict=True):
            place = Place(leaf, f"src.{name}/{partition}/{offset}", render(time_us))
            yield position, Applied(name, time_us, arrival_us, dict(zip(names, values, strict=True)), place)

    def _values(self, name: str, rows: Ints) -> list[object]:
        """Return the values of a column in their natural units, None for null."""
        cells: list[object] = self.cells[name][rows].tolist()
        if name in self.texts:
            texts = self.texts[name]
            return [texts[cell] if isinstance(cell, int) and cell >= 0 else None for cell in cells]
        return [None if cell == _NO_TIME else cell for cell in cells]


class Columns:
    """All streams of a feature set."""

    def __init__(self, streams: Mapping[str, Stream], journalled: int) -> None:
        self.streams = streams
        #: The journal tells the order of so many records; that of those behind is the order of arrival.
        self.journalled = journalled

    def save(self, folder: Path) -> None:
        """Write everything below a folder."""
        texts = {name: stream.texts for name, stream in self.streams.items()}
        (folder / "texts.json").write_text(json.dumps({"journalled": self.journalled, "texts": texts}))
        for name, stream in self.streams.items():
            (folder / name).mkdir()
            for kind, columns in (("place", stream.places), ("cell", stream.cells)):
                for column, cells in columns.items():
                    np.save(folder / name / f"{kind}-{column}.npy", cells)
            for column, key in stream.keys.items():
                np.save(folder / name / f"rows-{column}.npy", key.rows)
                np.save(folder / name / f"starts-{column}.npy", key.starts)

    @classmethod
    def load(cls, folder: Path, compiled: CompiledSet) -> Self:
        """Read what `save` wrote; columns stay on the disk until they are asked for."""
        said = json.loads((folder / "texts.json").read_text())
        streams = {}
        for name, columns in compiled.streams.items():
            texts = said["texts"][name]
            streams[name] = Stream(
                {column: _open(folder / name / f"place-{column}.npy") for column in _PLACES},
                {column: _open(folder / name / f"cell-{column}.npy") for column in columns},
                texts,
                {
                    column: Key(
                        _open(folder / name / f"rows-{column}.npy"), _open(folder / name / f"starts-{column}.npy")
                    )
                    for column in texts
                },
            )
        return cls(streams, said["journalled"])


def _open(path: Path) -> Ints:
    return np.asarray(np.load(path, mmap_mode="r"))


class Gathering:
    """Makes the columns of a set out of entries of the log, each partition's in order; see `History` for `since`."""

    def __init__(self, compiled: CompiledSet, since: Since = Since()) -> None:  # noqa: B008  (it is frozen)
        self._compiled = compiled
        self._history = History(compiled, since)
        self._leaves: dict[str, int] = {}
        self._spines: set[int] = set()
        self._given: dict[str, list[tuple[Applied, int]]] = {name: [] for name in compiled.streams}
        self._count = 0

    @property
    def topics(self) -> list[str]:
        """Return the topics to read, from their beginning."""
        return self._history.topics

    def take(self, placed: Sequence[Placed]) -> None:
        """Take entries. Raises Rejected when they do not hold what the journal says."""
        for leaf, entry in placed:
            for name, value in entry.headers:
                if name == "ce_id" and value:
                    self._leaves.setdefault(value.decode(errors="replace"), leaf)
        self._history.offer([entry for _, entry in placed])
        self._keep(self._history.advance())

    def has(self, leaf: int) -> bool:
        """Tell whether the spine record at a leaf was applied by now."""
        return leaf in self._spines

    def finish(self) -> Columns:
        """Return the columns; what no entry of the journal names yet comes in order of arrival."""
        journalled = self._count
        self._keep(self._history.rest())
        return Columns({name: _stream(self._compiled, name, given) for name, given in self._given.items()}, journalled)

    def _keep(self, records: Iterable[Applied]) -> None:
        for record in records:
            leaf = self._leaves.pop(origin(record).event_id)
            self._count += 1
            self._given[record.stream].append((record, leaf))
            if record.stream == self._compiled.spine:
                self._spines.add(leaf)


def origin(record: Applied) -> Origin:
    """Return the place of a record that a `History` gave; raise Rejected for any other."""
    if not isinstance(record.place, Origin):
        raise Rejected(f"{record.place!r} is no place of an accepted record")
    return record.place


def _stream(compiled: CompiledSet, name: str, given: Sequence[tuple[Applied, int]]) -> Stream:
    origins = [origin(record) for record, _ in given]
    numbers = {
        "position": [each.position for each in origins],
        "time_us": [record.event_time_us for record, _ in given],
        "arrival_us": [record.arrival_us for record, _ in given],
        "leaf": [leaf for _, leaf in given],
        "partition": [each.partition for each in origins],
        "offset": [each.offset for each in origins],
    }
    cells: dict[str, Cells] = {}
    texts: dict[str, list[str]] = {}
    for column, kind in compiled.streams[name].items():
        values = [record.columns.get(column) for record, _ in given]
        if kind.kind is Kind.CATEGORY:
            cells[column], texts[column] = _numbered(values)
        else:
            cells[column] = _plain(kind.kind, values)
    keys = {column: _key(cells[column], len(found)) for column, found in texts.items()}
    return Stream({of: np.array(found, np.int64) for of, found in numbers.items()}, cells, texts, keys)


def _numbered(values: Sequence[object]) -> tuple[Cells, list[str]]:
    known: dict[str, int] = {}
    cells = [known.setdefault(value, len(known)) if isinstance(value, str) else -1 for value in values]
    return np.array(cells, np.int32), list(known)


def _plain(kind: Kind, values: Sequence[object]) -> Cells:
    """Return numbers as float64, which is how the reference reads them, instants as µs, truths as 1, 0 and -1."""
    if kind is Kind.TIME:
        return np.array([value if isinstance(value, int) else _NO_TIME for value in values], np.int64)
    if kind is Kind.BOOLEAN:
        return np.array([int(value) if isinstance(value, bool) else -1 for value in values], np.int8)
    return np.array([_number(value) for value in values], np.float64)


def _number(value: object) -> float:
    try:
        return float(value) if isinstance(value, int | float) else float("nan")
    except OverflowError:
        return float("inf")


def _key(cells: Cells, count: int) -> Key:
    codes = np.asarray(cells, np.int64)
    rows = np.argsort(codes, kind="stable")
    return Key(rows, np.searchsorted(codes[rows], np.arange(count + 1)))
