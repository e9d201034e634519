"""Rows, markers and journal: what is published, in which order, and the same whatever the polls and crashes."""

import json
from dataclasses import replace
from itertools import groupby
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from services.features.tests.features_history import ANNOUNCED, SILENT, History, Process

from mainstem.events.catalogue import decode
from mainstem.events.data import ProgressReached
from mainstem.events.features import OrderJournalled, RowComputed
from mainstem.events.instants import parse
from mainstem.feature_engine import SnapshotError
from mainstem.features.engine import Fold
from mainstem.features.ports import Partition
from mainstem.testkit.projects import shop
from mainstem.testkit.records import Taken

PLACES = [(f"evt.data.{source}", partition) for source in ("orders", "payments") for partition in range(2)]
POLL = st.tuples(st.sampled_from(PLACES), st.integers(1, 6))
Step = Literal["checkpoint", "crash"] | tuple[Partition, int]
STEPS: st.SearchStrategy[list[Step]] = st.lists(POLL | st.sampled_from(("checkpoint", "crash")), max_size=25)
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
    for step in steps:
        match step:
            case "checkpoint":
                await process.checkpoint()
            case "crash":
                process.restart()
            case place, count:
                await process.poll(place, count)
    await process.finish()
    assert process.published() == calm.published()
    assert process.fold.snapshot() == calm.fold.snapshot()


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
    assert event.envelope.origin == f"src.orders/{record.partition}/{event.fact.spine_id.rsplit('-')[-1]}"


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


async def test_live_sources_wait_for_one_another_only_until_they_are_read_to_their_end() -> None:
    process = Process(SILENT, shop(replay=False))
    await process.poll(PLACES[0], 2)
    assert process.log.records == []
    await process.finish()
    rows = [decode(record).fact for record in process.log.of(ROWS)]
    assert len(rows) == len(SILENT[PLACES[0]]) + len(SILENT[PLACES[1]])


async def test_rows_that_only_waited_are_stored_too() -> None:
    process = Process(SILENT, shop(replay=False))
    await process.poll(PLACES[0], 1)
    await process.checkpoint()
    for place in PLACES[1:]:
        await process.poll(place, 1_000)
    await process.finish()
    stored = process.store.states[process.fold.compiled.id]
    assert stored.state == process.fold.snapshot()


def test_a_state_of_another_definition_is_refused(calm: Process) -> None:
    other = shop(window="2h")
    with pytest.raises(SnapshotError):
        Fold(other.feature_sets["buying"].compiled, other.sources).restore(calm.fold.snapshot())


async def test_a_definition_that_was_changed_begins_anew() -> None:
    process = await undisturbed()
    process.definition = shop(window="2h")
    process.restart()
    assert {position.next_offset for position in process.fold.positions.values()} == {0}


def with_junk(value: bytes | None, **headers: bytes | None) -> dict[Partition, list[Taken]]:
    """Return the history with one more record in the first partition, before all others, that ingestion never wrote."""
    place, records = PLACES[0], ANNOUNCED[PLACES[0]]
    good = dict(records[0].headers)
    given = tuple((name, held) for name, held in {**good, **headers}.items() if held is not None)
    junk = replace(records[0], value=value, headers=given)
    return {**ANNOUNCED, place: [junk, *(replace(record, offset=record.offset + 1) for record in records)]}


@pytest.mark.parametrize("value", [b"{", b"{}", None, b'{"record":{"shop":"s00"}}'])
async def test_a_record_that_was_never_accepted_is_parked_and_changes_no_row(calm: Process, value: bytes) -> None:
    process = Process(with_junk(value, ce_origin=None))
    await process.finish()
    assert process.published() == calm.published()
    (parked,) = process.store.states[process.fold.compiled.id].parked
    assert (parked.record.offset, "this is no accepted record" in parked.reason) == (0, True)


@pytest.mark.parametrize("name", ["ce_id", "ce_time", "ce_correlationid", "ce_origin"])
@pytest.mark.parametrize("held", [None, b"\xff", b"x/abc", b"x"])
async def test_headers_that_nobody_accepted_stop_nothing(calm: Process, name: str, held: bytes | None) -> None:
    origin = {} if name == "ce_origin" else {"ce_origin": b"src.else/9/0"}
    process = Process(with_junk(ANNOUNCED[PLACES[0]][0].value, **origin, **{name: held}))
    await process.finish()
    ids = {event_id for events in calm.published().values() for event_id, _ in events}
    assert ids <= {event_id for events in process.published().values() for event_id, _ in events}


def journal(process: Process) -> list[OrderJournalled]:
    """Return the entries of a process's journal, each once."""
    facts = (decode(record).fact for record in process.log.of(JOURNAL[0]))
    return list({fact.number: fact for fact in facts if isinstance(fact, OrderJournalled)}.values())


@given(STEPS, STEPS)
async def test_what_was_applied_of_live_sources_is_applied_again_in_the_order_of_the_journal(
    before: list[Step], after: list[Step]
) -> None:
    process = Process(SILENT, shop(replay=False))
    for step in [*before, "crash", *after]:
        match step:
            case "checkpoint":
                await process.checkpoint()
            case "crash":
                process.restart()
                process.fold.follow(journal(process))
            case place, count:
                await process.poll(place, count)
    await process.finish()
    for _ in journal(process):
        await process.take([])
    payloads: dict[bytes, set[bytes | None]] = {}
    for record in process.log.of(ROWS):
        payloads.setdefault(dict(record.headers)["ce_id"], set()).add(record.value)
    assert all(len(found) == 1 for found in payloads.values())
    assert len(payloads) == sum(len(SILENT[place]) for place in PLACES[:2])
    again = Process(SILENT, shop(replay=False))
    again.fold.follow(journal(process))
    for place in reversed(PLACES):
        await again.poll(place, 1_000)
    for _ in journal(process):
        await again.take([])
    assert again.fold.snapshot() == process.fold.snapshot()


async def test_of_live_sources_the_order_stands_in_the_log_before_the_rows() -> None:
    process = Process(SILENT, shop(replay=False))
    await process.finish()
    topics = [record.topic for record in process.log.records]
    assert topics.index(JOURNAL[0]) < topics.index(ROWS)
    assert {entry.complete for entry in journal(process)} == {False}
