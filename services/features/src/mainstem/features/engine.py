"""One fold, three uses: records of accepted topics in any order of polls, feature rows in the one applied order out.

The stream, the backfill and training call the same `Fold`; only what carries its rows away differs.
"""

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import itemgetter

import msgspec
import numpy as np
import numpy.typing as npt

from mainstem.events.catalogue import Record
from mainstem.events.fence import Position
from mainstem.events.instants import parse_all
from mainstem.feature_engine import FIRST_INSTANT, LAST_INSTANT, Batch, CompiledSet, Engine
from mainstem.features.domain import Journal, Run
from mainstem.features.ports import Parked
from mainstem.project.contract import SourceContract
from mainstem.project.records import Decoder
from mainstem.runtime.ordered import Item, OrderedReader, Partition

Micros = npt.NDArray[np.int64]


class _Accepted(msgspec.Struct):
    record: msgspec.Raw


@dataclass(frozen=True, slots=True)
class Applied:
    """A stretch of the applied order: the spine records in it with their values, and the instants passed."""

    spine: list[Item]
    values: npt.NDArray[np.float64]
    #: Instants that all inputs have passed, each with the number of spine records of this stretch before it.
    reached: list[tuple[int, int]]
    #: The order itself up to each reached instant, and after the last of them.
    runs: list[list[Run]]


class Fold:
    """The feature set as it stands after the records applied so far.

    Promise: the rows and the instants reached are a function of the records alone, whatever the polls, wherever the
    state was stored and restored (for sources that announce progress).
    """

    def __init__(self, compiled: CompiledSet, contracts: Mapping[str, SourceContract]) -> None:
        self.compiled = compiled
        self.journal = Journal()
        #: Records that could not be applied, since the last checkpoint.
        self.parked: list[Parked] = []
        self._engine = Engine(compiled)
        lateness = compiled.definition.lateness // 1_000_000
        self._too_late = (
            f"it became known more than {lateness} s after it happened, the lateness of {compiled.label}: "
            "it was not applied; raise the lateness in a new version if such records must count"
        )
        self._streams = list(compiled.streams)
        self._decoders = {name: Decoder(contracts[name]) for name in self._streams}
        self._reader = OrderedReader(
            {
                (f"evt.data.{name}", part): contracts[name].replay
                for name in self._streams
                for part in range(contracts[name].partitions)
            }
        )

    @property
    def topics(self) -> list[str]:
        """Return the topics it reads."""
        return [f"evt.data.{name}" for name in self._streams]

    @property
    def positions(self) -> dict[Partition, Position]:
        """Return how far each partition was applied; what is held back is not counted and must be read again."""
        return self._reader.positions

    def offer(self, records: Sequence[Record]) -> int:
        """Take records, each partition's in order, and return how many of them were new."""
        return self._reader.offer(records)

    def drained(self, lag: Mapping[Partition, int]) -> None:
        """Note which live partitions were read to their end."""
        self._reader.drained(lag)

    def advance(self) -> Applied:
        """Apply what nothing can precede any more."""
        released = self._reader.advance()
        reached = [(at, place) for at, place in released.reached if at > self.journal.reached_us]
        try:
            return self._apply(released.items, released.arrivals, reached)
        except _NOT_OURS:
            kept = [place for place, item in enumerate(released.items) if self._readable(item)]
            items = [released.items[place] for place in kept]
            places = [(at, bisect_left(kept, place)) for at, place in reached]
            return self._apply(items, released.arrivals[kept], places)

    def _readable(self, item: Item) -> bool:
        """Tell whether a record is an accepted one; park it when it is not: it was not ingestion that wrote it."""
        try:
            self._batch([item], np.array([FIRST_INSTANT]))
            _runs([item])
        except _NOT_OURS as fault:
            self.parked.append(Parked(item[0], f"this is no accepted record: {fault}; fix its writer"))
            return False
        return True

    def _apply(self, items: list[Item], arrivals: Micros, reached: list[tuple[int, int]]) -> Applied:
        cuts = [place for _, place in reached]
        runs = _cut(items, cuts)
        if not items:
            return Applied([], np.empty((0, len(self.compiled.names))), [(at, 0) for at, _ in reached], runs)
        rows = self._engine.process(self._batch(items, arrivals))
        self.parked += [Parked(items[place][0], self._too_late) for place in rows.too_late.tolist()]
        before = np.searchsorted(rows.index, cuts).tolist()
        instants = [at for at, _ in reached]
        return Applied([items[i] for i in rows.index], rows.values, list(zip(instants, before, strict=True)), runs)

    def _batch(self, items: list[Item], arrivals: Micros) -> Batch:
        """Return the records as columns; raise KeyError, ValueError or MsgspecError when one was never accepted.

        Where a live source was read behind the others its records arrive, for the fold, when they were read.
        """
        numbers = {f"evt.data.{name}": number for number, name in enumerate(self._streams)}
        stream = np.fromiter((numbers[record.topic] for record, _ in items), np.int8, len(items))
        payloads: dict[str, list[bytes]] = {name: [] for name in self._streams}
        for record, headers in items:
            if not (_ASKED_HEADERS.issubset(headers) and _ID.fullmatch(headers["ce_id"])):
                raise ValueError("its headers are not those of an accepted record")
            accepted = _ACCEPTED.decode(record.value or b"")
            payloads[self._streams[numbers[record.topic]]].append(accepted.record)
        columns = {name: self._decoders[name].columns(of) for name, of in payloads.items() if of}
        times = parse_all([headers["ce_time"] for _, headers in items])
        if ((times < FIRST_INSTANT) | (times > LAST_INSTANT)).any():
            raise ValueError("its ce_time is no RFC 3339 instant of the years 1 to 9999")
        known = np.clip(arrivals, max(self._engine.reached, FIRST_INSTANT), LAST_INSTANT)
        return Batch(stream, times, np.maximum.accumulate(known), columns)

    def snapshot(self) -> bytes:
        """Return everything the fold knows of what was applied."""
        journal = (self.journal.number, self.journal.applied, self.journal.reached_us, self.journal.open)
        return msgspec.msgpack.encode((self._engine.snapshot(), self._reader.snapshot(), journal))

    def restore(self, state: bytes) -> None:
        """Become the fold that wrote `state`; raises SnapshotError when it is of another feature set."""
        engine, places, (number, applied, reached, runs) = msgspec.msgpack.decode(state)
        self._engine.restore(engine)
        self._reader.restore(places)
        self.journal = Journal(number, applied, reached, [tuple(run) for run in runs])


_ACCEPTED = msgspec.json.Decoder(_Accepted)
_ASKED_HEADERS = frozenset(("ce_id", "ce_time", "ce_recordedtime", "ce_correlationid", "ce_origin"))
_ID = re.compile(rb"[\w-]{1,64}")
_NOT_OURS = (KeyError, ValueError, msgspec.MsgspecError)


def _cut(items: list[Item], cuts: list[int]) -> list[list[Run]]:
    """Return the order of `items` as runs, cut before the item numbers `cuts`."""
    edges = [0, *cuts, len(items)]
    return [_runs(items[a:b]) for a, b in pairwise(edges)]


def _runs(items: list[Item]) -> list[Run]:
    """Return runs of one source partition each, in the source's own numbers: a second delivery does not shift them."""
    runs: list[Run] = []
    for stream, run in groupby(map(_origin, items), key=itemgetter(0)):
        numbers = [number for _, number in run]
        topic, _, partition = stream.rpartition("/")
        runs.append((topic, int(partition), numbers[0], numbers[-1], len(numbers)))
    return runs


def _origin(item: Item) -> tuple[str, int]:
    stream, _, number = item[1]["ce_origin"].decode().rpartition("/")
    return stream, int(number)
