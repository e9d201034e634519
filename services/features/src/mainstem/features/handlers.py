"""From accepted records to published rows, and now and then to the store."""

import asyncio
from collections.abc import Mapping, Sequence

import orjson

from mainstem.bus import Publisher
from mainstem.events.catalogue import Record, encode
from mainstem.events.data import ProgressReached
from mainstem.events.envelope import Envelope, Event, Fact, Message, dataschema
from mainstem.events.features import OrderJournalled, RowComputed
from mainstem.events.ids import child_id
from mainstem.events.instants import render
from mainstem.features.engine import Applied, Fold
from mainstem.features.ports import Partition, Progress, RowTally, Store
from mainstem.runtime import steadily
from mainstem.runtime.ordered import Headers
from mainstem.telemetry import Tracer, logger, metrics

SOURCE = "/mainstem/features"

_log = logger(__name__)

_FIXED = (
    ("ce_specversion", b"1.0"),
    ("content-type", b"application/json"),
    ("ce_type", RowComputed.TYPE.encode()),
    ("ce_source", SOURCE.encode()),
    ("ce_dataschema", dataschema(RowComputed.TYPE).encode()),
    ("ce_tenant", b"default"),
    ("ce_actor", SOURCE.encode()),
)


class Computing:
    """Runs one feature set: folds, publishes, and stores what was published together with the state it left."""

    def __init__(self, fold: Fold, partitions: int, tracer: Tracer) -> None:
        self._fold = fold
        self._partitions = partitions
        self._tracer = tracer
        self._name = fold.compiled.name
        self._topic = RowComputed.TOPIC.format(feature_set=self._name)
        self._row_name = f"{RowComputed.TYPE}:{fold.compiled.id}"
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
        payloads = self._payloads(applied)
        messages: list[Message] = []
        done = 0
        for (instant_us, before), runs in zip(applied.reached, applied.runs, strict=False):
            messages += [self._row(*applied.spine[i], payloads[i]) for i in range(done, before)]
            done = before
            self._fold.journal.extend(runs)
            messages += self._milestone(instant_us)
        messages += [self._row(*applied.spine[i], payloads[i]) for i in range(done, len(applied.spine))]
        self._fold.journal.extend(applied.runs[-1])
        return messages

    def _payloads(self, applied: Applied) -> list[bytes]:
        head = f'{{"feature_set":"{self._name}","definition":"{self._fold.compiled.id}","entity":'.encode()
        values = [orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY) for row in applied.values]
        return [
            b"".join(
                (
                    head,
                    orjson.dumps((record.key or b"").decode(errors="replace")),
                    b',"spine_id":"',
                    headers["ce_id"],
                    b'","values":',
                )
            )
            + row
            + b"}"
            for (record, headers), row in zip(applied.spine, values, strict=True)
        ]

    def _row(self, record: Record, headers: Headers, payload: bytes) -> Message:
        row_id = child_id(headers["ce_id"].decode(), self._row_name)
        out = [
            *_FIXED,
            ("ce_id", row_id.encode()),
            ("ce_subject", record.key or b""),
            ("ce_time", headers["ce_time"]),
            ("ce_recordedtime", headers["ce_recordedtime"]),
            ("ce_correlationid", headers["ce_correlationid"]),
            ("ce_causationid", headers["ce_id"]),
            # The spine record's own origin: however often it is delivered, its row has one place.
            ("ce_origin", headers["ce_origin"]),
        ]
        trace = self._tracer.step(headers.get("traceparent"), f"process {record.topic}", {"event.id": row_id})
        if trace is not None:
            out.append(("traceparent", trace))
        self._tallies.setdefault(record.partition, RowTally()).count(payload)
        return Message(self._topic, record.key, payload, tuple(out), record.partition)

    def _milestone(self, instant_us: int) -> list[Message]:
        """Close the journal entry at an instant and announce the instant in every partition."""
        entry = self._fold.journal.close(instant_us, self._name, self._fold.compiled.id)
        self._journal.append(entry)
        origin = f"features@{self._fold.compiled.id[7:19]}"
        messages = [self._event(entry, instant_us, f"{origin}/{entry.number}", None)]
        marker = ProgressReached(until=render(instant_us))
        messages += [
            self._event(marker, instant_us, f"{origin}#progress/{entry.number}", partition)
            for partition in range(self._partitions)
        ]
        return messages

    def _event(self, fact: Fact, instant_us: int, origin: str, partition: int | None) -> Message:
        cause = f"{self._fold.compiled.id}/{instant_us}"
        envelope = Envelope(
            id=child_id(f"{cause}/{partition}", fact.TYPE),
            type=fact.TYPE,
            source=SOURCE,
            subject=fact.key,
            time_us=instant_us,
            recorded_us=instant_us,
            correlation=cause,
            causation=cause,
            actor=SOURCE,
            origin=origin,
        )
        message = encode(Event(envelope, fact))
        topic = message.topic if partition is None else self._topic
        return Message(topic, message.key, message.value, message.headers, partition or 0)

    async def checkpoint(self, store: Store) -> None:
        """Store the fold as it stands; nothing to do when it has not moved.

        While the store is away nothing more is folded: the very same state is saved until it is known to be stored.
        """
        async with self._one_at_a_time:
            if not self._moved:
                return
            progress = Progress(
                feature_set=self._name,
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
