"""What serving does with the stream: scores it, and knows how far it was seen."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from itertools import groupby

from mainstem.bus import Publisher
from mainstem.events.fence import Fence, Position
from mainstem.events.record import Record, header
from mainstem.runtime import steadily
from mainstem.serving.board import Board, NotLoaded
from mainstem.serving.domain import LogTime, Partition
from mainstem.serving.loader import Loader
from mainstem.serving.ports import Parked, Progress, Store
from mainstem.serving.scoring import Scored, Scorer
from mainstem.telemetry import Tracer, logger, metrics

#: Everything else has its turn between slices of the stream.
_SLICE = 256

_log = logger(__name__)


class Stream:
    """Scores feature rows. One process takes all partitions of a feature topic.

    A batch is scored, published and acknowledged before the next is taken; a second later at the latest its positions
    and tallies are stored together. After a crash what came after the last checkpoint is scored again by the versions
    that stand in the store, and published again under the same ids and origins.
    """

    def __init__(self, board: Board, loader: Loader, fence: Fence, log: LogTime, tracer: Tracer) -> None:
        #: Held while a batch is on its way; whoever holds it may change what the board routes by.
        self.lock = asyncio.Lock()
        self.log = log
        self._loader = loader
        self._fence = fence
        self._scorer = Scorer(board, tracer)
        self._handed_over: dict[Partition, int] = {}
        #: How far the log was seen with what was handed over, whether or not the bus took it.
        self._shown = LogTime()
        self._progress = Progress()

    async def on_records(self, records: Sequence[Record], *, publisher: Publisher) -> None:
        """Score and publish a batch; while a version that it needs cannot be loaded, wait."""
        while True:
            try:
                async with self.lock:
                    return await self._take(records, publisher)
            except NotLoaded as missing:
                # Without the lock, so that another version can be activated in its place meanwhile.
                await self._loader.restore(missing.activation)

    async def _take(self, records: Sequence[Record], publisher: Publisher) -> None:
        places = {(r.topic, r.partition) for r in records}
        # On a copy: a batch that does not get through, or is cancelled on its way, leaves no trace.
        fence = Fence({place: _copy(self._fence.positions.get(place)) for place in places})
        fresh, headers = fence.admit(records)
        scored, log = await self._score(fresh, headers)
        for place in places:
            self._handed_over[place] = fence.positions[place].next_offset
        self._shown.see(log.partitions)
        await publisher.publish(scored.messages)
        self._fence.positions.update(fence.positions)
        self.log.see(log.partitions)
        self._progress.add(scored.tallies, scored.parked, fence.positions)
        for topic, count in Counter(record.topic for record in records).items():
            metrics.RECORDS.labels(topic).inc(count)
        metrics.LOG_TIME.set(max((r.log_us for r in self.log.partitions.values()), default=0) / 1e6)
        _measure(scored, len(records) - len(fresh))

    async def _score(self, records: Sequence[Record], headers: Sequence[Mapping[str, bytes]]) -> tuple[Scored, LogTime]:
        scored, log = Scored(), LogTime(dict(self.log.partitions))
        for at in range(0, len(records), _SLICE):
            scored.add(self._scorer.score(records[at : at + _SLICE], headers[at : at + _SLICE], log))
            log.see(scored.reached)
            await asyncio.sleep(0)
        return scored, log

    def offsets(self) -> dict[Partition, int]:
        """Return where to go on reading."""
        return self._fence.offsets()

    def first_unscored(self, topic: str, published: Mapping[int, int]) -> dict[str, int]:
        """Return for each partition of a feature topic the first offset that no process ever handed to the bus.

        `published` says what earlier processes did; call it with the lock held.
        """
        found = {number: offset + 1 for number, offset in published.items()}
        for place, offset in [*self._handed_over.items(), *self._fence.offsets().items()]:
            if place[0] == topic:
                found[place[1]] = max(offset, found.get(place[1], 0))
        return {str(number): offset for number, offset in sorted(found.items())}

    def latest(self, topics: Collection[str]) -> int:
        """Return the latest time (µs) that was seen of some feature topics, here or by what is stored; else NEVER."""
        return max(self.log.latest(topics), self._shown.latest(topics))

    async def checkpoint(self, store: Store) -> None:
        """Store what was published since the last checkpoint; nothing to do when nothing was."""
        async with self.lock:
            progress = self._progress
            if not progress.positions:
                return
            progress.states = {
                place: self.log.partitions[place].dump() for place in progress.positions if place in self.log.partitions
            }
            # Not one more row is added until it is known what stands in the store: tallies add up.
            await steadily(lambda: store.save(progress))
            self._progress = Progress()
            tell_parked(progress.parked)


async def forever(every_s: float, work: Callable[[], Awaitable[None]]) -> None:
    """Do `work` again and again, with a pause before each time; while something is away, it waits."""
    while True:
        await asyncio.sleep(every_s)
        await steadily(work)


def _copy(position: Position | None) -> Position:
    return Position() if position is None else Position(position.next_offset, dict(position.origins))


def _measure(scored: Scored, fenced: int) -> None:
    metrics.FENCED.inc(fenced)
    for (model, version, channel, _), tally in scored.tallies.items():
        metrics.PREDICTIONS.labels(model, str(version), channel).inc(tally.n)
    for model, rows in scored.unscored.items():
        metrics.UNSCORED.labels(model).inc(rows)


def tell_parked(parked: Sequence[Parked]) -> None:
    """Count the records that could not be scored, and warn of them: a line for each topic and reason."""
    for (topic, reason), group in groupby(sorted(parked, key=_cause), key=_cause):
        first, *others = (each.record for each in group)
        metrics.PARKED.labels(topic).inc(1 + len(others))
        known_as = (header(first, "ce_id") or b"").decode(errors="replace")
        place = {"topic": topic, "partition": first.partition, "offset": first.offset}
        about = {"action": "parked", **place, "ce_id": known_as, "records": 1 + len(others)}
        more = f" and {len(others)} more, see serving's table `parked`" if others else ""
        where = f"{topic}/{first.partition}/{first.offset} ({known_as or 'without an id'}){more}"
        _log.warning("parked %s: %s", where, reason, extra=about)


def _cause(parked: Parked) -> tuple[str, str]:
    return parked.record.topic, parked.reason
