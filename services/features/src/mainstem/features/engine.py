"""One fold, three uses: records of accepted topics in any order of polls, feature rows in the one applied order out.

The stream, the backfill and training call the same `Fold`; only what carries its rows away differs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from mainstem.events.catalogue import Record
from mainstem.events.data import ProgressReached
from mainstem.events.fence import Position
from mainstem.events.instants import parse, parse_all
from mainstem.feature_engine import Batch, CompiledSet, Engine, HoldBack
from mainstem.features.domain import Journal, Run
from mainstem.project.contract import SourceContract
from mainstem.project.records import Decoder

Partition = tuple[str, int]
Headers = dict[str, bytes]

_PROGRESS = ProgressReached.TYPE.encode()


class _Accepted(msgspec.Struct):
    record: msgspec.Raw


class _Until(msgspec.Struct):
    until: str


@dataclass(frozen=True, slots=True)
class Applied:
    """A stretch of the applied order: the spine records in it with their values, and the instants passed."""

    spine: list[tuple[Record, Headers]]
    values: npt.NDArray[np.float64]
    #: Instants that all inputs have passed, each with the number of spine records of this stretch before it.
    reached: list[tuple[int, int]]
    #: The order itself up to each reached instant, and after the last of them.
    runs: list[list[Run]]


@dataclass(slots=True)
class _Place:
    """How far one partition was applied."""

    position: Position = field(default_factory=Position)
    floor: int = -(2**63)


class Fold:
    """The feature set as it stands after the records applied so far.

    Promise: the rows and the instants reached are a function of the records alone, whatever the polls, wherever the
    state was stored and restored (for sources that announce progress).
    """

    def __init__(self, compiled: CompiledSet, contracts: Mapping[str, SourceContract]) -> None:
        self.compiled = compiled
        self.journal = Journal()
        self._engine = Engine(compiled)
        self._streams = list(compiled.streams)
        self._decoders = {name: Decoder(contracts[name]) for name in self._streams}
        places = [(f"evt.data.{name}", p) for name in self._streams for p in range(contracts[name].partitions)]
        announced = {(t, p) for t, p in places if contracts[t.removeprefix("evt.data.")].replay}
        self._live = [place for place in places if place not in announced]
        self._places = {place: _Place() for place in places}
        self._merge: HoldBack[tuple[Record, Headers]] = HoldBack(places, announced)

    @property
    def topics(self) -> list[str]:
        """Return the topics it reads."""
        return [f"evt.data.{name}" for name in self._streams]

    @property
    def positions(self) -> dict[Partition, Position]:
        """Return how far each partition was applied; what is held back is not counted and must be read again."""
        return {place: replace(at.position, origins=dict(at.position.origins)) for place, at in self._places.items()}

    def offer(self, records: Sequence[Record], headers: Sequence[Headers]) -> None:
        """Take records, each partition's in order."""
        pairs = sorted(zip(records, headers, strict=True), key=lambda pair: (pair[0].topic, pair[0].partition))
        for place, of_place in groupby(pairs, key=lambda pair: (pair[0].topic, pair[0].partition)):
            for marker, run in groupby(of_place, key=lambda pair: pair[1].get("ce_type") == _PROGRESS):
                if marker:
                    for record, _ in run:
                        self._merge.progress(place, parse(msgspec.json.decode(record.value or b"", type=_Until).until))
                else:
                    self._hold(place, list(run))

    def _hold(self, place: Partition, run: list[tuple[Record, Headers]]) -> None:
        arrivals = parse_all([headers["ce_recordedtime"] for _, headers in run])
        offsets = np.fromiter((record.offset for record, _ in run), np.int64, len(run))
        self._merge.offer(place, np.maximum(arrivals, self._places[place].floor), offsets, run)

    def drained(self, lag: Mapping[Partition, int]) -> None:
        """Note which live partitions were read to their end."""
        for place in self._live:
            if lag.get(place) == 0:
                self._merge.drained(place)

    def advance(self) -> Applied:
        """Apply what nothing can precede any more."""
        released = self._merge.release()
        reached = [(at, place) for at, place in released.reached if at > self.journal.reached_us]
        spine, values, before = self._apply(released.items, released.arrivals, [place for _, place in reached])
        runs = _cut(released.items, [place for _, place in reached])
        return Applied(spine, values, list(zip([at for at, _ in reached], before, strict=True)), runs)

    def _apply(
        self, items: list[tuple[Record, Headers]], arrivals: npt.NDArray[np.int64], cuts: list[int]
    ) -> tuple[list[tuple[Record, Headers]], npt.NDArray[np.float64], list[int]]:
        if not items:
            return [], np.empty((0, len(self.compiled.names))), [0] * len(cuts)
        rows = self._engine.process(self._batch(items))
        for (record, headers), arrival in zip(items, arrivals.tolist(), strict=True):
            at = self._places[record.topic, record.partition]
            at.floor = arrival
            at.position.next_offset = record.offset + 1
            origin = headers.get("ce_origin")
            if origin is not None:
                stream, _, number = origin.decode().rpartition("/")
                at.position.origins[stream] = int(number)
        return [items[i] for i in rows.index], rows.values, np.searchsorted(rows.index, cuts).tolist()

    def _batch(self, items: list[tuple[Record, Headers]]) -> Batch:
        numbers = {f"evt.data.{name}": number for number, name in enumerate(self._streams)}
        stream = np.fromiter((numbers[record.topic] for record, _ in items), np.int8, len(items))
        payloads: dict[str, list[bytes]] = {name: [] for name in self._streams}
        for record, _ in items:
            accepted = _ACCEPTED.decode(record.value or b"")
            payloads[self._streams[numbers[record.topic]]].append(accepted.record)
        columns: dict[str, Any] = {name: self._decoders[name].columns(of) for name, of in payloads.items() if of}
        return Batch(stream, parse_all([headers["ce_time"] for _, headers in items]), columns)

    def snapshot(self) -> bytes:
        """Return everything the fold knows of what was applied."""
        places = [
            (topic, part, at.position.next_offset, at.position.origins, at.floor)
            for (topic, part), at in self._places.items()
        ]
        journal = (self.journal.number, self.journal.applied, self.journal.reached_us, self.journal.open)
        return msgspec.msgpack.encode((self._engine.snapshot(), places, journal))

    def restore(self, state: bytes) -> None:
        """Become the fold that wrote `state`; raises SnapshotError when it is of another feature set."""
        engine, places, (number, applied, reached, runs) = msgspec.msgpack.decode(state)
        self._engine.restore(engine)
        for topic, part, next_offset, origins, floor in places:
            self._places[topic, part] = _Place(Position(next_offset, origins), floor)
        self.journal = Journal(number, applied, reached, [tuple(run) for run in runs])


_ACCEPTED = msgspec.json.Decoder(_Accepted)


def _cut(items: list[tuple[Record, Headers]], cuts: list[int]) -> list[list[Run]]:
    """Return the order of `items` as runs, cut before the item numbers `cuts`."""
    edges = [0, *cuts, len(items)]
    return [_runs(items[a:b]) for a, b in pairwise(edges)]


def _runs(items: list[tuple[Record, Headers]]) -> list[Run]:
    runs: list[Run] = []
    for (topic, partition), run in groupby(items, key=lambda item: (item[0].topic, item[0].partition)):
        offsets = [record.offset for record, _ in run]
        runs.append((topic, partition, offsets[0], offsets[-1], len(offsets)))
    return runs
