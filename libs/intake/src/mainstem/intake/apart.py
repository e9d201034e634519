"""Whether a row gives beside others what it gives alone: rows of many kinds are drawn, and run both ways."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from math import nan, prod
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

from mainstem.intake.limits import ROWS
from mainstem.intake.structure import Unfit
from mainstem.intake.verdict import Tensor, shown

#: What the runtime raises for a model that it cannot load, or not run on what it is given.
RUN_FAULTS: Final = (
    runtime.Fail,
    runtime.InvalidArgument,
    runtime.InvalidGraph,
    runtime.InvalidProtobuf,
    runtime.NoSuchFile,
    runtime.NotImplemented,
    runtime.RuntimeException,
    RuntimeError,
    ValueError,
)

_SEED: Final = 20
#: How close fractions must be: their last digits differ with the number of rows.
_CLOSE: Final = 1e-3
#: Of how far the numbers of all rows spread, as far as 1, how far those of any batch are taken to spread.
_OF_ALL: Final = 0.0005
#: Of the largest of them, what may be lost where all are alike.
_LAST: Final = 1e-6
_FRACTIONS: Final = {"FLOAT", "DOUBLE", "FLOAT16"}
_NUMBERS: Final = _FRACTIONS | {f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)}

_Row = Mapping[str, NDArray[Any]]
_Kind = Callable[[np.random.Generator, int], NDArray[np.float64]]


def _fractions(scale: float) -> _Kind:
    return lambda random, width: random.normal(size=width) * scale


def _whole(most: int) -> _Kind:
    return lambda random, width: random.integers(0, most, width, endpoint=True).astype(np.float64)


def _lone(kind: _Kind) -> _Kind:
    """Return zeros but for one number: zeros are answered, so that little is in the way of it."""

    def drawn(random: np.random.Generator, width: int) -> NDArray[np.float64]:
        numbers = np.zeros(width)
        numbers[random.integers(width)] = kind(random, 1)[0]
        return numbers

    return drawn


#: Kinds of rows, draw by draw, from those that say most to those that most models take.
_SMALL: Final = (_fractions(0.1), _fractions(1), _whole(1), _lone(_whole(3)))
_LARGE: Final = (_fractions(100), _whole(3), _whole(23), _whole(0))
_GENTLE: Final = (_whole(1), _whole(2), _whole(9), _lone(_whole(1)), _lone(_whole(9)), _lone(_fractions(1)))
_DRAWS: Final[Sequence[Sequence[_Kind]]] = ((*_SMALL, *_LARGE) * 3, _GENTLE * 8)
#: With so many rows that are answered no more are drawn.
_ENOUGH: Final = 12
#: Rows are run beside all others, and so many of them by themselves: what large ones hide shows among small ones.
_FEW: Final = 4
#: Of so many rows there are others that lack some of their fractions.
_LACKING: Final = 8
#: What authors write for a number that is missing where it is not NaN, and in how many places it is tried.
_CODES: Final = (-1, 999, -999)
_PLACES: Final = 32
#: Numbers of rows with a code are as small as many of those drawn are: normal ones stay below that, as a rule.
_SMALL_NUMBER: Final = 4
#: Of these, so many are run together.
_BESIDE: Final = 32
#: In batches of so many rows every place has a row of each kind; in others it takes turns from size to size.
_THOROUGH: Final = (*ROWS[1:8], ROWS[-1])


@dataclass(frozen=True, slots=True)
class _Answered:
    """A row, and what it is answered alone, output by output of those that are compared."""

    row: _Row
    answers: Sequence[NDArray[Any]]


def check_apart(session: onnxruntime.InferenceSession, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
    """Raise Unfit when rows give something else beside each other than alone; fractions may differ a little.

    Every number of rows that serving gives at once is tried, with rows that have all of their numbers, and with some
    among them that lack some (NaN) or all. That is a trial: another mixture of rows may show what these do not.

    Rows that are not answered alone are left out: a model need not take every number. One that answers no two rows that
    differ, though zeros and others that are close to them are among those drawn, is refused, as nothing is known of it.
    Outputs that are no fractions are not compared, since a label may change with the last digit of a probability.
    """
    judged = [at for at, output in enumerate(outputs) if output.datatype in _FRACTIONS and output.shape[:1] == (None,)]
    if not judged or all(given.shape[:1] != (None,) for given in inputs):
        return
    random = np.random.default_rng(_SEED)
    found = _enough(session, inputs, judged, random)
    if not any(_differ(found[0].row, each.row) for each in found[1:]):
        raise Unfit("of the rows that it is tried on it answers no two that differ; give it tables with defaults")
    rows = [each.row for each in found]
    coded = _answered(session, _coded(session, inputs, rows), judged)
    lacking = [_answered(session, each, judged) for each in _lacking(session, inputs, rows, random)]
    for some in _batches(found, [kind for kind in (*lacking, coded) if kind], coded):
        _compare(session, inputs, some, [(at, outputs[at].name) for at in judged], found)


def _batches(
    found: Sequence[_Answered], lacking: Sequence[Sequence[_Answered]], coded: Sequence[_Answered]
) -> Iterator[Sequence[_Answered]]:
    """Yield rows to be run together: all, a few that are alike, and as many as serving may give, whole and mixed."""
    yield found
    yield from (found[at : at + _FEW] for at in range(0, len(found), _FEW))
    for at in range(0, len(coded), _BESIDE):
        yield [*coded[at : at + _BESIDE], *found[:_FEW]]
    whole = cycle(found)
    mixed = (whole, whole, *map(cycle, lacking))
    for size in ROWS[1:]:
        yield _below_each_other([whole] * _FEW, size, 0)
        for turn in range(len(mixed) if size in _THOROUGH else 1) if lacking else ():
            yield _below_each_other(mixed, size, size + turn)


def _below_each_other(kinds: Sequence[Iterator[_Answered]], size: int, turn: int) -> Sequence[_Answered]:
    """Return so many rows, the next one of each kind several times: a large forest is slow where every row differs."""
    rows = [next(kind) for kind in kinds]
    return [rows[(place * len(rows) // size + turn) % len(rows)] for place in range(size)]


def _compare(
    session: onnxruntime.InferenceSession,
    inputs: Sequence[Tensor],
    some: Sequence[_Answered],
    judged: Sequence[tuple[int, str]],
    every: Sequence[_Answered],
) -> None:
    """Raise Unfit when rows are answered otherwise together than each alone; outputs are judged by place and name.

    By how little they may differ goes by how far they spread, and not only they, of which there may be two: 1 - p has
    the last digits of 1, however small it is.
    """
    try:
        together = session.run(None, _beside(session, inputs, [each.row for each in some]))
    except RUN_FAULTS as fault:
        raise Unfit(f"rows that it answers alone it does not answer beside others: {shown(fault, 300)}") from fault
    for place, (at, name) in enumerate(judged):
        alone, all_alone = (np.concatenate([each.answers[place] for each in rows]) for rows in (some, every))
        if not _close(together[at], alone, np.minimum(_range(all_alone)[0], 1) * _OF_ALL):
            raise Unfit(f"output '{name}' of a row beside others is not what it is alone ({len(some)} in a batch)")


def _enough(
    session: onnxruntime.InferenceSession, inputs: Sequence[Tensor], judged: Sequence[int], random: np.random.Generator
) -> Sequence[_Answered]:
    """Return rows that are answered alone, as soon as there are enough of them."""
    found: list[_Answered] = []
    for draw in _DRAWS:
        found += _answered(session, [_drawn(session, inputs, kind, random) for kind in draw], judged)
        if len(found) >= _ENOUGH:
            break
    return found


def _answered(
    session: onnxruntime.InferenceSession, rows: Sequence[_Row], judged: Sequence[int]
) -> Sequence[_Answered]:
    """Return those of some rows that are answered alone."""
    found = []
    for row in rows:
        try:
            answer = session.run(None, row)
        except RUN_FAULTS:
            continue  # it does not take these numbers
        found.append(_Answered(row, [answer[at] for at in judged]))
    return found


def _lacking(
    session: onnxruntime.InferenceSession, inputs: Sequence[Tensor], rows: Sequence[_Row], random: np.random.Generator
) -> tuple[Sequence[_Row], Sequence[_Row]]:
    """Return rows that lack some fractions, each number in one of two of them, and one that lacks all, if any can.

    By turns about half is lacking, or one number, or all but one.
    """
    taken = zip((given.name for given in session.get_inputs()), inputs, strict=True)
    shapes = {name: _shape(each) for name, each in taken if each.datatype in _FRACTIONS and each.shape[:1] == (None,)}
    if not shapes:
        return [], []
    partly = []
    for turn, row in enumerate(rows[:_LACKING]):
        chance = {name: random.random(shape) for name, shape in shapes.items()}
        every = np.concatenate([numbers.ravel() for numbers in chance.values()])
        least = every.min() if turn % 2 else np.median(every)
        there = {name: numbers > least for name, numbers in chance.items()}
        partly.append(_only(row, there))
        partly.append(_only(row, {name: ~mask for name, mask in there.items()}))
    return partly, [_only(rows[0], {name: np.zeros(shape, bool) for name, shape in shapes.items()})]


def _coded(session: onnxruntime.InferenceSession, inputs: Sequence[Tensor], rows: Sequence[_Row]) -> Sequence[_Row]:
    """Return rows with a code for a missing number in one place of each: a row with each code there, place by place.

    The others of its numbers are small: where large ones cancel each other, last digits are not the last any more.
    There are none where no row of small numbers is answered.
    """
    taken = zip((given.name for given in session.get_inputs()), inputs, strict=True)
    numbers = [(name, _shape(each)) for name, each in taken if each.shape[:1] == (None,) and each.datatype in _NUMBERS]
    places = [(name, index) for name, shape in numbers for index in np.ndindex(*shape)]
    small = [row for row in rows if all(np.abs(row[name]).max() <= _SMALL_NUMBER for name, _ in numbers)]
    taken_in_turn = zip(cycle(small), islice(places, _PLACES), strict=False)
    return [_with(row, *place, code) for row, place in taken_in_turn for code in _CODES]


def _with(row: _Row, name: str, index: tuple[int, ...], code: int) -> _Row:
    """Return a row with another number in one place; a code that is too large for it is cut off as integers are."""
    numbers = row[name].copy()
    numbers[index] = np.array(code).astype(numbers.dtype)
    return {**row, name: numbers}


def _only(row: _Row, there: Mapping[str, NDArray[np.bool_]]) -> _Row:
    """Return a row that lacks the numbers which are not there."""
    return {**row, **{name: np.where(mask, row[name], row[name].dtype.type(nan)) for name, mask in there.items()}}


def _drawn(
    session: onnxruntime.InferenceSession, inputs: Sequence[Tensor], kind: _Kind, random: np.random.Generator
) -> _Row:
    """Return one row of a kind; an input that has not as many rows as are given is zeros."""
    widths = [prod(_shape(given)) if given.shape[:1] == (None,) else 0 for given in inputs]
    numbers = np.split(kind(random, sum(widths)), np.cumsum(widths)[:-1])
    names = (given.name for given in session.get_inputs())
    return {name: _as(given, part) for name, given, part in zip(names, inputs, numbers, strict=True)}


def _as(tensor: Tensor, numbers: NDArray[np.float64]) -> NDArray[Any]:
    """Return numbers, or zeros without them, as an input takes them; as texts if it takes these, of 0 one of no length.

    For whole numbers they are rounded, and without their sign for those that have none.
    """
    shape = _shape(tensor)
    numbers = numbers if len(numbers) else np.zeros(prod(shape))
    if tensor.datatype == "STRING":
        return np.array([str(int(number)) if number else "" for number in numbers], object).reshape(shape)
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(TensorProto.DataType.Value(tensor.datatype)))
    if dtype.kind in "iu":
        whole = np.rint(np.abs(numbers) if dtype.kind == "u" else numbers).astype(np.int64)
        return whole.astype(dtype).reshape(shape)
    return numbers.astype(dtype).reshape(shape)


def _shape(tensor: Tensor) -> list[int]:
    """Return the shape of an input for one row."""
    return [dim or 1 for dim in tensor.shape]


def _close(together: NDArray[Any], alone: NDArray[Any], least: NDArray[np.float64]) -> bool:
    """Tell whether fractions differ by no more than last digits do, as those of one place spread, and as they are.

    For each place there is a spread that it has at least.
    """
    if together.shape != alone.shape:
        return False
    spread, largest = _range(alone)
    part = _CLOSE if alone.dtype == np.float16 else _CLOSE / 10
    may = _CLOSE * np.minimum(np.maximum(spread, least), 1) + _LAST * largest
    return bool(np.isclose(together, alone, part, may, equal_nan=True).all())


def _range(numbers: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return for each place of rows how far its numbers spread, and the largest without its sign; 0 without numbers."""
    found, there = numbers.astype(np.float64), np.isfinite(numbers)
    most = np.max(found, axis=0, initial=-np.inf, where=there)
    least = np.min(found, axis=0, initial=np.inf, where=there)
    any_there = there.any(axis=0)
    largest = np.maximum(np.abs(most), np.abs(least))
    return np.where(any_there, most - least, 0), np.where(any_there, largest, 0)


def _differ(one: _Row, other: _Row) -> bool:
    return any(not np.array_equal(values, other[name]) for name, values in one.items())


def _beside(session: onnxruntime.InferenceSession, inputs: Sequence[Tensor], rows: Sequence[_Row]) -> _Row:
    """Return rows below each other."""
    given = zip((each.name for each in session.get_inputs()), inputs, strict=True)
    return {
        name: np.concatenate([row[name] for row in rows]) if tensor.shape[:1] == (None,) else rows[0][name]
        for name, tensor in given
    }
