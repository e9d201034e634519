"""What the log says up to a cut: feature rows and labels, read once and kept: the next run reads only what is new."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from mainstem.bus.reader import LogReader
from mainstem.events.catalogue import Record
from mainstem.events.data import ProgressReached, RecordAccepted
from mainstem.events.features import RowComputed
from mainstem.events.fence import Fence, read_origin
from mainstem.events.instants import NEVER, parse, parse_all, render
from mainstem.project.contract import SourceContract
from mainstem.project.model import Label
from mainstem.project.records import Decoder
from mainstem.telemetry import logger, metrics
from mainstem.training.ports import NotReached

Partition = tuple[str, int]
Headers = dict[str, bytes]

Pair = tuple[Record, Headers]
T = TypeVar("T")

_PROGRESS = ProgressReached.TYPE.encode()
_ROW_TYPE = RowComputed.TYPE.encode()
_ACCEPTED_TYPE = RecordAccepted.TYPE.encode()
_NOT_OURS = (KeyError, ValueError, msgspec.MsgspecError)
_log = logger(__name__)
#: So long a marker is waited for that may be on its way.
_PATIENCE_S = 1.0


class _Row(msgspec.Struct):
    entity: str
    values: list[float | None]


class _Accepted(msgspec.Struct):
    record: msgspec.Raw


class _Until(msgspec.Struct):
    until: str


_ROW = msgspec.json.Decoder(_Row)
_ACCEPTED = msgspec.json.Decoder(_Accepted)
_UNTIL = msgspec.json.Decoder(_Until)


@dataclass(slots=True)
class _Read:
    """What was read of one topic, batch by batch, in the order of the partitions."""

    ids: list[list[str]] = field(default_factory=list)
    entities: list[list[str]] = field(default_factory=list)
    recorded: list[NDArray[np.int64]] = field(default_factory=list)
    times: list[NDArray[np.int64]] = field(default_factory=list)
    values: list[NDArray[np.float64]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows recorded in a span whose label was recorded before the cut; sorted by recorded time, then id."""

    ids: list[str]
    entities: list[str]
    recorded_us: NDArray[np.int64]
    time_us: NDArray[np.int64]
    x: NDArray[np.float64]
    y: NDArray[np.int64]
    unlabelled: int
    #: Number after the last record before the cut, by topic and origin stream: the same however often it was delivered.
    positions: dict[str, int]


class History:
    """Rows of one feature set and labels of one source, as the log has them."""

    def __init__(self, feature_set: str, width: int, label: Label, contract: SourceContract, live: bool) -> None:
        self._rows_topic = f"evt.feature.{feature_set}"
        self._label_topic = f"evt.data.{label.source}"
        self._width = width
        self._label = label
        self._decoder = Decoder(contract)
        self._live = live
        self._fence = Fence()
        self._through: dict[Partition, int] = {}
        self._ends: dict[str, list[tuple[int, int]]] = {}
        self._rows = _Read()
        self._labels = _Read()

    async def read_until(self, bootstrap: str, cut_us: int) -> None:
        """Read on until every partition has shown that nothing before the cut is still to come.

        A source that announces progress shows it by a marker; a live one is taken to its end as it is now.
        Raises NotReached when all was read, and no marker of a partition is that late.
        """
        async with LogReader(bootstrap, [self._rows_topic, self._label_topic]) as reader:
            await reader.start(self._fence.offsets())
            ends = await reader.ends()
            for place in ends:
                self._through.setdefault(place, NEVER)
            while missing := [place for place, end in ends.items() if not self._complete(place, end, cut_us)]:
                records = await reader.poll(timeout_s=_PATIENCE_S)
                if not records:
                    raise NotReached(self._why(missing, cut_us))
                self._take(records)

    def _why(self, missing: Sequence[Partition], cut_us: int) -> str:
        topic, partition = place = missing[0]
        reached = self._through.get(place, NEVER)
        announced = "nothing" if reached == NEVER else f"all before {render(reached)}"
        return (
            f"{topic}/{partition} has announced {announced}, the cut is {render(cut_us)}; the source must announce it"
        )

    def _complete(self, place: Partition, end: int, cut_us: int) -> bool:
        if self._live:
            return self._fence.offsets([place]).get(place, 0) >= end
        return self._through[place] >= cut_us - 1

    def _take(self, records: Sequence[Record]) -> None:
        fresh, headers = self._fence.admit(records)
        rows, labels = [], []
        for record, found in zip(fresh, headers, strict=True):
            kind = found.get("ce_type")
            if kind == _PROGRESS:
                self._pass(record)
            elif kind == _ROW_TYPE and record.topic == self._rows_topic:
                rows.append((record, found))
            elif kind == _ACCEPTED_TYPE and record.topic == self._label_topic:
                labels.append((record, found))
            else:
                _leave_out(record, f"no feature row and no accepted record, but {kind!r}")
        rows, found_rows = _readable(rows, self._read_rows)
        if rows:
            values = np.array([row.values for row in found_rows], np.float64)
            self._keep(self._rows, rows, [row.entity for row in found_rows], values)
        labels, columns = _readable(labels, self._read_labels)
        if labels:
            values = np.asarray(columns[self._label.column], np.float64).reshape(-1, 1)
            self._keep(self._labels, labels, list(columns[self._label.key]), values)

    def _pass(self, marker: Record) -> None:
        place = marker.topic, marker.partition
        try:
            until = parse(_UNTIL.decode(marker.value or b"").until)
        except _NOT_OURS as fault:
            _leave_out(marker, str(fault))
        else:
            self._through[place] = max(self._through[place], until)

    def _read_rows(self, values: list[bytes]) -> list[_Row]:
        rows = [_ROW.decode(value) for value in values]
        if any(len(row.values) != self._width for row in rows):
            raise ValueError(f"a row has not the {self._width} values of its feature set")
        return rows

    def _read_labels(self, values: list[bytes]) -> dict[str, Any]:
        return dict(self._decoder.columns([bytes(_ACCEPTED.decode(value).record) for value in values]))

    def _keep(
        self,
        read: _Read,
        pairs: Sequence[tuple[Record, Headers]],
        entities: list[str],
        values: NDArray[np.float64],
    ) -> None:
        recorded = parse_all([found["ce_recordedtime"] for _, found in pairs])
        read.ids.append([found["ce_id"].decode() for _, found in pairs])
        read.entities.append(entities)
        read.recorded.append(recorded)
        read.times.append(parse_all([found["ce_time"] for _, found in pairs]))
        read.values.append(values)
        for (record, found), at in zip(pairs, recorded.tolist(), strict=True):
            stream, number = read_origin(found["ce_origin"]) or ("", 0)
            self._ends.setdefault(f"{record.topic}<{stream}", []).append((at, number + 1))

    def dataset(self, start_us: int, cut_us: int) -> Dataset:
        """Return the rows recorded from `start_us` and before `cut_us`, each with the label known before `cut_us`."""
        labels = self._labels_before(cut_us)
        ids, entities = _flat(self._rows.ids), _flat(self._rows.entities)
        recorded, times = _joined(self._rows.recorded), _joined(self._rows.times)
        inside = np.flatnonzero((recorded >= start_us) & (recorded < cut_us)).tolist()
        inside.sort(key=lambda i: (recorded[i], ids[i]))
        known = [i for i in inside if entities[i] in labels]
        values = np.concatenate(self._rows.values) if self._rows.values else np.empty((0, self._width))
        return Dataset(
            ids=[ids[i] for i in known],
            entities=[entities[i] for i in known],
            recorded_us=recorded[known],
            time_us=times[known],
            x=values[known],
            y=np.array([labels[entities[i]] for i in known], np.int64),
            unlabelled=len(inside) - len(known),
            positions=self._positions(cut_us),
        )

    def _labels_before(self, cut_us: int) -> Mapping[str, int]:
        """Return the last label of each entity recorded before the cut; a null decides nothing."""
        recorded = _joined(self._labels.recorded)
        entities = _flat(self._labels.entities)
        values = np.concatenate(self._labels.values)[:, 0] if self._labels.values else np.empty(0)
        order = np.argsort(recorded, kind="stable")
        usable = order[(recorded[order] < cut_us) & ~np.isnan(values[order])]
        return {entities[i]: int(values[i] > self._label.above) for i in usable.tolist()}

    def _positions(self, cut_us: int) -> dict[str, int]:
        return {
            stream: max((number for at, number in ends if at < cut_us), default=0)
            for stream, ends in self._ends.items()
        }


def _readable(pairs: list[Pair], read: Callable[[list[bytes]], T]) -> tuple[list[Pair], T]:
    """Return the records that can be read, and what `read` makes of them all; others are left out by name."""
    try:
        _check_headers(pairs)
        return pairs, read([record.value or b"" for record, _ in pairs])
    except _NOT_OURS:
        kept = []
        for pair in pairs:
            try:
                _check_headers([pair])
                read([pair[0].value or b""])
            except _NOT_OURS as fault:
                _leave_out(pair[0], str(fault))
            else:
                kept.append(pair)
        return kept, read([record.value or b"" for record, _ in kept])


def _check_headers(pairs: Sequence[Pair]) -> None:
    """Raise KeyError or ValueError unless these are headers as the platform writes them."""
    for name in ("ce_recordedtime", "ce_time"):
        if (parse_all([found[name] for _, found in pairs]) == NEVER).any():
            raise ValueError(f"its {name} is no RFC 3339 instant")
    for _, found in pairs:
        found["ce_id"].decode()
        if read_origin(found["ce_origin"]) is None:
            raise ValueError("its ce_origin is none of ours")


def _leave_out(record: Record, why: str) -> None:
    """Tell of a record that no service of ours wrote."""
    where = f"{record.topic}/{record.partition}/{record.offset}"
    metrics.PARKED.labels(record.topic).inc()
    _log.error("left out %s: %s; fix its writer", where, why, extra={"action": "left_out"})


def _flat(lists: Sequence[list[str]]) -> list[str]:
    return list(chain.from_iterable(lists))


def _joined(arrays: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([np.empty(0, np.int64), *arrays])
