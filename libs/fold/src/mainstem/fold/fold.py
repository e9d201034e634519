"""One fold, three uses: records of accepted topics in any order of polls, feature rows in the one applied order out.

The stream, the backfill and training call the same `Fold`; only what carries its rows away differs.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import msgspec
import numpy as np
import numpy.typing as npt

from mainstem.events.features import OrderJournalled
from mainstem.events.fence import Position, read_origin
from mainstem.events.instants import NEVER, parse
from mainstem.events.record import Record, header
from mainstem.feature_engine import FIRST_INSTANT, CompiledSet, Engine, Released
from mainstem.feature_engine.batch import Values
from mainstem.fold.accepted import NOT_OURS, Micros, Parked, Reading, cut
from mainstem.fold.gap import Gap
from mainstem.fold.journal import Journal, Run
from mainstem.fold.ordered import Item, OrderedReader, Origin, Partition
from mainstem.project.contract import SourceContract


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of the applied order: the spine records in it with their values, and the instants passed."""

    spine: list[Item]
    values: npt.NDArray[np.float64]
    #: The position of each spine record in the applied order, from 0.
    positions: Micros
    #: Instants that all inputs have passed, each with the number of spine records of this stretch before it.
    reached: list[tuple[int, int]]
    #: The order itself up to each reached instant, and after the last of them.
    runs: list[list[Run]]


def inputs(compiled: CompiledSet, contracts: Mapping[str, SourceContract]) -> dict[Partition, bool]:
    """Return the partitions that a feature set reads, and whether their sources announce progress."""
    return {
        (f"evt.data.{name}", part): contracts[name].replay
        for name in compiled.streams
        for part in range(contracts[name].partitions)
    }


def check_places(items: Sequence[Item]) -> None:
    """Raise ValueError when one stands elsewhere than its origin says, or under a key that is no text.

    Ingestion never put it there. So the journal names a record by its place in the source, and whoever follows it knows
    where to look.
    """
    for record, headers in items:
        (record.key or b"").decode()
        known = read_origin(headers.get("ce_origin", b""))
        if known is None or known[0] != _home(record.topic, record.partition):
            raise ValueError("its ce_origin is not its place in the source")


@cache
def _home(topic: str, partition: int) -> str:
    """Return the stream whose records stand in a partition of an accepted topic."""
    return f"src.{topic.removeprefix('evt.data.')}/{partition}"


def why_late(compiled: CompiledSet) -> str:
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
        self._reader = OrderedReader(inputs(compiled, contracts))
        #: Entries of the journal that were written and are not applied yet.
        self._ahead: deque[OrderJournalled] = deque()
        #: By partition the offset that must be read next; one that was never read may begin anywhere.
        self._following: dict[Partition, int] = {}
        #: By partition the offset that was read first.
        self._began: dict[Partition, int] = {}

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

        Raises Gap, with nothing taken, when records between those read and these are gone, or the log was made anew.
        """
        following, applied = dict(self._following), self._reader.offsets()
        for record in records:
            expected = following.get((record.topic, record.partition), record.offset)
            below = record.offset < applied.get((record.topic, record.partition), 0)
            if record.offset > expected or (below and self._is_news(record)):
                raise Gap.before(record, self.due(record.topic, record.partition))
            following[record.topic, record.partition] = max(expected, record.offset + 1)
        for record in records:
            self._began.setdefault((record.topic, record.partition), record.offset)
        self._following = following
        return self._reader.offer(records)

    def _is_news(self, record: Record) -> bool:
        """Tell whether a record is none that was applied before."""
        known = read_origin(header(record, "ce_origin") or b"")
        position = self._reader.positions[record.topic, record.partition]
        return known is not None and known[1] > position.origins.get(known[0], -1)

    def emptied(self, places: Mapping[Partition, int], noticed_us: int) -> bool:
        """Note the offsets at which partitions go on that hold no record; tell whether that was news.

        Raises Gap when a record that was due is among those that are gone, or the log ends before what was applied.
        """
        applied = self._reader.offsets()
        news = {place: offset for place, offset in places.items() if place not in self._following}
        for place, offset in places.items():
            expected = self._following.get(place, offset)
            if offset > expected or offset < applied.get(place, 0):
                raise Gap(place, expected=self.due(*place), found=offset, appended_us=noticed_us)
        self._following |= news
        self._began |= news
        return bool(news)

    @property
    def begins_at(self) -> dict[Partition, int]:
        """Return where the partitions begin whose first records were gone before they were read."""
        return {place: offset for place, offset in sorted(self._began.items()) if offset > 0}

    def due(self, topic: str, partition: int) -> int:
        """Return the first offset that is not applied: what was read beyond it is not in the state."""
        place = topic, partition
        return max(self._reader.offsets()[place], self._began.get(place, 0))

    def has_read(self, topic: str) -> bool:
        """Tell whether a record of a topic was ever read, be it only to wait for others."""
        mine = (place for place in self._reader.offsets() if place[0] == topic)
        return any(max(self._following.get(place, 0), self.due(*place)) > 0 for place in mine)

    @property
    def held(self) -> int:
        """Return how many records were read and wait for others that may come before them."""
        return self._reader.held

    def waits_for(self) -> list[Partition]:
        """Return the partitions that those who wait are waiting for."""
        return self._reader.waits_for()

    def ahead(self) -> list[Partition]:
        """Return the partitions of which nothing more should be read now; while it follows a journal there are none."""
        return [] if self._ahead else self._reader.ahead()

    def drained(self, lag: Mapping[Partition, int]) -> None:
        """Note which live partitions were read to their end."""
        self._reader.drained(lag)

    @property
    def live(self) -> bool:
        """Tell whether one of its sources announces no progress: then the order is what was read, and journalled."""
        return self._reader.live

    def follow(self, entries: Sequence[OrderJournalled]) -> None:
        """Apply first, in that very order, what was journalled by a process before and not stored."""
        self._ahead.extend(entry for entry in entries if entry.number >= self.journal.number)

    @property
    def follows(self) -> bool:
        """Tell whether there are entries of a journal that it follows and has not applied."""
        return bool(self._ahead)

    def advance(self) -> Stretch:
        """Apply what nothing can precede any more; while it follows a journal, its next entry once that was read."""
        if self._ahead:
            return self._follow(self._ahead[0])
        released = self._reader.advance()
        reached = [(at, place) for at, place in released.reached if at > self.journal.reached_us]
        return self._take(released, reached)

    def _follow(self, entry: OrderJournalled) -> Stretch:
        order = [_last(entry.topics[topic], part, last) for topic, part, _, last in entry.runs]
        released = self._reader.follow(order)
        if released is None:
            return self._apply([], np.empty(0, np.int64), [])
        self._ahead.popleft()
        return self._take(released, [(parse(entry.until), len(released.items))] if entry.complete else [])

    def _take(self, released: Released[Item], reached: list[tuple[int, int]]) -> Stretch:
        try:
            check_places(released.items)
            return self._apply(released.items, released.arrivals, reached)
        except NOT_OURS:
            kept = [place for place, item in enumerate(released.items) if self._readable(item)]
            items = [released.items[place] for place in kept]
            places = [(at, bisect_left(kept, place)) for at, place in reached]
            return self._apply(items, released.arrivals[kept], places)

    def _readable(self, item: Item) -> bool:
        """Tell whether a record is an accepted one; park it when it is not: it was not ingestion that wrote it."""
        try:
            check_places([item])
            self._reading.batch([item], np.array([FIRST_INSTANT]), FIRST_INSTANT)
        except NOT_OURS as fault:
            self.parked.append(Parked(item[0], f"this is no accepted record: {fault}; fix its writer"))
            return False
        return True

    def _apply(self, items: list[Item], arrivals: Micros, reached: list[tuple[int, int]]) -> Stretch:
        cuts = [place for _, place in reached]
        order = cut(items, cuts)
        if not items:
            empty = np.empty((0, len(self.compiled.names)))
            return Stretch([], empty, np.empty(0, np.int64), [(at, 0) for at, _ in reached], order)
        first = self.applied
        rows = self._engine.process(self._reading.batch(items, arrivals, self._engine.reached))
        late = why_late(self.compiled)
        self.parked += [Parked(items[place][0], late, late=True) for place in rows.too_late.tolist()]
        before = np.searchsorted(rows.index, cuts).tolist()
        instants = [at for at, _ in reached]
        spine, places = [items[i] for i in rows.index], list(zip(instants, before, strict=True))
        return Stretch(spine, rows.values, first + rows.index, places, order)

    @property
    def reached(self) -> int | None:
        """Return the newest arrival applied; None before the first."""
        return None if self._engine.reached < FIRST_INSTANT else self._engine.reached

    def newest(self) -> dict[str, int]:
        """Return by stream when the newest record applied became known (µs); NEVER before the first."""
        found = dict.fromkeys(self._reading.streams, NEVER)
        for (topic, _), arrival in self._reader.newest().items():
            stream = topic.removeprefix("evt.data.")
            found[stream] = max(found[stream], arrival)
        return found

    @property
    def applied(self) -> int:
        """Return how many records stand in the applied order, those that were too late among them."""
        return sum(self._engine.applied.values()) + sum(self._engine.too_late.values())

    @property
    def rows(self) -> int:
        """Return how many spine records were answered."""
        spine = self.compiled.spine
        return self._engine.applied[spine] + self._engine.too_late[spine]

    @property
    def late(self) -> dict[str, int]:
        """Return by stream how many records were too late."""
        return dict(self._engine.too_late)

    @property
    def out_of_range(self) -> dict[str, int]:
        """Return by `stream.column` how many values lay outside the declared range, where some did."""
        return {column: found for column, found in self._engine.out_of_range.items() if found}

    def read(self, columns: Mapping[str, Values], moments: Micros) -> npt.NDArray[np.float64]:
        """Return the features of entities at moments, without an event; see `Engine.read`."""
        return self._engine.read(columns, moments)

    def snapshot(self) -> bytes:
        """Return everything the fold knows of what was applied."""
        journal = (self.journal.number, self.journal.applied, self.journal.reached_us, self.journal.open)
        began = [(*place, offset) for place, offset in sorted(self._began.items())]
        return msgspec.msgpack.encode((self._engine.snapshot(), self._reader.snapshot(), journal, began))

    def restore(self, state: bytes) -> None:
        """Become the fold that wrote `state`; raises SnapshotError when it is of another feature set."""
        engine, places, (number, applied, reached, order), *began = msgspec.msgpack.decode(state)
        self._engine.restore(engine)
        self._reader.restore(places)
        self.journal = Journal(number, applied, reached, [tuple(run) for run in order])
        self._following = self._reader.offsets()
        if began:  # in older states it was not noted
            self._began = {(topic, part): offset for topic, part, offset in began[0]}
            self._following = {place: max(self._following[place], at) for place, at in self._began.items()}


def _last(topic: str, partition: int, number: int) -> tuple[Partition, Origin]:
    """Return where the last record of a journalled run is read, and under which origin it is known there."""
    return (f"evt.data.{topic.removeprefix('src.')}", partition), (f"{topic}/{partition}", number)
