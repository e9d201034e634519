"""From values as they come to a table of what is stored: one int64 each, NULL for what is missing or out of range."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from mainstem.feature_engine.batch import Values
from mainstem.feature_engine.column_types import EXACT, NULL, ColumnType, Kind
from mainstem.feature_engine.kernel.encoding import write_fixed, write_whole
from mainstem.feature_engine.kernel.fields import Ints
from mainstem.feature_engine.localtime import FIRST_INSTANT, LAST_INSTANT

Encode = Callable[[str, Values], Ints]


class Dictionary:
    """Numbers for texts, in order of first appearance; shared by columns whose values meet."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._numbers: dict[object, int] = {None: NULL}
        self._learn(texts)

    def __len__(self) -> int:
        return len(self._numbers) - 1

    @property
    def texts(self) -> list[str]:
        """The texts in order of their numbers."""
        return [str(text) for text in self._numbers if text is not None]

    def sort(self) -> Ints:
        """Give the texts numbers in their own order; return the new number of each old one."""
        old = self.texts
        self._numbers = {None: NULL}
        self._learn(sorted(old))
        return self._look_up(old)

    def keep(self, kept: NDArray[np.bool_]) -> Ints:
        """Forget the texts whose numbers are not `kept`; return the new number of each old one, NULL if there is none.

        The order stays.
        """
        texts = self.texts
        self._numbers = {None: NULL}
        self._learn(text for text, stays in zip(texts, kept.tolist(), strict=True) if stays)
        return np.where(kept, np.cumsum(kept) - 1, NULL)

    def encode(self, values: Values) -> Ints:
        """Return the number of each text, NULL for None; new texts get the next numbers."""
        try:
            return self._look_up(values)
        except KeyError:
            self._learn(values)
            return self._look_up(values)

    def find(self, values: Values) -> Ints:
        """Return the number of each text, NULL for None and for a text that is not known; nothing is learnt."""
        try:
            return self._look_up(values)
        except KeyError:
            return np.array([self._numbers.get(value, NULL) for value in values], np.int64)

    def _look_up(self, values: Values) -> Ints:
        return np.fromiter(map(self._numbers.__getitem__, values), np.int64, len(values))

    def _learn(self, texts: Iterable[object]) -> None:
        for text in dict.fromkeys(texts):
            self._numbers.setdefault(text, len(self))


def write_table(
    columns: Mapping[str, ColumnType], values: Mapping[str, Values], lines: int, encode: Encode
) -> tuple[Ints, dict[str, int]]:
    """Return the stored values (line, column) and how many were out of range, by column; `encode` numbers texts."""
    table = np.empty((lines, len(columns)), np.int64)
    outside = {}
    for number, (name, kind) in enumerate(columns.items()):
        given = values.get(name, ())
        if kind.kind is Kind.CATEGORY:
            table[:, number] = encode(name, given)
        elif found := _write_number(kind, given, table, number):
            outside[name] = found
    return table, outside


def _write_number(kind: ColumnType, values: Values, table: Ints, column: int) -> int:
    if kind.kind is Kind.FIXED:
        lo, hi = (-EXACT if kind.lo is None else kind.lo), (EXACT if kind.hi is None else kind.hi)
        return write_fixed(np.ascontiguousarray(values, np.float64), kind.scale, lo, hi, table, column)
    whole = np.ascontiguousarray(values, np.int64)
    if kind.kind is Kind.TIME:
        return write_whole(whole, NULL, FIRST_INSTANT, LAST_INSTANT, table, column)
    return write_whole(whole, -1, 0, 1, table, column)


def instants_of(columns: Mapping[str, ColumnType]) -> list[int]:
    """Return the numbers of the columns that hold instants."""
    return [number for number, kind in enumerate(columns.values()) if kind.kind is Kind.TIME]
