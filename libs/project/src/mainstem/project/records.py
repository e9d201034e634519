"""From JSON records to columns, a batch at a time, and from a refused record to its reason.

Good records take the fast path: one typed decoder made from the contract, nothing untyped on the way.
Only a record that the decoder refuses is looked at slowly, to name the reason, the column and the value.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from mainstem.project.columns import Column, Gathered
from mainstem.project.contract import SourceContract
from mainstem.project.reasons import Fault, Reason

#: A batch by column name.
Columns = dict[str, Gathered]

#: What decoding a payload that is no JSON, or not of the type that is asked for, may raise.
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_MINUTE_US: Final = 60_000_000


class Judgement(NamedTuple):
    """What became of a batch, row for row."""

    #: The first fault of each record; None for a good one.
    faults: list[Fault | None]
    #: Where a readable record has a null, for each column that a batch rule watches.
    nulls: dict[str, npt.NDArray[np.bool_]]


class Decoder:
    """Decodes and judges the records of one source. Cheap to use, not cheap to make: keep one for each contract."""

    def __init__(self, contract: SourceContract) -> None:
        self._contract = contract
        self._decode: Callable[[bytes], msgspec.Struct] = msgspec.json.Decoder(_struct(contract)).decode

    def columns(self, values: Sequence[bytes]) -> Columns:
        """Return accepted records as columns, row for row; raise ValueError when the contract refuses one."""
        try:
            records = list(map(self._decode, values))
        except UNREADABLE as error:
            raise ValueError(f"a record of {self._contract.name!r} was never accepted: {error}") from error
        return {
            name: column.gather([getattr(record, name) for record in records])
            for name, column in self._contract.columns.items()
        }

    def judge(
        self,
        values: Sequence[bytes],
        keys: Sequence[bytes | None],
        event_time_us: npt.NDArray[np.int64],
        arrival_us: npt.NDArray[np.int64],
    ) -> Judgement:
        """Judge a batch: the payloads first, column by column in the order of the contract, then keys, then times."""
        records = self._records(values)
        faults = [
            examine(self._contract, value) if record is None else self._key_fault(record, key)
            for value, record, key in zip(values, records, keys, strict=True)
        ]
        for row, fault in _time_faults(self._contract, event_time_us, arrival_us):
            faults[row] = faults[row] or fault
        nulls = {
            column: np.array([record is not None and getattr(record, column) is None for record in records], np.bool_)
            for column in self._contract.batch.max_null
        }
        return Judgement(faults, nulls)

    def _records(self, values: Sequence[bytes]) -> list[msgspec.Struct | None]:
        """Decode all at once; only when one fails, one by one with None for those that fail."""
        try:
            return list(map(self._decode, values))
        except UNREADABLE:
            return [self._record(value) for value in values]

    def _record(self, value: bytes) -> msgspec.Struct | None:
        try:
            return self._decode(value)
        except UNREADABLE:
            return None

    def _key_fault(self, record: msgspec.Struct, key: bytes | None) -> Fault | None:
        name = self._contract.key
        wanted: str = getattr(record, name)
        if key == wanted.encode():
            return None
        found = "no key" if key is None else f"key {key!r}"
        return Fault(Reason.KEY_MISMATCH, name, f"{found}, the record says {wanted!r}")


def examine(contract: SourceContract, value: bytes) -> Fault:
    """Return why the decoder refused a payload; the first fault by name of column."""
    if not value:
        return Fault(Reason.MALFORMED_JSON, None, "the payload is empty")
    try:
        document = msgspec.json.decode(value)
    except msgspec.ValidationError as error:
        return _beyond_numbers(value, error)
    except UNREADABLE as error:
        return Fault(Reason.MALFORMED_JSON, None, str(error))
    if not isinstance(document, dict):
        return Fault(Reason.NOT_AN_OBJECT, None, f"the payload is of type {type(document).__name__}")
    return _first_fault(contract, document) or Fault(Reason.MALFORMED_JSON, None, "a field stands in it twice")


def _beyond_numbers(value: bytes, error: msgspec.ValidationError) -> Fault:
    """Name the field with a number that neither an integer nor a float can hold; `error` is what decoding it raised."""
    try:
        fields = msgspec.json.decode(value, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        return Fault(Reason.NOT_AN_OBJECT, None, f"the payload is no object, and holds: {error}")
    except UNREADABLE as fault:  # behind the number
        return Fault(Reason.MALFORMED_JSON, None, str(fault))
    for name, raw in fields.items():
        try:
            msgspec.json.decode(raw)
        except msgspec.ValidationError as fault:
            return Fault(Reason.OUT_OF_RANGE, name, f"{name}: {fault}")
        except UNREADABLE as fault:  # where the field stood before
            return Fault(Reason.MALFORMED_JSON, None, str(fault))
    return Fault(Reason.MALFORMED_JSON, None, "a field stands in it twice")


def _first_fault(contract: SourceContract, document: dict[str, object]) -> Fault | None:
    for name, column in contract.columns.items():
        fault = _column_fault(name, column, document)
        if fault is not None:
            return fault
    for name in document:
        if name not in contract.columns:
            return Fault(Reason.UNKNOWN_FIELD, name, f"the contract of {contract.name!r} has no such column")
    return None


def _column_fault(name: str, column: Column, document: dict[str, object]) -> Fault | None:
    value = document.get(name)
    if value is not None:
        complaint = column.complaint(value)
        return None if complaint is None else Fault(complaint[0], name, f"{name}: {complaint[1]}")
    if column.nullable:
        return None
    if name in document:
        return Fault(Reason.NULL_NOT_ALLOWED, name, f"{name}: null, and the column is not nullable")
    return Fault(Reason.MISSING_FIELD, name, f"{name}: absent, and the column is not nullable")


def _time_faults(
    contract: SourceContract, event_time_us: npt.NDArray[np.int64], arrival_us: npt.NDArray[np.int64]
) -> list[tuple[int, Fault]]:
    age = arrival_us - event_time_us
    ahead = [
        (int(row), Fault(Reason.EVENT_AFTER_ARRIVAL, None, _ahead(-age[row], contract.ahead)))
        for row in np.flatnonzero(age < -contract.ahead)
    ]
    old = [
        (int(row), Fault(Reason.TOO_OLD, None, f"{_minutes(age[row])} old, at most {_minutes(contract.max_age)}"))
        for row in np.flatnonzero(age > contract.max_age)
    ]
    return ahead + old


def _ahead(found_us: int, allowed_us: int) -> str:
    return f"{_minutes(found_us)} after its arrival, at most {_minutes(allowed_us)}"


def _minutes(duration_us: int) -> str:
    return f"{duration_us / _MINUTE_US:.0f} min"


def _struct(contract: SourceContract) -> type:
    """Return the msgspec struct of a record; a nullable field may be left out."""
    required = [(name, column.annotation()) for name, column in contract.columns.items() if not column.nullable]
    optional = [
        (name, column.annotation() | None, None) for name, column in contract.columns.items() if column.nullable
    ]
    return msgspec.defstruct(contract.name, [*required, *optional], forbid_unknown_fields=True, gc=False)
