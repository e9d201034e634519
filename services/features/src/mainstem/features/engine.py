"""One fold, three uses: records of accepted topics in any order of polls, feature rows in the one applied order out.

The stream, the backfill and training call the same `Fold`; only what carries its rows away differs.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from mainstem.events.catalogue import Record
from mainstem.events.fence import Position
from mainstem.feature_engine import FIRST_INSTANT, CompiledSet, Engine
from mainstem.features.accepted import NOT_OURS, Micros, Reading, cut, runs
from mainstem.features.domain import Journal, Run
from mainstem.features.ports import Parked
from mainstem.project.contract import SourceContract
from mainstem.runtime.ordered import Item, OrderedReader, Partition


@dataclass(frozen=True, slots=True)
class Applied:
    """A stretch of the applied order: the spine records in it with their values, and the instants passed."""

    spine: list[Item]
    values: npt.NDArray[np.float64]
    #: Instants that all inputs have passed, each with the number of spine records of this stretch before it.
    reached: list[tuple[int, int]]
    #: The order itself up to each reached instant, and after the last of them.
    runs: list[list[Run]]


class Gap(Exception):
    """Records of the log that must be folded are gone: what comes after them would get other values."""

    def __init__(self, topic: str, partition: int, expected: int, found: int) -> None:
        place = f"{topic}/{partition}"
        super().__init__(
            f"{place} goes on at offset {found}, {expected} is due: records between are gone; "
            "bring them back, or declare a new version of the feature set, which begins with what is there"
        )
        self.topic, self.partition, self.expected, self.found = topic, partition, expected, found


def announced(compiled: CompiledSet, contracts: Mapping[str, SourceContract]) -> dict[Partition, bool]:
    """Return the partitions that a feature set reads, and whether their sources announce progress."""
    return {
        (f"evt.data.{name}", part): contracts[name].replay
        for name in compiled.streams
        for part in range(contracts[name].partitions)
    }


def too_late(compiled: CompiledSet) -> str:
    """Return why a record that is too late was not applied."""
    lateness = compiled.definition.lateness // 1_000_000
    return (
        f"it became known more than {lateness} s after it happened, the lateness of {compiled.label}: "
        "it was not applied; raise the lateness in a new version if such records must count"
    )


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
        self._reading = Reading(compiled, contracts)
        self._reader = OrderedReader(announced(compiled, contracts))
        #: By partition the offset that must be read next; one that was never read may begin anywhere.
        self._following: dict[Partition, int] = {}

    @property
    def topics(self) -> list[str]:
        """Return the topics it reads."""
        return [f"evt.data.{name}" for name in self._reading.streams]

    @property
    def positions(self) -> dict[Partition, Position]:
        """Return how far each partition was applied; what is held back is not counted and must be read again."""
        return self._reader.positions

    def offer(self, records: Sequence[Record]) -> int:
        """Take records, each partition's in order, and return how many of them were new.

        Raises Gap, with nothing taken, when records between those read and these are gone.
        """
        following = dict(self._following)
        for record in records:
            expected = following.get((record.topic, record.partition), record.offset)
            if record.offset > expected:
                raise Gap(record.topic, record.partition, expected, record.offset)
            following[record.topic, record.partition] = max(expected, record.offset + 1)
        self._following = following
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
        except NOT_OURS:
            kept = [place for place, item in enumerate(released.items) if self._readable(item)]
            items = [released.items[place] for place in kept]
            places = [(at, bisect_left(kept, place)) for at, place in reached]
            return self._apply(items, released.arrivals[kept], places)

    def _readable(self, item: Item) -> bool:
        """Tell whether a record is an accepted one; park it when it is not: it was not ingestion that wrote it."""
        try:
            self._reading.batch([item], np.array([FIRST_INSTANT]), FIRST_INSTANT)
            runs([item])
        except NOT_OURS as fault:
            self.parked.append(Parked(item[0], f"this is no accepted record: {fault}; fix its writer"))
            return False
        return True

    def _apply(self, items: list[Item], arrivals: Micros, reached: list[tuple[int, int]]) -> Applied:
        cuts = [place for _, place in reached]
        order = cut(items, cuts)
        if not items:
            return Applied([], np.empty((0, len(self.compiled.names))), [(at, 0) for at, _ in reached], order)
        rows = self._engine.process(self._reading.batch(items, arrivals, self._engine.reached))
        self.parked += [Parked(items[place][0], too_late(self.compiled)) for place in rows.too_late.tolist()]
        before = np.searchsorted(rows.index, cuts).tolist()
        instants = [at for at, _ in reached]
        return Applied([items[i] for i in rows.index], rows.values, list(zip(instants, before, strict=True)), order)

    def snapshot(self) -> bytes:
        """Return everything the fold knows of what was applied."""
        journal = (self.journal.number, self.journal.applied, self.journal.reached_us, self.journal.open)
        return msgspec.msgpack.encode((self._engine.snapshot(), self._reader.snapshot(), journal))

    def restore(self, state: bytes) -> None:
        """Become the fold that wrote `state`; raises SnapshotError when it is of another feature set."""
        engine, places, (number, applied, reached, order) = msgspec.msgpack.decode(state)
        self._engine.restore(engine)
        self._reader.restore(places)
        self.journal = Journal(number, applied, reached, [tuple(run) for run in order])
        self._following = self._reader.offsets()
