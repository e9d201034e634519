"""The log read back as columns: what an outsider finds in the topics, with nothing of the services in between."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final
from zlib import crc32

import msgspec
import numpy as np
import numpy.typing as npt

from mainstem.bus.reader import LogReader
from mainstem.events.data import ProgressReached, RecordQuarantined
from mainstem.events.features import OrderJournalled, RowComputed
from mainstem.events.instant_columns import parse_all
from mainstem.events.record import Record

#: Columns of equal length. All tables of records have `id`, `cause`, `key`, `partition`, `number` (of the
#: record in its writer's own order), `time_us`, `recorded_us` and `crc`, the checksum of the payload.
Table = dict[str, npt.NDArray[Any]]

_PROGRESS: Final = ProgressReached.TYPE.encode()


class _Departure(msgspec.Struct, gc=False):
    carrier: str
    origin: str
    dest: str
    tail: str
    sched_dep: str
    distance: int
    dep_delay: int


class _Arrival(msgspec.Struct, gc=False):
    carrier: str
    dest: str
    tail: str
    arr_delay: int | None = None


class _Weather(msgspec.Struct, gc=False):
    origin: str
    visib: float
    wind: float | None = None


class _Scheduled(msgspec.Struct, gc=False):
    """Nothing of it is needed."""


class _Row(msgspec.Struct, gc=False):
    spine_id: str
    values: msgspec.Raw


class LookedUp(msgspec.Struct, gc=False):
    """How a flight was described whose features were looked up, at which moment, and after how many records."""

    at: str
    applied: int
    columns: dict[str, str | float | None]


class _Prediction(msgspec.Struct, gc=False):
    version: int
    channel: str
    row: str | None
    features: msgspec.Raw
    score: float
    lookup: LookedUp | None = None


_TYPES: Final[dict[str, npt.DTypeLike]] = {
    "carrier": "S2",
    "origin": "S3",
    "dest": "S3",
    "tail": "S6",
    "sched_dep": "S20",
    "distance": np.int64,
    "dep_delay": np.int64,
    "arr_delay": np.float64,
    "visib": np.float64,
    "wind": np.float64,
    "spine_id": "S32",
    "version": np.int64,
    "channel": "S6",
    "score": np.float64,
}
_decode_values = msgspec.json.Decoder(list[list[float | None]]).decode


def _accepted(record: type[msgspec.Struct]) -> Callable[[Sequence[bytes]], Table]:
    """Return what turns accepted events of a source into the columns of its record."""
    decode: Any = msgspec.json.Decoder(msgspec.defstruct("Accepted", [("record", record)])).decode
    names = record.__struct_fields__
    return lambda values: _columns([decode(value).record for value in values], names)


def _rows(values: Sequence[bytes]) -> Table:
    rows = [msgspec.json.decode(value, type=_Row) for value in values]
    matrix = np.array(_decode_values(b"[" + b",".join([bytes(row.values) for row in rows]) + b"]"), np.float64)
    return {**_columns(rows, ["spine_id"]), "values": matrix, "inputs": _checksums(row.values for row in rows)}


def _predictions(values: Sequence[bytes]) -> Table:
    found = [msgspec.json.decode(value, type=_Prediction) for value in values]
    rows = np.array([one.row or "" for one in found], "S32")
    return {
        **_columns(found, ["version", "channel", "score"]),
        "row": rows,
        "inputs": _checksums(one.features for one in found),
        "lookup": _objects([one.lookup for one in found]),
        "features": _objects([None if one.lookup is None else bytes(one.features) for one in found]),
    }


def _objects(values: Sequence[object]) -> npt.NDArray[Any]:
    found = np.empty(len(values), object)
    found[:] = values
    return found


def _columns(records: Sequence[msgspec.Struct], names: Sequence[str]) -> Table:
    return {name: np.array([getattr(record, name) for record in records], _TYPES[name]) for name in names}


def _checksums(payloads: Iterable[msgspec.Raw]) -> npt.NDArray[np.uint32]:
    return np.array([crc32(payload) for payload in payloads], np.uint32)


@dataclass(frozen=True)
class Log:
    """What stands in the log: accepted records by source, rows, predictions, refusals, and the order of application."""

    accepted: dict[str, Table]
    rows: Table
    predictions: Table
    refused: list[RecordQuarantined]
    journal: list[OrderJournalled]


_SOURCES: Final[Mapping[str, type[msgspec.Struct]]] = {
    "flight_scheduled": _Scheduled,
    "flight_departed": _Departure,
    "flight_arrived": _Arrival,
    "weather_observed": _Weather,
}


class Reading:
    """Takes records of the data topics, each partition's in order, and gives the log as columns."""

    def __init__(self, feature_set: str, model: str) -> None:
        self._rows, self._predictions = RowComputed.topic_of(feature_set), f"tel.prediction.{model}"
        self._tables = {f"evt.data.{name}": Gatherer(_accepted(record)) for name, record in _SOURCES.items()}
        self._tables |= {self._rows: Gatherer(_rows), self._predictions: Gatherer(_predictions)}
        self._refused: dict[str, RecordQuarantined] = {}
        self._journal: dict[int, OrderJournalled] = {}

    @property
    def topics(self) -> list[str]:
        """Return the topics it reads."""
        return [*self._tables, "evt.data.quarantine", "evt.feature.journal"]

    def take(self, records: Sequence[Record]) -> None:
        """Take records of these topics."""
        for topic, run in groupby(records, key=lambda record: record.topic):
            if topic in self._tables:
                self._tables[topic].take(list(run))
            else:
                self._take_facts(run)

    def _take_facts(self, records: Iterable[Record]) -> None:
        """Keep refusals and journal entries, each once."""
        for record in records:
            kind, value = dict(record.headers)["ce_type"].decode(), record.value or b""
            if kind == RecordQuarantined.TYPE:
                refusal = RecordQuarantined.model_validate_json(value)
                self._refused[refusal.quarantine_id] = refusal
            elif kind == OrderJournalled.TYPE:
                entry = OrderJournalled.model_validate_json(value)
                self._journal[entry.number] = entry

    def log(self) -> Log:
        """Return what was taken."""
        return Log(
            {name: self._tables[f"evt.data.{name}"].table() for name in _SOURCES},
            self._tables[self._rows].table(),
            self._tables[self._predictions].table(),
            list(self._refused.values()),
            [self._journal[number] for number in sorted(self._journal)],
        )


async def read_log(bootstrap: str, feature_set: str, model: str) -> Log:
    """Read the data topics from beginning to end."""
    reading = Reading(feature_set, model)
    async with LogReader(bootstrap, reading.topics) as reader:
        await reader.start()
        async for records in reader.to_end():
            reading.take(records)
    return reading.log()


class Gatherer:
    """Collects the records of one topic, markers left out, as columns."""

    def __init__(self, extract: Callable[[Sequence[bytes]], Table]) -> None:
        self._extract = extract
        self._parts: list[Table] = []

    def take(self, records: Sequence[Record]) -> None:
        """Add records, each partition's in order."""
        pairs = [(record, dict(record.headers)) for record in records]
        pairs = [(record, headers) for record, headers in pairs if headers["ce_type"] != _PROGRESS]
        if not pairs:
            return
        values = [record.value or b"" for record, _ in pairs]
        part: Table = {
            "id": np.array([headers["ce_id"] for _, headers in pairs], "S32"),
            "cause": np.array([headers["ce_causationid"] for _, headers in pairs], "S48"),
            "key": np.array([record.key or b"" for record, _ in pairs], "S24"),
            "partition": np.array([record.partition for record, _ in pairs], np.int16),
            "number": np.array([headers["ce_origin"].rpartition(b"/")[2] for _, headers in pairs]).astype(np.int64),
            "time_us": parse_all([headers["ce_time"] for _, headers in pairs]),
            "recorded_us": parse_all([headers["ce_recordedtime"] for _, headers in pairs]),
            "crc": np.array([crc32(value) for value in values], np.uint32),
        }
        self._parts.append({**part, **self._extract(values)})

    def table(self) -> Table:
        """Give away what was collected; no columns when nothing was."""
        names = list(self._parts[0]) if self._parts else []
        return {name: np.concatenate([part.pop(name) for part in self._parts]) for name in names}


def once(table: Mapping[str, npt.NDArray[Any]]) -> tuple[Table, int]:
    """Return the first copy of each event, in the order of the log, and how many of the others differ from it."""
    _, first, same_as = np.unique(table["id"], return_index=True, return_inverse=True)
    differing = int((table["crc"] != table["crc"][first][same_as]).sum())
    if len(first) == len(same_as):
        return dict(table), 0
    kept = np.sort(first)
    return {name: column[kept] for name, column in table.items()}, differing
