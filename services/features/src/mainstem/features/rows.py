"""Rows, progress markers and journal entries of a feature set as messages: the same from one worker or from many."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import orjson

from mainstem.events.catalogue import encode
from mainstem.events.data import ProgressReached
from mainstem.events.envelope import Envelope, Event, Message, dataschema
from mainstem.events.fact import Fact
from mainstem.events.features import FoldStopped, OrderJournalled, RowComputed
from mainstem.events.ids import child_id
from mainstem.events.instants import parse, render
from mainstem.events.record import Record
from mainstem.feature_engine import CompiledSet
from mainstem.fold.gap import Gap
from mainstem.fold.ordered import Item
from mainstem.telemetry import Tracer

SOURCE = "/mainstem/features"

_FIXED = (
    ("ce_specversion", b"1.0"),
    ("content-type", b"application/json"),
    ("ce_type", RowComputed.TYPE.encode()),
    ("ce_source", SOURCE.encode()),
    ("ce_dataschema", dataschema(RowComputed.TYPE).encode()),
    ("ce_tenant", b"default"),
    ("ce_actor", SOURCE.encode()),
)


def writer_of(definition: str) -> str:
    """Return under which name a feature set of this identity publishes: its streams of origins begin with it."""
    return f"features@{definition[7:19]}"


class RowWriter:
    """Writes what is published of one feature set."""

    def __init__(self, compiled: CompiledSet, tracer: Tracer) -> None:
        self.label, self.id = compiled.label, compiled.id
        self._tracer = tracer
        self._topic = RowComputed.topic_of(self.label)
        self._name = f"{RowComputed.TYPE}:{self.id}"
        self._origin = writer_of(self.id)

    def payloads(self, spine: Sequence[Item], values: npt.NDArray[np.float64]) -> list[bytes]:
        """Return the payload of each row."""
        head = f'{{"feature_set":"{self.label}","definition":"{self.id}","entity":'.encode()
        rows = [orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY) for row in values]
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
            for (record, headers), row in zip(spine, rows, strict=True)
        ]

    def row(self, record: Record, headers: Mapping[str, bytes], payload: bytes) -> Message:
        """Return the row of a spine record."""
        row_id = child_id(headers["ce_id"].decode(), self._name)
        out = [
            *_FIXED,
            ("ce_id", row_id.encode()),
            ("ce_subject", record.key or b""),
            ("ce_time", headers["ce_time"]),
            ("ce_recordedtime", headers["ce_recordedtime"]),
            ("ce_correlationid", headers["ce_correlationid"]),
            ("ce_causationid", headers["ce_id"]),
            # The spine record's own, for this very set: another that takes its label has rows of its own.
            ("ce_origin", b"%b/%b" % (self._origin.encode(), headers["ce_origin"])),
        ]
        trace = self._tracer.step(headers.get("traceparent"), f"process {record.topic}", {"event.id": row_id})
        if trace is not None:
            out.append(("traceparent", trace))
        return Message(self._topic, record.key, payload, tuple(out), record.partition)

    def entry(self, entry: OrderJournalled) -> Message:
        """Return an entry of the journal."""
        place = f"{self._origin}/{entry.number}"
        return self._message(entry, parse(entry.until), place, None, cause=f"{self.id}/journal/{entry.number}")

    def marker(self, instant_us: int, number: int, partition: int) -> Message:
        """Return the announcement, in one partition, of the instant that ends the journal's entry of that number."""
        fact = ProgressReached(until=render(instant_us))
        return self._message(fact, instant_us, f"{self._origin}#progress/{number}", partition)

    def stopped(self, gap: Gap) -> Message:
        """Return the event that the fold stands still before a gap in its input."""
        fact = FoldStopped(
            feature_set=self.label,
            definition=self.id,
            input=gap.topic,
            partition=gap.partition,
            expected_offset=gap.expected,
            found_offset=gap.found,
            reason=str(gap),
        )
        where = f"{self._origin}#stopped/{gap.topic}/{gap.partition}/{gap.expected}"
        message = self._message(fact, gap.appended_us, where, None, cause=f"{self.id}/{where}")
        return Message(message.topic, message.key, message.value, message.headers, 0)

    def _message(
        self, fact: Fact, instant_us: int, origin: str, partition: int | None, *, cause: str | None = None
    ) -> Message:
        cause = cause or f"{self.id}/{instant_us}"
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
