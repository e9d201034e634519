"""From polled records to published events, and once a second to the store."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import groupby

from mainstem.bus import Publisher
from mainstem.events.fence import Fence
from mainstem.events.record import Record
from mainstem.ingestion.domain import PartitionState
from mainstem.ingestion.engine import Judge, Outcome
from mainstem.ingestion.ports import Partition, Progress, Store, Tally
from mainstem.runtime import steadily
from mainstem.telemetry import metrics

_CHECKPOINT_S = 1.0


class Intake:
    """Takes the records of all sources.

    A batch is judged, published and acknowledged before the next is taken; a second later at the latest the positions,
    the state that belongs to them and the quarantine are stored together. After a crash what came after the last
    checkpoint is judged again and published again under the same ids and origins.
    """

    def __init__(
        self,
        judges: dict[str, Judge],
        fence: Fence,
        states: dict[Partition, bytes],
        ends: Mapping[Partition, int] | None = None,
    ) -> None:
        """Go on from what was stored; `ends` says how far an earlier process may have published."""
        self._judges = judges
        self._ends = dict(ends or {})
        self._caught_up = asyncio.Event()
        self._closed = False
        self._fence = fence
        self._states = {
            place: PartitionState.load(judges[place[0]].contract.unique_within, state)
            for place, state in states.items()
            if place[0] in judges
        }
        self._pending: list[tuple[Partition, Outcome]] = []
        self._touched: set[Partition] = set()
        self._one_at_a_time = asyncio.Lock()
        self._look_up()

    async def on_records(self, records: Sequence[Record], *, publisher: Publisher) -> None:
        """Judge and publish a batch; once closed, leave it to the intake that follows."""
        async with self._one_at_a_time:
            if self._closed:
                return
            fresh, headers = self._fence.admit(records)
            metrics.FENCED.inc(len(records) - len(fresh))
            outcomes = [
                (place, self._judge(place, [fresh[i] for i in rows], [headers[i] for i in rows]))
                for place, rows in _by_partition(fresh)
            ]
            messages = [message for _, outcome in outcomes for message in outcome.messages]
            await publisher.publish(messages)
            self._pending += outcomes
            self._touched |= {(r.topic, r.partition) for r in records}
            self._look_up()
        _measure(outcomes)

    def _look_up(self) -> None:
        """Note when all is judged that an earlier process may have published."""
        if self._caught_up.is_set():
            return
        offsets = self._fence.offsets()
        if all(offsets.get(place, 0) >= end for place, end in self._ends.items()):
            self._caught_up.set()

    def _judge(self, place: Partition, records: list[Record], headers: list[dict[str, bytes]]) -> Outcome:
        judge = self._judges[place[0]]
        state = self._states.get(place)
        if state is None:
            state = self._states[place] = PartitionState.load(judge.contract.unique_within, None)
        return judge.judge(records, headers, state)

    async def checkpoint(self, store: Store) -> None:
        """Store what was published since the last checkpoint; nothing to do when nothing was.

        While the store is away nothing more is judged: the very same progress is saved until it is known to be stored.
        """
        async with self._one_at_a_time:
            await self._save(store)

    async def close(self, store: Store) -> None:
        """Return when all that was ever published is stored; nothing more is judged by these contracts.

        What an earlier process may have published and not stored is judged first, by the contracts it was judged by.
        """
        await self._caught_up.wait()
        async with self._one_at_a_time:
            await self._save(store)
            self._closed = True

    async def _save(self, store: Store) -> None:
        if not self._touched:
            return
        progress = self._progress()
        await steadily(lambda: store.save(progress))
        self._pending.clear()
        self._touched.clear()

    def _progress(self) -> Progress:
        tallies: dict[Partition, Tally] = {}
        for place, outcome in self._pending:
            total = tallies.setdefault(place, Tally())
            total.accepted += outcome.tally.accepted
            total.quarantined += outcome.tally.quarantined
            total.fingerprint = (total.fingerprint + outcome.tally.fingerprint) % 2**63
        return Progress(
            positions={place: self._fence.positions[place] for place in self._touched},
            states={place: self._states[place].dump() for place in self._touched if place in self._states},
            quarantined=[fact for _, outcome in self._pending for fact in outcome.quarantined],
            redriven=[fact for _, outcome in self._pending for fact in outcome.redriven],
            tallies=tallies,
        )


class Succession:
    """The intakes of a process, one after another: a record is judged by one contract, whatever happens on the way.

    Contracts change when all is stored that was published under the old ones, in the transaction of the change.
    """

    def __init__(self) -> None:
        #: Set when other contracts are in force; the next intake may begin.
        self.changed = asyncio.Event()
        self._current: asyncio.Future[Intake | None] = asyncio.get_running_loop().create_future()

    def begin(self, intake: Intake | None) -> None:
        """Say who judges now: nobody, while there are no contracts. Called before a record is taken."""
        self._current.set_result(intake)

    async def end(self, store: Store) -> None:
        """Close the intake that judges now, or is about to."""
        intake = await self._current
        if intake is not None:
            await intake.close(store)

    def hand_over(self) -> None:
        """Let the next one begin; called when the change is committed."""
        self._current = asyncio.get_running_loop().create_future()
        self.changed.set()


async def checkpoint_steadily(save: Callable[[], Awaitable[None]]) -> None:
    """Save once a second, for ever."""
    while True:
        await asyncio.sleep(_CHECKPOINT_S)
        await save()


def _by_partition(records: Sequence[Record]) -> list[tuple[Partition, list[int]]]:
    order = sorted(range(len(records)), key=lambda i: (records[i].topic, records[i].partition, records[i].offset))
    grouped = groupby(order, key=lambda i: (records[i].topic, records[i].partition))
    return [(place, list(rows)) for place, rows in grouped]


def _measure(outcomes: Sequence[tuple[Partition, Outcome]]) -> None:
    for (topic, _), outcome in outcomes:
        metrics.RECORDS.labels(topic).inc(outcome.tally.accepted + outcome.tally.quarantined)
        for fact in outcome.quarantined:
            metrics.QUARANTINED.labels(fact.source, fact.reason).inc()
