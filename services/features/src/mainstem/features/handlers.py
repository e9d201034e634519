"""From accepted records to published rows, and now and then to the store."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence

from mainstem.bus import Publisher
from mainstem.events.catalogue import Record
from mainstem.events.envelope import Message
from mainstem.events.features import OrderJournalled
from mainstem.features.engine import Applied, Fold
from mainstem.features.ports import Partition, Progress, RowTally, Store
from mainstem.features.rows import RowWriter
from mainstem.runtime import steadily
from mainstem.runtime.ordered import Item
from mainstem.telemetry import Tracer, logger, metrics

_log = logger(__name__)


class Computing:
    """Runs one feature set: folds, publishes, and stores what was published together with the state it left."""

    def __init__(self, fold: Fold, partitions: int, tracer: Tracer) -> None:
        self._fold = fold
        self._partitions = partitions
        self._writer = RowWriter(fold.compiled, tracer)
        self._tallies: dict[int, RowTally] = {}
        self._journal: list[OrderJournalled] = []
        self._moved = False
        self._one_at_a_time = asyncio.Lock()

    async def on_records(
        self, records: Sequence[Record], *, lag: Mapping[Partition, int], publisher: Publisher
    ) -> None:
        """Fold a batch and publish the rows it completes; with no records, those that waited for a live source."""
        async with self._one_at_a_time:
            fresh = self._fold.offer(records)
            metrics.FENCED.inc(len(records) - fresh)
            self._fold.drained(lag)
            applied = self._fold.advance()
            messages = self._messages(applied)
            await publisher.publish(messages)
            self._moved = self._moved or bool(fresh or messages)

    def _messages(self, applied: Applied) -> list[Message]:
        """Return rows, markers and journal entries of a stretch, in the order in which they must stand in the log."""
        payloads = self._writer.payloads(applied.spine, applied.values)
        messages: list[Message] = []
        done = 0
        for (instant_us, before), runs in zip(applied.reached, applied.runs, strict=False):
            messages += self._rows(applied.spine[done:before], payloads[done:before])
            done = before
            self._fold.journal.extend(runs)
            messages += self._milestone(instant_us)
        messages += self._rows(applied.spine[done:], payloads[done:])
        self._fold.journal.extend(applied.runs[-1])
        return messages

    def _rows(self, spine: Sequence[Item], payloads: Sequence[bytes]) -> Iterator[Message]:
        for (record, headers), payload in zip(spine, payloads, strict=True):
            self._tallies.setdefault(record.partition, RowTally()).count(payload)
            yield self._writer.row(record, headers, payload)

    def _milestone(self, instant_us: int) -> list[Message]:
        """Close the journal entry at an instant and announce the instant in every partition."""
        entry = self._fold.journal.close(instant_us, self._writer.label, self._writer.id)
        self._journal.append(entry)
        markers = (self._writer.marker(instant_us, entry.number, part) for part in range(self._partitions))
        return [self._writer.entry(entry), *markers]

    async def checkpoint(self, store: Store) -> None:
        """Store the fold as it stands; nothing to do when it has not moved.

        While the store is away nothing more is folded: the very same state is saved until it is known to be stored.
        """
        async with self._one_at_a_time:
            if not self._moved:
                return
            progress = Progress(
                feature_set=self._writer.label,
                definition=self._fold.compiled.id,
                state=self._fold.snapshot(),
                positions=self._fold.positions,
                tallies=self._tallies,
                journal=self._journal,
                parked=tuple(self._fold.parked),
            )
            await steadily(lambda: store.save(progress))
            self._fold.parked.clear()
            for parked in progress.parked:
                metrics.PARKED.labels(parked.record.topic).inc()
                _log.error("parked: %s", parked.reason, extra={"action": "parked", "topic": parked.record.topic})
            self._tallies, self._journal, self._moved = {}, [], False
