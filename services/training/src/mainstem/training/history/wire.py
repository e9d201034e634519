"""Feature rows, labels and markers as they travel: read many at once, and what cannot be read is left out by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from mainstem.events.fence import read_origin
from mainstem.events.instant_columns import parse_all
from mainstem.events.instants import NEVER, parse
from mainstem.events.record import Record
from mainstem.telemetry import logger, metrics

Headers = dict[str, bytes]
#: A record with its headers by name.
Pair = tuple[Record, Headers]
Ints = NDArray[np.int64]
T = TypeVar("T")

_NOT_OURS = (KeyError, ValueError, RecursionError, msgspec.MsgspecError)
_log = logger(__name__)


class Row(msgspec.Struct):
    """What of a feature row is learnt from; a value that is unknown is None."""

    entity: str
    spine_id: str
    values: list[float | None]


class _Named(msgspec.Struct):
    definition: str = ""


class _Accepted(msgspec.Struct):
    record: msgspec.Raw


class _Until(msgspec.Struct):
    until: str


_NAMED = msgspec.json.Decoder(_Named)
_ROW = msgspec.json.Decoder(Row)
_ACCEPTED = msgspec.json.Decoder(_Accepted)
_UNTIL = msgspec.json.Decoder(_Until)


@dataclass(frozen=True, slots=True)
class Stamps:
    """What headers and places of records say, record for record; instants are microseconds since 1970."""

    ids: list[str]
    recorded: Ints
    times: Ints
    partitions: Ints
    offsets: Ints


def of_definition(record: Record) -> str | None:
    """Return the identity of the feature set that a record names; None when it names none, whatever it is."""
    try:
        return _NAMED.decode(record.value or b"").definition or None
    except _NOT_OURS:
        return None


def feature_rows(values: Sequence[bytes], width: int) -> list[Row]:
    """Return feature rows; raise ValueError or MsgspecError when one is none, or has not so many values."""
    found = [_ROW.decode(value) for value in values]
    if any(len(row.values) != width for row in found):
        raise ValueError(f"a row has not the {width} values of its feature set")
    return found


def accepted(values: Sequence[bytes]) -> list[bytes]:
    """Return the source's own records out of accepted ones; raise MsgspecError when one is none."""
    return [bytes(_ACCEPTED.decode(value).record) for value in values]


def announced(marker: Record) -> int | None:
    """Return the instant that a marker announces; None for one that cannot be read, which is left out by name."""
    try:
        return parse(_UNTIL.decode(marker.value or b"").until)
    except _NOT_OURS as fault:
        leave_out(marker, str(fault))
        return None


def readable(pairs: list[Pair], read: Callable[[list[bytes]], T]) -> tuple[Stamps, T]:
    """Return the stamps of the records that can be read, and what `read` makes of them; others are left out by name."""
    try:
        return _stamps(pairs), read([record.value or b"" for record, _ in pairs])
    except _NOT_OURS:
        kept = []
        for pair in pairs:
            try:
                _stamps([pair])
                read([pair[0].value or b""])
            except _NOT_OURS as fault:
                leave_out(pair[0], str(fault))
            else:
                kept.append(pair)
        return _stamps(kept), read([record.value or b"" for record, _ in kept])


def leave_out(record: Record, why: str) -> None:
    """Tell of a record that no service of ours wrote."""
    where = f"{record.topic}/{record.partition}/{record.offset}"
    metrics.PARKED.labels(record.topic).inc()
    _log.error("left out %s: %s; fix its writer", where, why, extra={"action": "left_out"})


def _stamps(pairs: Sequence[Pair]) -> Stamps:
    """Read the headers; raise KeyError or ValueError unless they are as the platform writes them."""
    if any(read_origin(found["ce_origin"]) is None for _, found in pairs):
        raise ValueError("its ce_origin is none of ours")
    return Stamps(
        [found["ce_id"].decode() for _, found in pairs],
        _instants(pairs, "ce_recordedtime"),
        _instants(pairs, "ce_time"),
        np.array([record.partition for record, _ in pairs], np.int64),
        np.array([record.offset for record, _ in pairs], np.int64),
    )


def _instants(pairs: Sequence[Pair], name: str) -> Ints:
    found = parse_all([headers[name] for _, headers in pairs])
    if (found == NEVER).any():
        raise ValueError(f"its {name} is no RFC 3339 instant")
    return found
