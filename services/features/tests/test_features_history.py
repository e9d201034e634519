"""Accepted records in the order of the journal, read back from the log: what was applied, and when it was known."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from services.features.tests.features_history import ANNOUNCED, SECOND, SILENT, Process, accepted, marker, renamed

from mainstem.events.catalogue import decode
from mainstem.events.data import ProgressReached
from mainstem.events.errors import Rejected
from mainstem.events.features import OrderJournalled, RowComputed
from mainstem.feature_engine import category, feature_set, stream, time
from mainstem.feature_engine.reference import Applied, Reference
from mainstem.features.history import History, Origin
from mainstem.features.ports import Partition
from mainstem.testkit.projects import shop
from mainstem.testkit.records import Taken

COMPILED = shop().feature_sets["buying"].compiled
JOURNAL = OrderJournalled.TOPIC
ORDERS = ("evt.data.orders", 0)


@pytest.fixture(scope="module")
async def calm() -> Process:
    """Return a process that has folded the history, to be looked at only."""
    process = Process(ANNOUNCED)
    await process.finish()
    return process


def log_of(process: Process) -> dict[Partition, list[Taken]]:
    """Return what the topics of a history hold when the process has ended."""
    return {**ANNOUNCED, (JOURNAL, 0): process.log.of(JOURNAL)}


def told(
    log: dict[Partition, list[Taken]], polls: Iterable[tuple[Partition, int]] = ()
) -> tuple[History, list[Applied]]:
    """Return a history after some polls and after all that is left, and what it gave."""
    history, found, left = History(COMPILED), [], {place: list(records) for place, records in log.items()}
    for place, count in [*polls, *((place, 1_000) for place in log)]:
        history.offer(left[place][:count])
        left[place] = left[place][count:]
        found += history.advance()
    return history, found


def origins(found: Sequence[Applied]) -> list[Origin]:
    return [applied.place for applied in found if isinstance(applied.place, Origin)]


POLL = st.tuples(st.sampled_from([*ANNOUNCED, (JOURNAL, 0)]), st.integers(1, 6))


@given(st.lists(POLL, max_size=25))
def test_any_polls_give_the_same_records_in_the_same_order(calm: Process, polls: list[tuple[Partition, int]]) -> None:
    log = log_of(calm)
    assert told(log, polls)[1] == told(log)[1]


def test_the_order_is_that_of_the_journal_and_every_record_is_in_it(calm: Process) -> None:
    entries = [OrderJournalled.model_validate_json(record.value or b"") for record in calm.log.of(JOURNAL)]
    order = [
        (entry.topics[topic], partition, offset)
        for entry in entries
        for topic, partition, first, last in entry.runs
        for offset in range(first, last + 1)
        if ANNOUNCED[f"evt.data.{entry.topics[topic].removeprefix('src.')}", partition][offset].key
    ]
    found = origins(told(log_of(calm))[1])
    assert [(each.topic, each.partition, each.offset) for each in found] == order
    assert [each.position for each in found] == list(range(entries[-1].applied))


def test_a_second_reading_of_the_definitions_over_it_gives_the_published_rows(calm: Process) -> None:
    rows = [decode(record).fact for record in calm.log.of("evt.feature.buying")]
    published = {row.spine_id: row.values for row in rows if isinstance(row, RowComputed)}
    reference, evaluated = Reference(COMPILED.spec), {}
    for applied in told(log_of(calm))[1]:
        if applied.stream == "orders":
            evaluated[origins([applied])[0].event_id] = reference.row(applied)
        reference.apply(applied)
    assert evaluated == published


def test_a_record_behind_a_marker_counts_as_known_after_it() -> None:
    minute = 60 * SECOND
    late = [
        accepted("orders", 0, 0, minute, 1),
        marker("orders", 0, 1, 3 * minute),
        accepted("orders", 0, 2, minute, 2),
    ]
    history = History(COMPILED)
    history.offer(late)
    assert [each.arrival_us for each in origins(history.rest())] == [minute, 3 * minute + 1]


def test_what_the_journal_does_not_name_yet_is_left_in_order_of_arrival(calm: Process) -> None:
    history, found = told(SILENT)
    assert found == []
    arrivals = [each.arrival_us for each in origins(history.rest())]
    assert arrivals == sorted(arrivals)
    assert len(arrivals) == sum(map(len, SILENT.values()))


def test_what_stands_twice_is_given_once(calm: Process) -> None:
    log = log_of(calm)
    doubled = {
        place: [replace(record, offset=number) for number, record in enumerate([*records, *records])]
        for place, records in log.items()
    }
    assert told(doubled)[1] == told(log)[1]


DEEP = b'{"record":' + b"[" * 100_000
GOOD = ANNOUNCED[ORDERS][0]


def behind(junk: Sequence[Taken]) -> dict[Partition, list[Taken]]:
    """Return the records with junk before those of one partition."""
    records = [replace(record, offset=offset) for offset, record in enumerate([*junk, *ANNOUNCED[ORDERS]])]
    return {**ANNOUNCED, ORDERS: records}


@pytest.mark.parametrize("value", [b"{", b"{}", None, b'{"record":7}', DEEP, GOOD.value])
def test_what_ingestion_did_not_write_is_no_part_of_it(calm: Process, value: bytes | None) -> None:
    aliens = [renamed(GOOD, ce_origin=origin) for origin in (None, b"src.else/9/0", b"src.orders/1/99")]
    log = log_of(calm) | behind([replace(alien, value=value) for alien in aliens])
    assert origins(told(log)[1]) == origins(told(log_of(calm))[1])


@pytest.mark.parametrize(
    "odd",
    [
        renamed(GOOD, ce_id=b"\xff"),
        renamed(GOOD, ce_correlationid=b"\xff"),
        renamed(GOOD, ce_recordedtime=None),
        replace(GOOD, key=b"\xff"),
        replace(GOOD, value=DEEP),
        replace(GOOD, value=b'{"record":{"shop":"s00","amount":"much"}}'),
    ],
)
def test_a_record_that_the_service_parks_is_no_part_of_it(odd: Taken) -> None:
    last = renamed(odd, ce_origin=b"src.orders/0/99")
    history = told({**ANNOUNCED, ORDERS: [*ANNOUNCED[ORDERS], replace(last, offset=99)]})[0]
    assert len(history.rest()) == sum(bool(r.key) for records in ANNOUNCED.values() for r in records)


@pytest.mark.parametrize("value", [b'{"until":"\xff"}', b'{"x":' + DEEP, b"{"])
def test_a_marker_that_announces_nothing_is_no_part_of_it(calm: Process, value: bytes) -> None:
    junk = replace(GOOD, value=value, headers=(("ce_type", ProgressReached.TYPE.encode()),))
    assert origins(told(log_of(calm) | behind([junk]))[1]) == origins(told(log_of(calm))[1])


@pytest.mark.parametrize("due", ["soon", 7, "2013-05-01T00:00:00", ["2013"]])
def test_a_record_with_a_time_that_is_none_is_no_part_of_it(due: object) -> None:
    bills = stream("orders", key="shop", columns={"shop": category(), "due": time()})
    compiled = feature_set("bills", spine=bills, lateness="1d")(
        type("Bills", (), {"hour": bills.due.local("UTC").hour})
    ).compile()
    history = History(compiled)
    value = json.dumps({"record": {"shop": "s", "due": due}}).encode()
    history.offer([replace(GOOD, value=value)])
    assert history.rest() == []


def test_entries_of_another_set_are_passed_over(calm: Process) -> None:
    entry = calm.log.of(JOURNAL)[0]
    other = replace(entry, value=(entry.value or b"").replace(COMPILED.id.encode(), b"sha256:other"), headers=())
    moved = [replace(record, offset=record.offset + 1) for record in calm.log.of(JOURNAL)]
    assert told(log_of(calm) | {(JOURNAL, 0): [other, *moved]})[1] == told(log_of(calm))[1]


def test_a_journal_without_its_beginning_is_refused(calm: Process) -> None:
    with pytest.raises(Rejected, match="entry 0 of the journal of buying is not in the log, 1 is"):
        told(log_of(calm) | {(JOURNAL, 0): calm.log.of(JOURNAL)[1:]})


def test_a_log_that_lost_a_record_of_the_journal_is_refused(calm: Process) -> None:
    log = log_of(calm)
    applied = np.array([bool(record.key) for record in log[ORDERS]])
    lost = int(np.flatnonzero(applied)[0])
    log[ORDERS] = [record for number, record in enumerate(log[ORDERS]) if number != lost]
    with pytest.raises(Rejected, match=r"entry 0 of the journal of buying counts \d+ records, the log gives \d+"):
        told(log)
