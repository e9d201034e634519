"""From values as they come to values as they are stored: one int64 each, NULL for what is missing or out of range."""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from mainstem.feature_engine.batch import Values
from mainstem.feature_engine.column_types import EXACT, NULL, ColumnType, Kind
from mainstem.feature_engine.definition import Term
from mainstem.feature_engine.localtime import FIRST_INSTANT, LAST_INSTANT

Ints = NDArray[np.int64]

_COMPARE: dict[str, Callable[[Ints, int], NDArray[np.bool_]]] = {
    "gt": lambda values, constant: values > constant,
    "ge": lambda values, constant: values >= constant,
    "lt": lambda values, constant: values < constant,
    "le": lambda values, constant: values <= constant,
}


class Dictionary:
    """Numbers for texts, in order of first appearance; shared by the columns of one name, so that keys meet."""

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

    def encode(self, values: Values) -> Ints:
        """Return the number of each text, NULL for None; new texts get the next numbers."""
        try:
            return self._look_up(values)
        except KeyError:
            self._learn(values)
            return self._look_up(values)

    def _look_up(self, values: Values) -> Ints:
        return np.fromiter(map(self._numbers.__getitem__, values), np.int64, len(values))

    def _learn(self, texts: Iterable[object]) -> None:
        for text in dict.fromkeys(texts):
            self._numbers.setdefault(text, len(self))


def encode_number(kind: ColumnType, values: Values) -> tuple[Ints, int]:
    """Return the stored form of fixed, time or boolean values, and how many were out of range and became null."""
    if kind.kind is Kind.FIXED:
        return _fixed(kind, values)
    stored = np.asarray(values).astype(np.int64)
    null = stored == (NULL if kind.kind is Kind.TIME else -1)
    lo, hi = (FIRST_INSTANT, LAST_INSTANT) if kind.kind is Kind.TIME else (0, 1)
    return _within(stored, lo, hi, null)


def evaluate(term: Term, column: Ints) -> Ints:
    """Return the stored values of a term of a column."""
    if term.comparison is None:
        return column
    return np.where(column == NULL, NULL, _COMPARE[term.comparison](column, term.constant))


def decode(stored: Ints, scale: int) -> NDArray[np.float64]:
    """Return stored numbers in their unit: one division each, NaN for NULL."""
    return np.where(stored == NULL, np.nan, stored / np.float64(scale))


def _fixed(kind: ColumnType, values: Values) -> tuple[Ints, int]:
    numbers = np.asarray(values, dtype=np.float64)
    null = np.isnan(numbers)
    with np.errstate(over="ignore"):
        scaled = np.rint(numbers * kind.scale)
    fits = np.where(np.abs(scaled) <= EXACT, scaled, EXACT + 2.0).astype(np.int64)
    lo, hi = (-EXACT if kind.lo is None else kind.lo), (EXACT if kind.hi is None else kind.hi)
    return _within(fits, lo, hi, null)


def _within(stored: Ints, lo: int, hi: int, null: NDArray[np.bool_]) -> tuple[Ints, int]:
    outside = ((stored < lo) | (stored > hi)) & ~null
    return np.where(null | outside, NULL, stored), int(np.count_nonzero(outside))
