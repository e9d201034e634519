"""Records in, verdicts out: a batch of one partition becomes messages for the bus and notes for the store."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import NamedTuple

import msgspec
import numpy as np

from mainstem.events.catalogue import encode
from mainstem.events.data import BatchJudged, ProgressReached, RecordAccepted, RecordQuarantined, RecordRedriven
from mainstem.events.envelope import Envelope, Event, Message, dataschema
from mainstem.events.errors import NO_DOCUMENT
from mainstem.events.fact import Fact
from mainstem.events.ids import child_id, fingerprint
from mainstem.events.instant_columns import parse_all
from mainstem.events.instants import CANONICAL_WIDTH, NEVER, parse, render
from mainstem.events.record import Record
from mainstem.ingestion.domain import Block, PartitionState
from mainstem.ingestion.ports import Tally
from mainstem.project.contract import SourceContract
from mainstem.project.reasons import Fault, Reason
from mainstem.project.records import Decoder
from mainstem.telemetry import Tracer

Partition = tuple[str, int]

SOURCE = "/mainstem/ingestion"
#: A record larger than this is refused.
MAX_RECORD_BYTES = 1 << 20
#: So is one whose key and headers together are larger: parts of them stand in every event that it leads to.
MAX_AROUND_BYTES = 16 << 10
#: A quarantine event keeps this much of the payload; the source topic and the ledger keep all of it.
PAYLOAD_BYTES_KEPT = 16 << 10

_PROGRESS = ProgressReached.TYPE.encode()
_ACCEPTED = RecordAccepted.TYPE.encode()
_FIXED = (
    ("ce_specversion", b"1.0"),
    ("content-type", b"application/json"),
    ("ce_type", _ACCEPTED),
    ("ce_source", SOURCE.encode()),
    ("ce_dataschema", dataschema(RecordAccepted.TYPE).encode()),
    ("ce_tenant", b"default"),
    ("ce_actor", SOURCE.encode()),
)

#: What stands for an instant that was not given; see also NEVER, just below it.
_ABSENT = NEVER + 1
_QUARANTINE_ID = re.compile(rb"[0-9a-f]{32}")


@dataclass(slots=True)
class Outcome:
    """What a batch led to."""

    messages: list[Message] = field(default_factory=list)
    quarantined: list[RecordQuarantined] = field(default_factory=list)
    redriven: list[RecordRedriven] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)


class _Row(NamedTuple):
    """A record with what its headers say."""

    record: Record
    headers: dict[str, bytes]
    id: str | None
    time_us: int
    recorded_us: int
    fault: Fault | None
    #: The source's own text of the recorded time, where that counts and is in canonical form.
    recorded_text: bytes | None
    #: What the record is known by: its id, or where it stands.
    known_by: str


class Judge:
    """Judges the records of one source. Holds no state of its own: that is in the `PartitionState` handed in."""

    def __init__(self, contract: SourceContract, tracer: Tracer) -> None:
        self.contract = contract
        self._decoder = Decoder(contract)
        self._tracer = tracer
        self._head = f'{{"source":"{contract.name}","contract":"{contract.id}"'.encode()
        self._topic = RecordAccepted.TOPIC.format(source=contract.name)

    def judge(self, records: Sequence[Record], headers: Sequence[dict[str, bytes]], state: PartitionState) -> Outcome:
        """Judge records of one partition in their order and remember them in `state`."""
        outcome = Outcome()
        pairs = list(zip(records, headers, strict=True))
        for until, run in groupby(pairs, key=self._announces):
            if until is None:
                self._judge_run(list(run), state, outcome)
            else:
                for record, found in run:
                    self._pass_on(record, found, until, outcome)
        return outcome

    def _announces(self, pair: tuple[Record, dict[str, bytes]]) -> str | None:
        """Return until when a marker says that all is out; None for a record, also for one that claims to be a marker.

        Nobody knows that all is out until an instant that is still to come.
        """
        record, headers = pair
        if headers.get("ce_type") != _PROGRESS or _size_around(record, headers) > MAX_AROUND_BYTES:
            return None
        try:
            until_us = parse(msgspec.json.decode(record.value or b"", type=_Until).until)
        except NO_DOCUMENT:
            return None
        return render(until_us) if until_us <= self._latest(record) else None

    def _latest(self, record: Record) -> int:
        """Return the last instant that could be known when the broker took the record."""
        return record.timestamp * 1000 + self.contract.ahead

    def _pass_on(self, record: Record, headers: dict[str, bytes], until: str, outcome: Outcome) -> None:
        """Pass a progress marker to the same partition of the accepted topic."""
        (given,) = _times([headers.get("ce_recordedtime")])
        # A source that replays history says when it was known; a marker that does not was known then.
        recorded_us = given if _ABSENT < given <= self._latest(record) else parse(until)
        if not self.contract.replay:
            recorded_us = record.timestamp * 1000
        event = _from_record(record, headers, ProgressReached(until=until), recorded_us)
        message = encode(event.at_origin(_origin(record)))
        outcome.messages.append(Message(self._topic, message.key, message.value, message.headers, record.partition))

    def _judge_run(self, pairs: list[tuple[Record, dict[str, bytes]]], state: PartitionState, outcome: Outcome) -> None:
        rows = self._read(pairs)
        judgement = self._decoder.judge(
            [row.record.value or b"" for row in rows],
            [row.record.key for row in rows],
            np.array([row.time_us for row in rows], np.int64),
            np.array([row.recorded_us for row in rows], np.int64),
        )
        for index, (row, found) in enumerate(zip(rows, judgement.faults, strict=True)):
            closed = state.enter(row.record.offset)
            if closed is not None:
                self._close(closed, row, outcome)
            fault = row.fault or found
            mark = fingerprint(row.known_by.encode())
            if fault is None and not state.seen.admit(mark, row.recorded_us):
                fault = Fault(Reason.DUPLICATE_ID, None, f"id {row.id} was seen within the contract's `unique_within`")
            self._count(state, fault, outcome)
            if fault is None:
                outcome.tally.count_accepted(mark)
                self._accept(row, outcome)
                for column, nulls in judgement.nulls.items():
                    _count_null(state, column, bool(nulls[index]))
            else:
                self._quarantine(row, fault, outcome)

    def _read(self, pairs: list[tuple[Record, dict[str, bytes]]]) -> list[_Row]:
        """Read ids and times from the headers, times of the whole batch at once."""
        appended = [record.timestamp * 1000 for record, _ in pairs]
        times = _times([headers.get("ce_time") for _, headers in pairs])
        recorded = _times([headers.get("ce_recordedtime") for _, headers in pairs])
        rows = []
        for (record, headers), arrived_us, time, given in zip(pairs, appended, times, recorded, strict=True):
            replayed = self.contract.replay and _ABSENT < given <= self._latest(record)
            text = headers["ce_recordedtime"] if replayed else None
            known_us = given if replayed else arrived_us
            record_id = _record_id(record, headers)
            rows.append(
                _Row(
                    record,
                    headers,
                    record_id,
                    time if time > _ABSENT else known_us,
                    known_us,
                    _header_fault(record, headers, time) or self._time_fault(record, given),
                    text if text is not None and len(text) == CANONICAL_WIDTH else None,
                    record_id or _origin(record),
                )
            )
        return rows

    def _time_fault(self, record: Record, given: int) -> Fault | None:
        if not self.contract.replay or given <= self._latest(record):
            return None
        ahead = f"ce_recordedtime {render(given)} lies after {render(record.timestamp * 1000)}, when the broker took it"
        return Fault(Reason.EVENT_AFTER_ARRIVAL, None, ahead)

    def _count(self, state: PartitionState, fault: Fault | None, outcome: Outcome) -> None:
        block = state.block
        assert block is not None  # noqa: S101  # enter() made it
        block.records += 1
        if fault is not None:
            block.quarantined += 1
            outcome.tally.quarantined += 1

    def _accept(self, row: _Row, outcome: Outcome) -> None:
        record, headers = row.record, row.headers
        cause = row.known_by
        accepted_id = child_id(cause, RecordAccepted.TYPE)
        out = [
            *_FIXED,
            ("ce_id", accepted_id.encode()),
            ("ce_subject", record.key or b""),
            ("ce_time", headers.get("ce_time") or render(row.time_us).encode()),
            ("ce_recordedtime", row.recorded_text or render(row.recorded_us).encode()),
            ("ce_correlationid", (_text(headers.get("ce_correlationid", b"")) or cause).encode()),
            ("ce_causationid", cause.encode()),
            ("ce_origin", _origin(record).encode()),
        ]
        trace = self._tracer.step(headers.get("traceparent"), f"process {record.topic}", {"event.id": accepted_id})
        if trace is not None:
            out.append(("traceparent", trace))
        replaces = headers.get("ce_replaces", b"")
        if not _QUARANTINE_ID.fullmatch(replaces):
            replaces = b""
        middle = b',"replaces":"' + replaces + b'"' if replaces else b""
        value = b"".join((self._head, middle, b',"record":', record.value or b"", b"}"))
        outcome.messages.append(Message(self._topic, record.key, value, tuple(out), record.partition))
        if replaces:
            fact = RecordRedriven(quarantine_id=replaces.decode(), source=self.contract.name, accepted_id=accepted_id)
            outcome.redriven.append(fact)
            self._publish(row, fact, _origin(record, "redriven"), outcome)

    def _quarantine(self, row: _Row, fault: Fault, outcome: Outcome) -> None:
        record, value = row.record, row.record.value or b""
        fact = RecordQuarantined(
            quarantine_id=child_id(_origin(record), RecordQuarantined.TYPE),
            source=self.contract.name,
            contract=self.contract.id,
            record_id=row.id,
            reason=fault.reason,
            column=None if fault.column is None else _storable(fault.column),
            detail=_storable(fault.detail[:500]),
            partition=record.partition,
            offset=record.offset,
            payload=base64.b64encode(value[:PAYLOAD_BYTES_KEPT]).decode(),
            payload_bytes=len(value),
            event_time=_text(row.headers.get("ce_time", b"")) or None,
            recorded_time=render(row.recorded_us),
        )
        outcome.quarantined.append(fact)
        self._publish(row, fact, _origin(record), outcome)

    def _close(self, block: Block, row: _Row, outcome: Outcome) -> None:
        rules = self.contract.batch
        broken = block.broken(rules)
        fact = BatchJudged(
            source=self.contract.name,
            partition=row.record.partition,
            first_offset=block.first_offset,
            records=block.records,
            quarantined=block.quarantined,
            null_fractions=block.null_fractions(),
            verdict="broken" if broken else "kept",
            broken=broken,
        )
        origin = f"{row.record.topic}/{row.record.partition}#block/{block.number}"
        self._publish(row, fact, origin, outcome)

    def _publish(self, row: _Row, fact: Fact, origin: str, outcome: Outcome) -> None:
        event = _from_record(row.record, row.headers, fact, row.recorded_us)
        envelope = replace(event.envelope, id=child_id(origin, fact.TYPE), origin=origin)
        message = encode(Event(envelope, fact))
        outcome.messages.append(Message(message.topic, message.key, message.value, message.headers, 0))


class _Until(msgspec.Struct):
    until: str


def _size_around(record: Record, headers: dict[str, bytes]) -> int:
    return len(record.key or b"") + sum(map(len, headers.values()))


def _text(raw: bytes) -> str:
    """Return a header of a source as text that can be kept, whatever its bytes and however many."""
    return _storable(raw[:MAX_AROUND_BYTES].decode(errors="replace"))


def _storable(text: str) -> str:
    """Return the text without the one character that PostgreSQL cannot keep."""
    return text.replace("\0", "\ufffd")


def _record_id(record: Record, headers: dict[str, bytes]) -> str | None:
    """Return the id a record came with; plain JSON without headers is known by where it stands."""
    given = headers.get("ce_id")
    if given:
        return _text(given)
    return None if "ce_specversion" in headers else child_id(_origin(record), "record")


def _header_fault(record: Record, headers: dict[str, bytes], time_us: int) -> Fault | None:
    size = len(record.value or b"")
    if size > MAX_RECORD_BYTES:
        return Fault(Reason.TOO_LARGE, None, f"{size} bytes, at most {MAX_RECORD_BYTES}")
    around = _size_around(record, headers)
    if around > MAX_AROUND_BYTES:
        return Fault(Reason.TOO_LARGE, None, f"key and headers take {around} bytes, at most {MAX_AROUND_BYTES}")
    if "ce_specversion" in headers and not headers.get("ce_id"):
        return Fault(Reason.MISSING_ID, None, "a CloudEvent without ce_id")
    if time_us == NEVER:
        return Fault(Reason.BAD_EVENT_TIME, None, f"ce_time {headers.get('ce_time')!r} is no RFC 3339 instant")
    return None


def _times(texts: Sequence[bytes | None]) -> list[int]:
    """Return the instants of the texts, all read at once; NEVER for one that cannot be read, _ABSENT for none."""
    present = [text for text in texts if text is not None]
    if len(present) == len(texts):
        return list(parse_all(present).tolist())
    read = iter(parse_all(present).tolist())
    return [_ABSENT if text is None else next(read) for text in texts]


def _count_null(state: PartitionState, column: str, is_null: bool) -> None:
    assert state.block is not None  # noqa: S101  # enter() made it
    state.block.nulls[column] = state.block.nulls.get(column, 0) + is_null


def _origin(record: Record, kind: str = "") -> str:
    stream = f"{record.topic}/{record.partition}"
    return f"{stream}#{kind}/{record.offset}" if kind else f"{stream}/{record.offset}"


def _from_record(record: Record, headers: dict[str, bytes], fact: Fact, recorded_us: int) -> Event:
    """Return an event caused by a record of a source."""
    cause = _record_id(record, headers) or _origin(record)
    return Event(
        Envelope(
            id=child_id(_origin(record), fact.TYPE),
            type=fact.TYPE,
            source=SOURCE,
            subject=fact.key,
            time_us=recorded_us,
            recorded_us=recorded_us,
            correlation=_text(headers.get("ce_correlationid", b"")) or cause,
            causation=cause,
            actor=SOURCE,
        ),
        fact,
    )
