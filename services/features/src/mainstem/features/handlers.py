"""From accepted records to published rows, and now and then to the store."""

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Final

from mainstem.bus import Publisher
from mainstem.bus.identity import log_identity
from mainstem.bus.reader import LogReader
from mainstem.events.catalogue import decode
from mainstem.events.envelope import Message
from mainstem.events.errors import Unavailable, Undecodable
from mainstem.events.features import OrderJournalled
from mainstem.events.record import Record, header
from mainstem.features.ports import Partition, Progress, RowTally, Store
from mainstem.features.rows import RowWriter
from mainstem.fold.accepted import Parked
from mainstem.fold.fold import Fold, Stretch
from mainstem.fold.gap import Gap
from mainstem.fold.ordered import Item
from mainstem.runtime import steadily
from mainstem.telemetry import Tracer, logger, metrics

#: How long who is told to stop waits for the broker to acknowledge what it was given.
PATIENCE_S: Final = 10

_log = logger(__name__)


class Computing:
    """Runs one feature set: folds, publishes, and stores what was published together with the state it left."""

    def __init__(self, fold: Fold, partitions: int, tracer: Tracer, patience_s: float = PATIENCE_S) -> None:
        self._fold = fold
        self._patience_s = patience_s
        self._partitions = partitions
        self._writer = RowWriter(fold.compiled, tracer)
        self._tallies: dict[int, RowTally] = {}
        self._journal: list[OrderJournalled] = []
        self._moved = False
        #: What metrics and log say of the fold already.
        self._begun, self._counted = fold.begins_at, fold.out_of_range
        self._one_at_a_time = asyncio.Lock()

    async def positions(self) -> dict[Partition, int]:
        """Return where to begin reading."""
        return {place: position.next_offset for place, position in self._fold.positions.items()}

    async def recognise(self, kafka: str, store: Store) -> None:
        """Hold the topics against those that were read; raise Gap when one is another by now, under the same name.

        Raises Unavailable when the broker does not say, or a topic is gone.
        """
        found = (await log_identity(kafka, self._fold.topics)).topics
        read = {topic: found[topic] for topic in sorted(found) if self._fold.has_read(topic)}
        known = await store.topics(self._writer.id, read)
        for topic, part in sorted(self._fold.positions):
            if known.get(topic, found[topic]) != found[topic]:
                due = self._fold.due(topic, part)
                raise Gap((topic, part), expected=due, found=0, appended_us=time.time_ns() // 1_000)

    @property
    def between_batches(self) -> asyncio.Lock:
        """Return what whoever looks at the fold must hold: then all that was applied is published."""
        return self._one_at_a_time

    async def on_records(
        self, records: Sequence[Record], *, lag: Mapping[Partition, int], publisher: Publisher
    ) -> None:
        """Fold a batch and publish the rows it completes; with no records, those that waited for a live source."""
        async with self._one_at_a_time:
            fresh = self._fold.offer(records)
            metrics.FENCED.inc(len(records) - fresh)
            self._tell_beginnings()
            self._fold.drained(lag)
            applied = self._fold.advance()
            entries, messages = self._messages(applied)
            # Of live sources what was applied is known before what follows from it: who comes after repeats this order.
            batches = [entries, messages] if self._fold.live else [[*messages, *entries]]
            await _to_the_end(_publish(publisher, batches), self._patience_s)
            self._moved = self._moved or bool(fresh or messages or entries)

    async def on_emptied(self, places: Mapping[Partition, int], noticed_us: int) -> None:
        """Take notice of partitions that hold no record; see `Fold.emptied`."""
        async with self._one_at_a_time:
            self._moved |= self._fold.emptied(places, noticed_us)
            self._tell_beginnings()

    def _messages(self, applied: Stretch) -> tuple[list[Message], list[Message]]:
        """Return the journal entries of a stretch, and its rows and markers as they must stand in the log."""
        payloads = self._writer.payloads(applied.spine, applied.values)
        entries: list[Message] = []
        messages: list[Message] = []
        done = 0
        for (instant_us, before), runs in zip(applied.reached, applied.runs, strict=False):
            messages += self._rows(applied.spine[done:before], payloads[done:before])
            done = before
            self._fold.journal.extend(runs)
            entry = self._close(instant_us, complete=True)
            entries.append(self._writer.entry(entry))
            messages += (self._writer.marker(instant_us, entry.number, part) for part in range(self._partitions))
        messages += self._rows(applied.spine[done:], payloads[done:])
        self._fold.journal.extend(applied.runs[-1])
        if self._fold.live and self._fold.journal.open and self._fold.reached is not None:
            entries.append(self._writer.entry(self._close(self._fold.reached, complete=False)))
        return entries, messages

    def _close(self, instant_us: int, *, complete: bool) -> OrderJournalled:
        entry = self._fold.journal.close(instant_us, self._writer.label, self._writer.id, complete=complete)
        self._journal.append(entry)
        return entry

    def _rows(self, spine: Sequence[Item], payloads: Sequence[bytes]) -> Iterator[Message]:
        for (record, headers), payload in zip(spine, payloads, strict=True):
            self._tallies.setdefault(record.partition, RowTally()).count(payload)
            yield self._writer.row(record, headers, payload)

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
                tallies=self._tallies,
                journal=self._journal,
                parked=tuple(self._fold.parked),
            )
            await steadily(lambda: store.save(progress))
            self._fold.parked.clear()
            tell_parked(self._writer.label, progress.parked)
            self._count_values()
            self._tallies, self._journal, self._moved = {}, [], False

    def _tell_beginnings(self) -> None:
        """Tell, once each, of partitions whose first records were gone before the set began."""
        begins_at = self._fold.begins_at
        for place in begins_at.keys() - self._begun.keys():
            tell_beginning(self._writer.label, place, begins_at[place])
        self._begun = begins_at

    def _count_values(self) -> None:
        """Count the values out of range among what was stored, each once."""
        found = self._fold.out_of_range
        for column, count in found.items():
            metrics.FEATURE_OUT_OF_RANGE.labels(self._writer.label, column).inc(count - self._counted.get(column, 0))
        self._counted = found


def tell_beginning(label: str, place: Partition, offset: int) -> None:
    """Warn that a set begins where the first records of a partition are gone already."""
    topic, part = place
    about = {"action": "begun_late", "feature_set": label, "topic": topic, "partition": part, "offset": offset}
    gone = f"{label} begins at offset {offset} of {topic}/{part}: the records before are gone"
    _log.warning("%s, so values that look back beyond it are computed without them", gone, extra=about)


def tell_parked(label: str, parked: Sequence[Parked]) -> None:
    """Count the records that a set could not apply, and warn of them: a line for each topic and reason."""
    for (topic, late), count in Counter((each.record.topic, each.late) for each in parked).items():
        metrics.PARKED.labels(topic).inc(count)
        if late:
            metrics.FEATURE_LATE.labels(label, topic.removeprefix("evt.data.")).inc(count)
    for (topic, reason), group in groupby(sorted(parked, key=_cause), key=_cause):
        first, *others = group
        place = {"topic": topic, "partition": first.record.partition, "offset": first.record.offset}
        known_as = (header(first.record, "ce_id") or b"").decode(errors="replace")
        about = {"action": "parked", "feature_set": label, **place, "ce_id": known_as, "records": 1 + len(others)}
        more = f" and {len(others)} more, see `mainstem feature parked {label}`" if others else ""
        where = f"{topic}/{place['partition']}/{place['offset']} ({known_as or 'without an id'}){more}"
        _log.warning("%s parked %s: %s", label, where, reason, extra=about)


def _cause(parked: Parked) -> tuple[str, str]:
    return parked.record.topic, parked.reason


async def _publish(publisher: Publisher, batches: Sequence[Sequence[Message]]) -> None:
    for batch in batches:
        await publisher.publish(batch)


async def _to_the_end(publishing: Coroutine[object, None, None], patience_s: float) -> None:
    """Publish, and if cancelled meanwhile end only when all of it is acknowledged.

    The client sends what it was given though nobody waits any more. Whoever follows the journal next must find it
    there, or it would apply another order under the numbers of entries that are still on their way.
    Raises Unavailable, upon which the process ends, when that takes too long.
    """
    task = asyncio.ensure_future(publishing)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        try:
            async with asyncio.timeout(patience_s):
                await task
        except TimeoutError as fault:
            waited = f"Kafka did not acknowledge within {patience_s} s what was to be published last"
            raise Unavailable(f"{waited}; start the service again when it does") from fault
        raise


async def journalled(kafka: str, definition: str) -> list[OrderJournalled]:
    """Return the entries of a feature set's journal, each once; what is none is passed over. Raises Unavailable."""
    entries: dict[int, OrderJournalled] = {}
    async with LogReader(kafka, [OrderJournalled.TOPIC]) as reader:
        await reader.start()
        async for records in reader.to_end():
            for record in records:
                if definition.encode() in (record.value or b""):
                    with suppress(Undecodable):
                        fact = decode(record).fact
                        if isinstance(fact, OrderJournalled) and fact.definition == definition:
                            entries.setdefault(fact.number, fact)
    return [entries[number] for number in sorted(entries)]
