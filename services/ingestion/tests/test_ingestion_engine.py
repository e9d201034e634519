"""The verdicts on records: each reason from its own damage, and the same verdicts however the records are batched."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem.events.catalogue import decode
from mainstem.events.data import BatchJudged, ProgressReached, RecordAccepted, RecordQuarantined, RecordRedriven
from mainstem.events.envelope import Message
from mainstem.events.record import header
from mainstem.ingestion.domain import PartitionState
from mainstem.ingestion.engine import MAX_AROUND_BYTES, MAX_RECORD_BYTES, PAYLOAD_BYTES_KEPT, Judge, Outcome
from mainstem.project.contract import BLOCK
from mainstem.project.reasons import Reason
from mainstem.telemetry import Tracer
from mainstem.testkit.projects import orders
from mainstem.testkit.records import Log, Taken

TRACER = Tracer("test", None)
CONTRACT = orders(replay=True, batch={"max_quarantined": 0.5, "max_null": {"weight": 0.2}})
JUDGE = Judge(CONTRACT, TRACER)
LIVE = Judge(orders(), TRACER)
MAY = "2013-05-01T04:00:00.000000Z"
GOOD = {"shop": "a", "amount": 9.5, "weight": 1.5}


def record(offset: int = 0, value: Any = GOOD, key: bytes | None = b"a", **headers: str | None) -> Taken:
    """Return a CloudEvent of the orders; a header given as None is left out."""
    given = {"specversion": "1.0", "id": f"id-{offset}", "time": MAY, "recordedtime": MAY, **headers}
    pairs = tuple((f"ce_{name}", text.encode()) for name, text in given.items() if text is not None)
    payload = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Taken("src.orders", 1, offset, payload, key, pairs, timestamp=1_367_380_800_000)


def judge(records: Sequence[Taken], judge: Judge = JUDGE, state: PartitionState | None = None) -> Outcome:
    state = state or PartitionState.load(judge.contract.unique_within, None)
    return judge.judge(records, [dict(r.headers) for r in records], state)


def facts(outcome: Outcome) -> list[Any]:
    return [decode(taken).fact for taken in Log().append(outcome.messages)]


def test_a_good_record_is_accepted_byte_for_byte_in_its_own_partition() -> None:
    payload = b'{ "amount":9.50,  "shop":"a" }'
    outcome = judge([record(7, payload)])
    (message,) = outcome.messages
    (fact,) = facts(outcome)
    assert (message.topic, message.partition, message.key) == ("evt.data.orders", 1, b"a")
    assert payload in (message.value or b"")
    assert (fact.source, fact.contract, fact.replaces) == ("orders", CONTRACT.id, None)
    assert dict(message.headers)["ce_origin"] == b"src.orders/1/7"


def test_an_accepted_record_keeps_its_times_its_cause_and_its_story() -> None:
    outcome = judge([record(0, time="2013-05-01T03:00:00Z", correlationid="story")])
    (event,) = [decode(taken) for taken in Log().append(outcome.messages)]
    assert (event.envelope.recorded_us - event.envelope.time_us) == 3_600_000_000
    assert (event.envelope.correlation, event.envelope.causation) == ("story", "id-0")


def test_a_live_source_cannot_say_when_its_record_arrived() -> None:
    (message,) = judge([record(0, recordedtime="2013-05-01T03:59:00Z")], LIVE).messages
    assert dict(message.headers)["ce_recordedtime"] == b"2013-05-01T04:00:00.000000Z"


def test_a_replay_cannot_say_that_its_record_arrives_later_than_the_broker_took_it() -> None:
    (fact,) = facts(judge([record(0, recordedtime="9999-12-31T00:00:00Z")]))
    assert (fact.reason, fact.recorded_time) == (Reason.EVENT_AFTER_ARRIVAL, MAY)
    assert fact.detail == f"ce_recordedtime 9999-12-31T00:00:00.000000Z lies after {MAY}, when the broker took it"


def test_plain_json_without_headers_is_known_by_where_it_stands() -> None:
    plain = Taken("src.orders", 1, 3, json.dumps(GOOD).encode(), b"a", timestamp=1_367_380_800_000)
    first, again = judge([plain], LIVE), judge([plain], LIVE)
    assert first == again
    assert [type(fact) for fact in facts(first)] == [RecordAccepted]


DAMAGE = {
    Reason.MALFORMED_JSON: record(value=b'{"shop"'),
    Reason.NOT_AN_OBJECT: record(value=[GOOD]),
    Reason.MISSING_FIELD: record(value={"shop": "a"}),
    Reason.UNKNOWN_FIELD: record(value={**GOOD, "colour": "red"}),
    Reason.WRONG_TYPE: record(value={**GOOD, "amount": "9.5"}),
    Reason.NULL_NOT_ALLOWED: record(value={**GOOD, "amount": None}),
    Reason.OUT_OF_RANGE: record(value={**GOOD, "amount": 1001}),
    Reason.TOO_LONG: record(value={**GOOD, "shop": "x" * 65}),
    Reason.KEY_MISMATCH: record(key=b"b"),
    Reason.EVENT_AFTER_ARRIVAL: record(time="2013-05-01T05:00:00Z"),
    Reason.TOO_OLD: record(time="2013-03-01T05:00:00Z"),
    Reason.MISSING_ID: record(id=None),
    Reason.BAD_EVENT_TIME: record(time="yesterday"),
    Reason.TOO_LARGE: record(value=b" " * (10 << 20)),
}


@pytest.mark.parametrize("reason", DAMAGE, ids=lambda reason: reason.value)
def test_each_damage_has_its_reason(reason: Reason) -> None:
    outcome = judge([DAMAGE[reason]])
    (fact,) = facts(outcome)
    assert isinstance(fact, RecordQuarantined)
    assert (fact.reason, fact.partition, fact.offset) == (reason, 1, 0)
    assert fact.detail
    assert outcome.quarantined == [fact]


def test_every_reason_that_a_record_of_this_source_can_have_is_tried() -> None:
    assert set(Reason) - set(DAMAGE) == {Reason.DUPLICATE_ID, Reason.UNKNOWN_CATEGORY}


def test_a_second_record_of_one_id_is_a_duplicate_and_a_refused_one_leaves_its_id_free() -> None:
    same = [record(0, value=b"x", id="same"), record(1, id="same"), record(2, id="same")]
    verdicts = [getattr(fact, "reason", "accepted") for fact in facts(judge(same))]
    assert verdicts == [Reason.MALFORMED_JSON, "accepted", Reason.DUPLICATE_ID]


def test_a_large_record_is_quarantined_with_its_beginning_and_its_size() -> None:
    (fact,) = judge([DAMAGE[Reason.TOO_LARGE]]).quarantined
    assert fact.payload_bytes == 10 << 20
    assert len(fact.payload) == -(-PAYLOAD_BYTES_KEPT // 3) * 4


def test_a_neighbour_of_a_bad_record_is_accepted() -> None:
    outcome = judge([record(0), record(1, b"\xff"), record(2)])
    assert [type(fact) for fact in facts(outcome)] == [RecordAccepted, RecordQuarantined, RecordAccepted]
    assert (outcome.tally.accepted, outcome.tally.quarantined) == (2, 1)


def marker(offset: int, value: bytes = b'{"until":"2013-05-01T05:00:00+01:00"}') -> Taken:
    return Taken("src.orders", 1, offset, value, None, (("ce_type", ProgressReached.TYPE.encode()),))


def test_a_progress_marker_is_passed_on_in_its_place_and_partition() -> None:
    outcome = judge([record(0), marker(1), record(2)])
    assert [type(fact) for fact in facts(outcome)] == [RecordAccepted, ProgressReached, RecordAccepted]
    message = outcome.messages[1]
    assert (message.topic, message.partition, message.value) == ("evt.data.orders", 1, b'{"until":"%s"}' % MAY.encode())
    assert dict(message.headers)["ce_origin"] == b"src.orders/1/1"


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{}",
        b"[]",
        b'{"until":7}',
        b'{"until":"soon"}',
        b'{"until":"9999-12-31T00:00:00Z"}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_a_marker_that_says_nothing_is_judged_as_a_record(value: bytes) -> None:
    assert [type(fact) for fact in facts(judge([marker(0, value)]))] == [RecordQuarantined]


@pytest.mark.parametrize("value", [None, b'{"until":"%s"}' % MAY.encode()])
@pytest.mark.parametrize("what", ["ce_id", "ce_correlationid", "ce_time", "traceparent", "ce_anything"])
def test_headers_of_megabytes_are_quarantined_and_travel_no_further(what: str, value: bytes | None) -> None:
    taken = record(0) if value is None else marker(0, value)
    outcome = judge([replace(taken, headers=(*taken.headers, (what, b"x" * MAX_RECORD_BYTES)))])
    (message,) = outcome.messages
    (fact,) = facts(outcome)
    assert isinstance(fact, RecordQuarantined)
    assert (fact.reason, "key and headers take" in fact.detail) == ("too_large", True)
    assert len(message.value or b"") + sum(len(value) for _, value in message.headers) < 5 * MAX_AROUND_BYTES


def test_a_key_of_megabytes_is_quarantined() -> None:
    (fact,) = facts(judge([replace(record(0), key=b"x" * MAX_RECORD_BYTES)]))
    assert fact.reason == "too_large"


def test_a_correction_takes_the_place_of_the_quarantined_record() -> None:
    quarantine_id = "0123456789abcdef" * 2
    outcome = judge([record(5, replaces=quarantine_id)])
    accepted, redriven = facts(outcome)
    assert accepted.replaces == quarantine_id
    accepted_id = dict(outcome.messages[0].headers)["ce_id"].decode()
    assert redriven == RecordRedriven(quarantine_id=quarantine_id, source="orders", accepted_id=accepted_id)


@pytest.mark.parametrize("replaces", ["x", '","record":{},"x":"', "ü" * 16])
def test_what_is_no_quarantine_id_replaces_nothing(replaces: str) -> None:
    (fact,) = facts(judge([record(5, replaces=replaces)]))
    assert fact.replaces is None


def test_a_block_is_judged_by_the_batch_rules_when_the_next_begins() -> None:
    light = {"shop": "a", "amount": 1}
    batch = [record(n, light if n % 2 else GOOD) for n in range(BLOCK + 1)]
    (fact,) = [fact for fact in facts(judge(batch)) if isinstance(fact, BatchJudged)]
    assert (fact.first_offset, fact.records, fact.quarantined, fact.null_fractions) == (0, BLOCK, 0, {"weight": 0.5})
    assert (fact.verdict, fact.broken) == ("broken", ["null weight 0.500 > 0.2"])


def identity(message: Message) -> tuple[Any, ...]:
    """Return what tells two copies of one event apart from two events."""
    headers = dict(message.headers)
    return message.topic, message.partition, headers["ce_id"], headers["ce_origin"], message.value


def stream(length: int) -> list[Taken]:
    """Return records around the end of a block: good, broken, repeated, and markers among them."""
    kinds = [record, lambda n: record(n, b"?"), lambda n: record(n, id="repeated"), marker, lambda n: record(n, None)]
    return [kinds[(offset * 7) % 5](offset) for offset in range(BLOCK - length // 2, BLOCK + length // 2)]


@given(
    st.lists(st.integers(0, 40), max_size=5).map(sorted),
    st.lists(st.integers(0, 40), max_size=5).map(sorted),
    st.integers(0, 40),
    st.integers(0, 40),
)
def test_any_batching_with_a_crash_in_it_publishes_the_same_events(
    cuts: list[int], cuts_after: list[int], checkpoint: int, beyond: int
) -> None:
    records = stream(40)
    state = PartitionState.load(CONTRACT.unique_within, None)
    published = in_batches(records[:checkpoint], cuts, state)
    stored = state.dump()
    # Published after the checkpoint, and then the process is gone.
    published += in_batches(records[checkpoint:beyond], cuts, state)
    restored = PartitionState.load(CONTRACT.unique_within, stored)
    published += in_batches(records[checkpoint:], cuts_after, restored)
    assert set(published) == set(map(identity, judge(records).messages))


def in_batches(records: Sequence[Taken], cuts: Sequence[int], state: PartitionState) -> list[tuple[Any, ...]]:
    edges = [0, *(min(cut, len(records)) for cut in cuts), len(records)]
    batches = [records[begin:end] for begin, end in pairwise(edges)]
    return [identity(message) for batch in batches for message in judge(batch, state=state).messages]


JUNK = (
    st.binary(max_size=30)
    | st.text(max_size=30).map(str.encode)
    | st.sampled_from([b"\0", b"\xff", b'{"shop":"\\ud800"}', MAY.encode()])
)
ATTRIBUTES = ["id", "time", "recordedtime", "type", "specversion", "correlationid", "replaces", "origin"]
NAMES = st.sampled_from(["traceparent", *(f"ce_{name}" for name in ATTRIBUTES)])
VALUES = JUNK | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.dictionaries(st.sampled_from([*GOOD, "\0", "x"]), inner) | st.lists(inner),
    max_leaves=5,
).map(lambda value: json.dumps(value).encode())


@given(st.lists(st.tuples(VALUES, st.none() | JUNK, st.dictionaries(NAMES, JUNK)), max_size=5))
def test_whatever_a_source_sends_becomes_events_that_can_be_read_and_kept(
    sent: list[tuple[bytes, bytes | None, dict[str, bytes]]],
) -> None:
    records = [Taken("src.orders", 0, n, value, key, tuple(h.items())) for n, (value, key, h) in enumerate(sent)]
    for judging in (JUDGE, LIVE):
        outcome = judge(records, judging)
        assert not any("\0" in str(fact) for fact in facts(outcome))
        assert all(b"\0" not in (header(taken, "ce_causationid") or b"") for taken in Log().append(outcome.messages))
