"""Readings of a gauge, good, bad and odd, and what must be said about each bad one."""

import json
import os
from dataclasses import dataclass
from itertools import count

from tests.system.world import Headers, Sent

MB = 1 << 20
DEEP = 100_000
NUMBERS = count()


def event(record_id: str | None = None, **more: bytes | None) -> Headers:
    """Return the headers of a CloudEvent with an id of its own."""
    known = f"record-{next(NUMBERS)}" if record_id is None else record_id
    given: dict[str, bytes | None] = {"ce_specversion": b"1.0", "ce_type": b"gauge", "ce_id": known.encode(), **more}
    return tuple(given.items())


def reading(**values: object) -> bytes:
    """Return a good reading of a gauge, but for the values given."""
    return json.dumps({"station": "north", "level": 1.5, **values}).encode()


def raw(level: bytes) -> bytes:
    """Return a reading whose level is these bytes."""
    return b'{"station":"north","level":' + level + b"}"


def noise(size: int) -> bytes:
    """Return a reading of so many bytes that does not get smaller by compression."""
    head, tail = b'{"station":"north","level":1,"note":"', b'"}'
    return head + os.urandom(size).hex().encode()[: size - len(head) - len(tail)] + tail


@dataclass(frozen=True)
class Bad:
    """A bad record, and what must be said about it."""

    sent: Sent
    reason: str
    column: str | None
    says: str


def payload(value: bytes | None, reason: str, column: str | None, says: str) -> Bad:
    """Return a bad record whose payload is at fault."""
    return Bad(Sent(value, headers=event()), reason, column, says)


def header(reason: str, says: str, given: Headers) -> Bad:
    """Return a bad record whose headers are at fault."""
    return Bad(Sent(reading(), headers=given), reason, None, says)


def key(value: bytes | None, says: str) -> Bad:
    """Return a bad record whose key is at fault."""
    return Bad(Sent(reading(), value, event()), "key_mismatch", "station", says)


PAYLOADS = {
    "is cut off": payload(b'{"station":', "malformed_json", None, "truncated"),
    "is empty": payload(b"", "malformed_json", None, "the payload is empty"),
    "is not UTF-8": payload(b'\xff\xfe{"station":"north"}', "malformed_json", None, "byte 0"),
    "holds text that is not UTF-8": payload(reading(note="?").replace(b"?", b"\xff"), "malformed_json", None, "utf-8"),
    "is an array": payload(b" [1,2]", "not_an_object", None, "list"),
    "is a bare value": payload(b"17", "not_an_object", None, "int"),
    "is nested too deeply": payload(b'{"a":' * DEEP + b"1" + b"}" * DEEP, "malformed_json", None, "recursion depth"),
    "holds something nested too deeply": payload(raw(b"[" * DEEP + b"]" * DEEP), "malformed_json", None, "recursion"),
    "holds NaN": payload(raw(b"NaN"), "malformed_json", None, "byte 27"),
    "holds Infinity": payload(raw(b"-Infinity"), "malformed_json", None, "byte 28"),
    "holds a number beyond the floats": payload(raw(b"1e400"), "out_of_range", "level", "level: Number out of range"),
    "holds an integer beyond 64 bits": payload(raw(b"%d" % 2**70), "out_of_range", "level", "not within -10 and 10"),
    "holds an integer of 5000 digits": payload(raw(b"9" * 5000), "out_of_range", "level", "level: Integer value"),
    "holds text for a number": payload(reading(level="high"), "wrong_type", "level", "'high' is not a number"),
    "holds a fraction for a whole number": payload(reading(samples=0.5), "wrong_type", "samples", "a whole number"),
    "holds true for a number": payload(reading(level=True), "wrong_type", "level", "True is not a number"),
    "holds an instant without an offset": payload(
        reading(read_at="2024-03-01T00:00:00"), "wrong_type", "read_at", "RFC 3339"
    ),
    "lies out of range": payload(reading(level=11), "out_of_range", "level", "11 m is not within -10 and 10"),
    "holds null": payload(raw(b"null"), "null_not_allowed", "level", "not nullable"),
    "lacks a field": payload(b'{"station":"north"}', "missing_field", "level", "absent"),
    "has a field too many": payload(reading(tons=3), "unknown_field", "tons", "no such column"),
    "names a field twice, once wrongly": payload(
        b'{"station":"north","level":"x","level":1}', "malformed_json", None, "twice"
    ),
    "holds text that is too long": payload(reading(note="x" * 201), "too_long", "note", "201 characters, at most 200"),
    "has two megabytes": payload(reading(note="x" * 2 * MB), "too_large", None, "at most 1048576"),
}
AROUND = {
    "is a tombstone": payload(None, "malformed_json", None, "the payload is empty"),
    "has no key": key(None, "no key, the record says 'north'"),
    "has another key": key(b"\xff", "the record says 'north'"),
    "has no id": header("missing_id", "without ce_id", [("ce_specversion", b"1.0")]),
    "has an empty id": header("missing_id", "without ce_id", event("")),
    "has null for an id": header("missing_id", "without ce_id", [("ce_specversion", b"1.0"), ("ce_id", None)]),
    "has an id that was seen": header("duplicate_id", "id the first was seen", event("the first")),
    "happened yesterday, in words": header("bad_event_time", "b'yesterday' is no RFC", event(ce_time=b"yesterday")),
    "happened at an empty time": header("bad_event_time", "b'' is no RFC 3339", event(ce_time=b"")),
    "happened in no zone": header("bad_event_time", "is no RFC 3339", event(ce_time=b"2024-03-01T00:00:00")),
    "happened at bytes": header("bad_event_time", "is no RFC 3339", event(ce_time=b"\xff" * 27)),
    "happens in future": header("event_after_arrival", "at most 5 min", event(ce_time=b"2999-01-01T00:00:00Z")),
    "happened long ago": header("too_old", "at most 43200 min", event(ce_time=b"1999-01-01T00:00:00Z")),
}
BAD = PAYLOADS | AROUND
#: Odd, but no reason to refuse a record: what is none of ours is not taken for ours.
ODD: dict[str, Headers] = {
    "no headers at all": (),
    "the type of an event of ours": event(ce_type=b"mainstem.registry.project_applied.v1"),
    "a version of CloudEvents that does not exist": event(ce_specversion=b"9.9"),
    "a correlation that is null": event(ce_correlationid=None),
    "a correlation that is no text": event(ce_correlationid=b"\xff\x00"),
    "a trace that is none": event(traceparent=b"\xff"),
    "an origin that runs ahead": event(ce_origin=b"src.gauge/0/999999999"),
    "a recorded time that it may not give": event(ce_recordedtime=b"2999-01-01T00:00:00Z"),
    "an id of bytes": (("ce_specversion", b"1.0"), ("ce_id", b"\xff\x00z")),
    "a header that comes twice": (*event(), *event()),
}
