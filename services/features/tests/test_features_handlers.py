"""Rows, markers and journal: what is published, in which order, and the same whatever the polls and crashes."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby

import pytest
from hypothesis import given
from services.features.tests.features_history import (
    ANNOUNCED,
    PLACES,
    SECOND,
    STEPS,
    History,
    Process,
    Step,
    accepted,
    renamed,
    with_junk,
)

from mainstem.events.catalogue import decode
from mainstem.events.data import ProgressReached
from mainstem.events.features import OrderJournalled, RowComputed
from mainstem.events.instants import parse
from mainstem.feature_engine import SnapshotError
from mainstem.fold.fold import Fold
from mainstem.testkit.projects import shop
from mainstem.testkit.records import Taken

ROWS, JOURNAL = "evt.feature.buying", ("evt.feature.journal", 0)


async def undisturbed() -> Process:
    process = Process(ANNOUNCED)
    await process.finish()
    return process


@pytest.fixture(scope="module")
async def calm() -> Process:
    """Return an undisturbed process at its end, to be looked at only."""
    return await undisturbed()


@given(STEPS)
async def test_any_polls_and_crashes_publish_the_same_rows_and_journal(calm: Process, steps: list[Step]) -> None:
    process = Process(ANNOUNCED)
    await process.play(steps)
    await process.finish()
    assert process.published() == calm.published()
    assert process.fold.snapshot() == calm.fold.snapshot()
    assert process.stored.tallies == process.tallies()
    assert (process.stored.journal, process.stored.parked) == (calm.journal(), ())


def test_every_order_has_one_row_in_its_own_partition(calm: Process) -> None:
    for partition in range(2):
        spine = [dict(r.headers)["ce_id"].decode() for r in ANNOUNCED["evt.data.orders", partition] if r.key]
        rows = [json.loads(value or b"") for _, value in calm.published()[ROWS, partition]]
        assert [row["spine_id"] for row in rows if "spine_id" in row] == spine


def test_a_row_is_an_event_that_carries_its_cause_and_its_times(calm: Process) -> None:
    record = calm.log.of(ROWS)[0]
    event = decode(record)
    assert isinstance(event.fact, RowComputed)
    assert (event.envelope.causation, event.envelope.correlation) == (event.fact.spine_id, "story")
    assert event.envelope.recorded_us - event.envelope.time_us == 1_000_000
    source = f"src.orders/{record.partition}/{event.fact.spine_id.rsplit('-')[-1]}"
    assert event.envelope.origin == f"features@{calm.fold.compiled.id[7:19]}/{source}"


def test_the_values_are_those_of_the_records_before_in_the_applied_order(calm: Process) -> None:
    arrivals = [(event.envelope.recorded_us, event.fact) for event in map(decode, calm.log.of(ROWS))]
    rows = [(at, fact) for at, fact in arrivals if isinstance(fact, RowComputed)]
    paid = [
        (event.envelope.recorded_us, event.envelope.subject, event.fact.record["paid"])
        for place in PLACES[2:]
        for event in (decode(r) for r in ANNOUNCED[place] if r.key)
    ]
    for at, row in rows:
        before = [amount for when, who, amount in paid if who == row.entity and when < at]
        assert row.values[2] == pytest.approx(sum(before)) or (not before and row.values[2] in (None, 0))


def test_rows_stand_before_the_marker_that_closes_them(calm: Process) -> None:
    for partition in range(2):
        events = [decode(record) for record in calm.log.of(ROWS) if record.partition == partition]
        reached = -1
        for event in events:
            if isinstance(event.fact, ProgressReached):
                reached = parse(event.fact.until)
            else:
                assert event.envelope.recorded_us > reached
        assert [event.fact.until[14:16] for event in events if isinstance(event.fact, ProgressReached)] == [
            "01",
            "02",
            "03",
        ]


def test_the_journal_is_numbered_without_gaps_and_tells_the_order_of_the_source(calm: Process) -> None:
    entries = [OrderJournalled.model_validate_json(value or b"") for _, value in calm.published()[JOURNAL]]
    assert [entry.number for entry in entries] == [0, 1, 2]
    order = [
        (entry.topics[topic], partition, offset)
        for entry in entries
        for topic, partition, first, last in entry.runs
        for offset in range(first, last + 1)
        if ANNOUNCED[f"evt.data.{entry.topics[topic].removeprefix('src.')}", partition][offset].key
    ]
    assert entries[-1].applied == len(order) == sum(bool(r.key) for place in ANNOUNCED.values() for r in place)
    arrivals = [_arrival(ANNOUNCED, *place) for place in order]
    assert arrivals == sorted(arrivals)


def _arrival(history: History, source: str, partition: int, offset: int) -> int:
    record = history[f"evt.data.{source.removeprefix('src.')}", partition][offset]
    return parse(dict(record.headers)["ce_recordedtime"].decode())


def test_runs_of_one_partition_are_as_long_as_they_can_be(calm: Process) -> None:
    for _, value in calm.published()[JOURNAL]:
        runs = OrderJournalled.model_validate_json(value or b"").runs
        assert [place for place, _ in groupby(run[:2] for run in runs)] == [run[:2] for run in runs]


async def test_records_that_are_delivered_twice_change_nothing() -> None:
    process = await undisturbed()
    before = len(process.log.records), process.fold.snapshot()
    for records in ANNOUNCED.values():
        await process.take(records)
    assert (len(process.log.records), process.fold.snapshot()) == before


def test_a_state_of_another_definition_is_refused(calm: Process) -> None:
    other = shop(window="2h")
    with pytest.raises(SnapshotError):
        Fold(other.feature_sets["buying"].compiled, other.sources).restore(calm.fold.snapshot())


async def test_a_definition_that_was_changed_begins_anew() -> None:
    process = await undisturbed()
    process.definition = shop(window="2h")
    process.restart()
    assert {position.next_offset for position in process.fold.positions.values()} == {0}


FIRST = ANNOUNCED[PLACES[0]][0]
CLOSING = ANNOUNCED[PLACES[0]][-1]


async def after(history: History) -> Process:
    """Return a process that has read a history to its end and stored it."""
    process = Process(history)
    await process.finish()
    return process


def with_one_more(change: Callable[[Taken], Taken]) -> History:
    """Return the history with a changed order at its end, under the next number, known just before the last marker."""
    number, records = CLOSING.offset, ANNOUNCED[PLACES[0]]
    order = change(accepted("orders", 0, number, 180 * SECOND - 1, 1.0))
    closing = renamed(CLOSING, ce_origin=f"src.orders/0/{number + 1}".encode())
    return {**ANNOUNCED, PLACES[0]: [*records[:-1], order, replace(closing, offset=number + 1)]}


DEEP = b'{"record":' + b"[" * 100_000


@pytest.mark.parametrize("value", [b"{", b"{}", None, b'{"record":{"shop":"s00"}}', b'{"record":"\xff"}', DEEP])
async def test_a_record_that_was_never_accepted_is_parked_and_changes_nothing(
    calm: Process, value: bytes | None
) -> None:
    process = await after(with_one_more(lambda order: replace(order, value=value)))
    assert process.published() == calm.published()
    (parked,) = process.stored.parked
    assert (parked.record.offset, "this is no accepted record" in parked.reason) == (CLOSING.offset, True)


@pytest.mark.parametrize(
    "origin",
    [None, b"\xff", b"x", b"x/abc", b"src.orders/0/0_9", b"src.else/9/0", b"src.orders/1/7", b"src.orders/0/9/9"],
)
async def test_a_record_that_says_to_come_from_elsewhere_is_parked_and_changes_nothing(
    calm: Process, origin: bytes | None
) -> None:
    process = await after(with_junk(ANNOUNCED, PLACES[0], 0, renamed(FIRST, ce_origin=origin)))
    assert process.published() == calm.published()
    (parked,) = process.stored.parked
    assert (parked.record.offset, "its ce_origin is not its place in the source" in parked.reason) == (0, True)


@pytest.mark.parametrize(
    ("name", "held"),
    [
        *(("ce_id", held) for held in (None, b"\xff", b"x/abc")),
        *(("ce_time", held) for held in (None, b"\xff", b"x/abc", b"x")),
        *((name, held) for name in ("ce_correlationid", "ce_recordedtime") for held in (None, b"\xff")),
    ],
)
async def test_a_record_with_headers_that_ingestion_never_writes_is_parked_and_changes_nothing(
    calm: Process, name: str, held: bytes | None
) -> None:
    process = await after(with_one_more(lambda order: renamed(order, **{name: held})))
    assert process.published() == calm.published()
    assert [parked.record.offset for parked in process.stored.parked] == [CLOSING.offset]


async def test_a_record_with_a_key_that_is_no_text_is_parked_and_changes_nothing(calm: Process) -> None:
    process = await after(with_one_more(lambda order: replace(order, key=b"\xff")))
    assert process.published() == calm.published()
    assert [parked.record.offset for parked in process.stored.parked] == [CLOSING.offset]


@pytest.mark.parametrize("value", [b'{"until":"\xff"}', DEEP])
async def test_a_marker_that_announces_nothing_changes_nothing(calm: Process, value: bytes) -> None:
    process = await after(
        with_junk(ANNOUNCED, PLACES[0], 1, replace(CLOSING, value=value, headers=CLOSING.headers[:1]))
    )
    assert (process.published(), process.stored.parked) == (calm.published(), ())


@pytest.mark.parametrize(
    ("name", "held"), [("ce_id", b"x"), *(("ce_correlationid", held) for held in (b"x/abc", b"x"))]
)
async def test_a_record_with_an_odd_name_or_correlation_is_one_like_others(
    calm: Process, name: str, held: bytes
) -> None:
    process = await after(with_one_more(lambda order: renamed(order, **{name: held})))
    *rows, odd, marker = process.published()[ROWS, 0]
    assert [*rows, marker] == calm.published()[ROWS, 0]
    assert process.published()[ROWS, 1] == calm.published()[ROWS, 1]
    assert json.loads(odd[1] or b"")["spine_id"] == ("x" if name == "ce_id" else f"orders-0-{CLOSING.offset}")
    assert process.stored.parked == ()
