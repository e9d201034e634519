"""Feature rows and markers of the stream, as they are read."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec
import numpy as np

from mainstem.events.catalogue import encode
from mainstem.events.data import ProgressReached
from mainstem.events.envelope import Event, Message, read_envelope
from mainstem.events.errors import NO_DOCUMENT
from mainstem.events.features import RowComputed
from mainstem.events.ids import child_id
from mainstem.events.instant_columns import parse_all
from mainstem.events.instants import NEVER, parse, render
from mainstem.events.record import Record
from mainstem.serving.domain import SOURCE
from mainstem.serving.entities import Floats
from mainstem.serving.ports import Parked
from mainstem.serving.rule import Places

_ROW = RowComputed.TYPE.encode()
_PROGRESS = ProgressReached.TYPE.encode()


class Row(msgspec.Struct, frozen=True):
    """A feature row whose inputs are still JSON."""

    index: int
    record: Record
    headers: Mapping[str, bytes]
    recorded_us: int
    definition: str
    entity: str
    values: msgspec.Raw


class _Payload(msgspec.Struct):
    definition: str
    entity: str
    values: msgspec.Raw


class _Until(msgspec.Struct):
    until: str


_decode_row = msgspec.json.Decoder(_Payload).decode
_decode_values = msgspec.json.Decoder(list[list[float | None]]).decode
_ID = re.compile(rb"[\w-]{1,64}")
_ASKED_HEADERS = frozenset(("ce_id", "ce_time", "ce_recordedtime", "ce_correlationid"))


def read_rows(records: Sequence[Record], headers: Sequence[Mapping[str, bytes]], parked: list[Parked]) -> list[Row]:
    """Read what the rule and the message need of each row; what is no row of ours is parked."""
    indices = [i for i, found in enumerate(headers) if found.get("ce_type") != _PROGRESS]
    times = parse_all([headers[i].get("ce_recordedtime", b"") for i in indices]).tolist() if indices else []
    rows = []
    for index, recorded_us in zip(indices, times, strict=True):
        record, found = records[index], headers[index]
        if (
            found.get("ce_type") != _ROW
            or recorded_us == NEVER
            or not _ASKED_HEADERS.issubset(found)
            or not _ID.fullmatch(found["ce_id"])
        ):
            parked.append(Parked(record, "the headers are not those of a feature row; fix its writer"))
            continue
        try:
            payload = _decode_row(record.value or b"")
        except NO_DOCUMENT as fault:
            parked.append(Parked(record, f"the payload is no feature row: {fault}"))
            continue
        rows.append(Row(index, record, found, recorded_us, payload.definition, payload.entity, payload.values))
    return rows


def read_markers(
    records: Sequence[Record], headers: Sequence[Mapping[str, bytes]], parked: list[Parked]
) -> dict[int, Event]:
    """Return the markers by their index; their time is the one they announce."""
    found = {}
    for index, record in enumerate(records):
        if headers[index].get("ce_type") != _PROGRESS:
            continue
        try:
            until = msgspec.json.decode(record.value or b"", type=_Until).until
            envelope = replace(read_envelope(record.headers), time_us=parse(until))
        except (KeyError, ValueError, OverflowError, RecursionError) as fault:
            parked.append(Parked(record, f"this is no progress marker: {fault!r}"))
            continue
        found[index] = Event(envelope, ProgressReached(until=until))
    return found


def pass_on(record: Record, event: Event, model: str) -> Message:
    """Return a marker for the same partition of the model's prediction topic."""
    event_id = child_id(event.envelope.id, f"{ProgressReached.TYPE}:{model}")
    return _marker(record, event, model, event_id, f"{record.topic}/{record.partition}/{record.offset}")


def follow_up(record: Record, event: Event, model: str, until_us: int) -> Message:
    """Return a marker that had to wait for this one; id and origin say its instant and not what it waited for."""
    event_id = child_id(f"{model}/{record.partition}/{until_us}", ProgressReached.TYPE)
    return _marker(record, until(event, until_us), model, event_id, f"serving@{model}#progress/{until_us}")


def until(event: Event, until_us: int) -> Event:
    """Return a marker as if it announced another instant."""
    envelope = replace(event.envelope, time_us=until_us, recorded_us=until_us)
    return Event(envelope, ProgressReached(until=render(until_us)))


def _marker(record: Record, event: Event, model: str, event_id: str, origin: str) -> Message:
    envelope = replace(
        event.envelope, id=event_id, source=SOURCE, actor=SOURCE, causation=event.envelope.id, origin=origin
    )
    message = encode(Event(envelope, event.fact))
    return Message(f"tel.prediction.{model}", message.key, message.value, message.headers, record.partition)


def places(rows: Sequence[Row]) -> Places:
    """Return what the rule of routing needs of the rows of one partition."""
    known: dict[str, int] = {}
    codes = [known.setdefault(row.definition, len(known)) for row in rows]
    return Places(
        rows[0].record.topic,
        rows[0].record.partition,
        np.array([row.record.offset for row in rows], np.int64),
        np.array([row.recorded_us for row in rows], np.int64),
        np.array(codes, np.intp),
        list(known),
    )


def inputs(rows: Sequence[Row], width: int, parked: list[Parked]) -> tuple[Sequence[Row], Floats]:
    """Return the rows whose values are `width` numbers or nulls, and these as float64 [rows, width]."""
    try:
        return rows, _matrix(_decode_values(b"[" + b",".join([row.values for row in rows]) + b"]"), width)
    except NO_DOCUMENT as fault:
        if len(rows) == 1:
            parked.append(Parked(rows[0].record, f"the values are not {width} numbers or nulls: {fault}"))
            return (), np.empty((0, width))
    parts = [inputs([row], width, parked) for row in rows]
    return [row for some, _ in parts for row in some], np.concatenate([values for _, values in parts])


def _matrix(values: Sequence[Sequence[float | None]], width: int) -> Floats:
    """Return lists of numbers as an array, null as NaN; raise ValueError when a list is not `width` long."""
    found = np.array(values, np.float64)
    if found.shape != (len(values), width):
        raise ValueError(f"the shape is {found.shape}")
    return found
