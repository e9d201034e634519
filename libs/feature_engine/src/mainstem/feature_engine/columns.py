"""From values as they come to what is stored: one int64 each, NULL for what is missing or out of range."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, count, repeat

import numpy as np
from numpy.typing import NDArray

from mainstem.feature_engine.batch import Values
from mainstem.feature_engine.clocks import Clocks
from mainstem.feature_engine.column_types import EXACT, NULL, ColumnType, Kind
from mainstem.feature_engine.kernel.encoding import write_fixed, write_texts, write_times, write_truths
from mainstem.feature_engine.kernel.fields import Ints
from mainstem.feature_engine.localtime import FIRST_INSTANT, LAST_INSTANT

#: A dtype is found faster than the type that stands for it.
_INT64, _FLOAT64 = np.dtype(np.int64), np.dtype(np.float64)


class _Numbers(dict[object, int]):
    """Gives a text that it does not know the next number; None has NULL."""

    def __missing__(self, text: object) -> int:
        self[text] = number = len(self) - 1
        return number


class Dictionary:
    """Numbers for texts, in order of first appearance; shared by columns whose values meet."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._numbers = _Numbers()
        #: Returns the number of a text, NULL for None; one that is not known gets the next number.
        self.learn = self._numbers.__getitem__
        #: Returns the number of a text, or what is given besides for one that is not known.
        self.find = self._numbers.get
        self.restore(texts)

    def __len__(self) -> int:
        return len(self._numbers) - 1

    @property
    def texts(self) -> list[str]:
        """The texts in order of their numbers."""
        return [str(text) for text in self._numbers if text is not None]

    def restore(self, texts: Iterable[str]) -> None:
        """Know these texts and no others."""
        self._numbers.clear()
        self._numbers[None] = NULL
        self._numbers.update(zip(texts, count()))

    def sort(self) -> Ints:
        """Give the texts numbers in their own order; return the new number of each old one."""
        old = self.texts
        self.restore(sorted(old))
        return np.fromiter(map(self.learn, old), np.int64, len(old))

    def keep(self, kept: NDArray[np.bool_]) -> Ints:
        """Forget the texts whose numbers are not `kept`; return the new number of each old one, NULL if there is none.

        The order stays.
        """
        self.restore([text for text, stays in zip(self.texts, kept.tolist(), strict=True) if stays])
        return np.where(kept, np.cumsum(kept) - 1, NULL)


class Encoder:
    """Writes the values of a stream's events into a table (column, place), which begins with the stream's columns.

    The texts of a column get their numbers from its dictionary; the clocks learn the years of its instants.
    """

    def __init__(
        self, stream: str, columns: Mapping[str, ColumnType], dictionaries: Mapping[str, Dictionary], clocks: Clocks
    ) -> None:
        self._stream, self._columns = stream, columns
        self._texts = {name: dictionaries[name] for name, kind in columns.items() if kind.kind is Kind.CATEGORY}
        self._learn = [dictionary.learn for dictionary in self._texts.values()]
        self._find = [dictionary.find for dictionary in self._texts.values()]
        self._text_columns = np.array([list(columns).index(name) for name in self._texts], np.int64)
        self._numbers = list(_numbers(columns, clocks.years))
        self._clocks = clocks

    def check(self, values: Mapping[str, Values], count: int) -> None:
        """Raise ValueError, naming the column, unless each has a value for each event."""
        for column in self._columns if count else ():
            if column not in values or len(values[column]) != count:
                given = len(values.get(column, ()))
                raise ValueError(f"{self._stream}.{column} has {given} values for {count} events: give one each")

    def write(self, values: Mapping[str, Values], events: Ints, places: Ints, *, learns: bool = True) -> dict[str, int]:
        """Write the values of some events, one at least, to their places; return by column how many are out of range.

        A text that is not known gets the next number, or counts as null when nothing is to be learnt.
        """
        if self._texts:
            texts = map(values.__getitem__, self._texts)
            numbers = map(map, self._learn, texts) if learns else map(map, self._find, texts, repeat(repeat(NULL)))
            told = np.fromiter(chain.from_iterable(numbers), _INT64, len(self._texts) * len(places))
            write_texts(told, events, places, self._text_columns)
        outside = {}
        for name, write, dtype, given in self._numbers:
            if found := int(write(np.ascontiguousarray(values[name], dtype), events, places, *given)):
                outside[name] = found
        self._clocks.learn()
        return outside


_Number = tuple[str, Callable[..., int], np.dtype[np.generic], tuple[Ints, ...]]
"""Of a column of numbers: its name, how it is written, as what, and what is given besides, a rule first."""


def _numbers(columns: Mapping[str, ColumnType], years: Ints) -> Iterator[_Number]:
    for place, (name, kind) in enumerate(columns.items()):
        match kind.kind:
            case Kind.FIXED:
                lo, hi = (-EXACT if kind.lo is None else kind.lo), (EXACT if kind.hi is None else kind.hi)
                yield name, write_fixed, _FLOAT64, (np.array([place, kind.scale, lo, hi]),)
            case Kind.TIME:
                yield name, write_times, _INT64, (np.array([place, FIRST_INSTANT, LAST_INSTANT]), years)
            case Kind.BOOLEAN:
                yield name, write_truths, _INT64, (np.array([place]),)
            case Kind.CATEGORY:
                pass
