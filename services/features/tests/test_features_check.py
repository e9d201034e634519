"""The standing check: what agrees is counted, what does not is named, whatever stands in the log beside it."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from services.features.tests.check_story import (
    JOURNAL,
    ORDERS,
    PAYMENTS,
    ROWS,
    SECOND,
    SUBJECT,
    Story,
    Values,
    checked,
    event,
    shopping,
    told,
)
from services.features.tests.features_history import renamed

from mainstem.events.data import ProgressReached
from mainstem.events.features import Difference, Evidence
from mainstem.events.instants import render
from mainstem.feature_engine.spec import feature_set
from mainstem.features.check.checker import AN_EVENT_US, ROWS_AN_EVENT, Checker
from mainstem.features.check.log import Choice
from mainstem.testkit.clock import DAY, HOUR, MINUTE
from mainstem.testkit.projects import orders, payments
from mainstem.testkit.records import Taken


def difference(story: Story) -> Difference:
    """The one difference of a story, told at the entry in which it is found."""
    _, (fact,) = checked(story.records)
    assert fact.first_difference is not None
    return fact.first_difference


def test_rows_that_follow_from_the_log_agree() -> None:
    checker, facts = checked(shopping().records)
    assert (checker.seen.rows, checker.seen.cells, checker.seen.differing, facts) == (2, 8, 0, [])


def test_one_wrong_bit_is_named_with_both_values_and_the_records_behind() -> None:
    story = shopping(wrong=[7.0, 1.0, math.nextafter(12.5, 13), 2.5])
    _, (fact,) = checked(story.records)
    assert (fact.number, fact.rows, fact.cells, fact.differing, fact.until) == (0, 2, 8, 1, render(5 * MINUTE))
    paid = "payments.by(shop).sum(paid, window=1h)"

    def evidence(topic: str, offset: int, minute: int, value: float | str, of: str) -> Evidence:
        time = render(minute * MINUTE)
        return Evidence(topic=topic, partition=0, offset=offset, event_time=time, value=value, aggregate=of)

    assert fact.first_difference == Difference(
        spine_id="orders-1",
        about="the value that was published is not the one that follows from the records applied before",
        feature="paid",
        served=math.nextafter(12.5, 13),
        recomputed=12.5,
        records=[
            evidence("src.payments", 0, 1, 10.0, paid),
            evidence("src.payments", 1, 3, 2.5, paid),
            evidence("src.orders", 1, 4, "s", "shop"),
        ],
        records_in_all=3,
    )


@pytest.mark.parametrize(
    ("wrong", "feature"),
    [
        ([7.0, -0.0, 12.5, 2.5], "orders"),
        ([None, 1.0, 12.5, 2.5], "amount"),
        ([7.0, 1.0, 12.5, None], "paid_last"),
    ],
)
def test_null_is_no_number_and_nothing_is_nearly_equal(wrong: Values, feature: str) -> None:
    assert difference(shopping(wrong)).feature == feature


def test_of_several_differences_all_are_counted_and_the_first_is_told() -> None:
    _, (fact,) = checked(shopping(wrong=[0.0, 1.0, 0.0, 0.0]).records)
    assert (fact.differing, fact.first_difference and fact.first_difference.feature) == (3, "amount")


def test_at_most_fifty_records_are_listed_and_all_are_counted() -> None:
    story = Story()
    for second in range(80):
        story.paid(second * SECOND, 1.0)
    story.ordered(2 * MINUTE, 5.0, [5.0, 0.0, 81.0, 1.0])
    story.close(3 * MINUTE)
    found = difference(story)
    assert (len(found.records), found.records_in_all) == (50, 81)
    assert [one.offset for one in found.records[:2]] == [31, 32]


def test_a_row_that_never_came_is_a_difference_once_the_set_has_passed_it() -> None:
    story = Story()
    story.ordered(2 * MINUTE, 5.0, None)
    checker = Checker(SUBJECT)
    checker.take(story.records)
    assert told(checker) == []
    story.close(5 * MINUTE)
    checker.take(story.records[1:])
    (fact,) = told(checker)
    assert (fact.rows, fact.cells, fact.differing) == (1, 4, 4)
    assert fact.first_difference == Difference(
        spine_id="orders-0",
        about=f"no row was published for it, and buying has gone on past {render(5 * MINUTE)}",
    )


@pytest.mark.parametrize("changed", [{"spine_id": "orders-9"}, {"spine_id": "orders-0"}])
def test_a_row_that_the_journal_does_not_ask_for_is_a_difference(changed: dict[str, str]) -> None:
    story = Story()
    record = story.ordered(2 * MINUTE, 5.0, [5.0, 0.0, 0.0, None])
    origin = (("ce_origin", b"src.orders/0/9"),)
    story.row(replace(record, headers=(*record.headers, *origin)), [5.0, 0.0, 0.0, None], **changed)
    story.close(5 * MINUTE)
    found = difference(story)
    assert found.spine_id == changed["spine_id"]
    assert "the journal has no such record" in found.about


@pytest.mark.parametrize("values", [b"[1,2]", b'["a",1,2,3]', b'"x"', b"[1,2,3,4,5]"])
def test_a_row_that_is_no_vector_is_a_difference(values: bytes) -> None:
    story = Story()
    story.ordered(2 * MINUTE, 5.0, [5.0, 0.0, 0.0, None])
    row = story.records.pop()
    value = row.value or b""
    story.records.append(replace(row, value=value[: value.index(b"[")] + values + b"}"))
    story.close(5 * MINUTE)
    assert f"no vector of 4 values: {values.decode()}" in difference(story).about


def test_second_copies_count_once_whatever_they_say() -> None:
    story = shopping()
    for record in list(story.records):
        story.again(record)
    wrong = story.of(ROWS)[0]
    story.again(wrong, value=(wrong.value or b"").replace(b"10.0", b"11.0"))
    story.again(story.of(PAYMENTS)[1], value=b"{}")
    story.ordered(6 * MINUTE, 1.0, [1.0, 2.0, 12.5, 2.5])
    story.close(7 * MINUTE)
    checker, facts = checked(story.records)
    assert (checker.seen.rows, checker.seen.differing, facts) == (3, 0, [])


def test_a_row_under_the_origin_of_another_partition_hides_none_there_and_stands_for_none() -> None:
    story = Story()
    order = story.ordered(MINUTE, 5.0, None)
    story.close(2 * MINUTE, complete=False)
    headers = dict(order.headers) | {"ce_origin": b"src.orders/0/9"}
    forged = story.row(replace(order, headers=tuple(headers.items())), [5.0, 9.0, 9.0, 9.0], spine_id="forged")
    story.records[-1] = replace(forged, partition=1)
    checker = Checker(replace(SUBJECT, partitions=2))
    checker.take(story.records)
    assert (told(checker), checker.seen.rows) == ([], 0)
    story.row(order, [5.0, 0.0, 0.0, None])
    checker.take(story.records[-1:])
    assert (told(checker), checker.seen.rows, checker.seen.differing) == ([], 1, 0)


def test_the_order_is_that_of_the_journal_and_arrivals_never_fall_in_it() -> None:
    story = Story()
    story.ordered(2 * DAY, 5.0, [5.0, 0.0, 0.0, None])
    # Known long before, applied after: by the clock of what was applied it is too late.
    story.paid(DAY - MINUTE, 10.0)
    story.paid(2 * DAY - MINUTE, 3.0)
    story.ordered(2 * DAY + MINUTE, 7.0, [7.0, 1.0, 3.0, 3.0])
    story.close(3 * DAY)
    checker, facts = checked(story.records)
    assert (checker.seen.rows, checker.seen.differing, facts) == (2, 0, [])


def test_a_record_arrives_after_what_its_partition_has_announced() -> None:
    story = Story()
    story.add(PAYMENTS, event(ProgressReached(until=render(3 * DAY)), "marker", "ingestion@payments#progress/0", 0))
    # By its own word it would be in time, by that of its partition it is too late.
    story.paid(2 * DAY - MINUTE, 10.0)
    story.ordered(2 * DAY + MINUTE, 7.0, [7.0, 0.0, 0.0, None])
    story.close(4 * DAY)
    checker, facts = checked(story.records)
    assert (checker.seen.rows, checker.seen.differing, facts) == (1, 0, [])


def test_a_spine_record_that_is_too_late_has_a_row_without_aggregates() -> None:
    story = Story()
    story.ordered(2 * DAY, 5.0, [5.0, 0.0, 0.0, None])
    story.ordered(DAY - MINUTE, 7.0, [7.0, None, None, None])
    story.close(3 * DAY)
    checker, _ = checked(story.records)
    assert (checker.seen.rows, checker.seen.differing) == (2, 0)


def test_an_entry_that_stands_before_its_rows_waits_for_them() -> None:
    story = Story()
    first, second = (story.ordered(minute * MINUTE, 5.0, None) for minute in (1, 2))
    story.close(3 * MINUTE, complete=False)
    checker = Checker(SUBJECT)
    checker.take(story.records)
    story.row(first, [5.0, 0.0, 0.0, None])
    checker.take(story.records[-1:])
    assert (told(checker), checker.seen.rows) == ([], 0)
    story.row(second, [5.0, 1.0, 0.0, None])
    checker.take(story.records[-1:])
    assert (told(checker), checker.seen.rows, checker.seen.differing) == ([], 2, 0)


def test_a_row_of_such_an_entry_is_missed_once_there_is_a_later_one() -> None:
    story = Story()
    story.ordered(MINUTE, 5.0, None)
    story.close(2 * MINUTE, complete=False)
    last = story.ordered(3 * MINUTE, 5.0, None)
    story.close(4 * MINUTE, complete=False)
    story.row(last, [5.0, 1.0, 0.0, None])
    _, facts = checked(story.records)
    assert [(fact.rows, fact.differing, fact.entry) for fact in facts] == [(1, 4, 0)]


def test_rows_of_another_definition_are_not_looked_at() -> None:
    story = shopping()
    other = Story(definition="sha256:" + "1" * 64)
    record = other.ordered(2 * MINUTE, 5.0, [0.0])
    other.close(5 * MINUTE)
    story.records = [*other.of(ROWS), *other.of(JOURNAL), *story.records]
    del record
    checker, facts = checked(story.records)
    assert (checker.seen.rows, checker.seen.differing, facts) == (2, 0, [])


def test_a_record_that_the_log_has_lost_is_missed() -> None:
    story = Story()
    for minute in range(3):
        story.paid(minute * MINUTE, 10.0)
    story.close(5 * MINUTE)
    story.records.remove(story.of(PAYMENTS)[1])
    _, (fact,) = checked(story.records)
    assert (fact.rows, fact.cells, fact.differing) == (0, 0, 1)
    about = f"the journal counts 3 records up to {render(5 * MINUTE)}, the log has 2 of them"
    assert fact.first_difference == Difference(spine_id="", about=about)


JUNK: list[Callable[[dict[str, bytes]], dict[str, bytes]]] = [
    lambda headers: {},
    lambda headers: {**headers, "ce_origin": b"x/abc"},
    lambda headers: {**headers, "ce_origin": b"\xff/1"},
    lambda headers: {**headers, "ce_type": b"\xff", "ce_origin": b"x/1"},
    lambda headers: {**headers, "ce_time": b"yesterday", "ce_origin": b"x/2"},
    lambda headers: {**headers, "ce_id": b"\xff\xfe", "ce_origin": b"x/3"},
]


DEEP = b"[" * 100_000


@pytest.mark.parametrize("topic", [ORDERS, PAYMENTS, JOURNAL, ROWS])
@pytest.mark.parametrize(
    "value", [b"", b"{", b"{}", None, b'{"record":{"shop":7}}', b'{"definition":"\xff"}', b'{"record":' + DEEP]
)
def test_what_is_no_event_stops_nothing(topic: str, value: bytes | None) -> None:
    story = shopping()
    first = story.of(topic)[0]
    junk = [replace(first, value=value, headers=tuple(make(dict(first.headers)).items())) for make in JUNK]
    checker, facts = checked([*junk, *story.records])
    assert (checker.seen.rows, checker.seen.differing, facts) == (2, 0, [])


@pytest.mark.parametrize("topic", [ORDERS, PAYMENTS])
def test_a_record_that_says_to_come_from_elsewhere_hides_nothing_there(topic: str) -> None:
    story = shopping()
    first = story.of(topic)[0]
    origin = f"src.{topic.removeprefix('evt.data.')}/0/99".encode()
    junk = replace(first, partition=1, headers=tuple({**dict(first.headers), "ce_origin": origin}.items()))
    checker, facts = checked([junk, *story.records])
    assert (checker.seen.rows, checker.seen.differing, facts) == (2, 0, [])


def with_one_parked(change: Callable[[Taken], Taken]) -> list[Taken]:
    """Tell of three payments of which the fold has parked the second, for what a change makes of it."""
    story = Story()
    for minute in range(1, 4):
        story.paid(minute * MINUTE, 10.0)
    story.close(5 * MINUTE, applied=2, runs=[(0, 0, 0, 2)])
    odd = story.of(PAYMENTS)[1]
    return [change(odd) if record is odd else record for record in story.records]


@pytest.mark.parametrize(
    ("name", "held"),
    [("ce_id", b"x/abc"), ("ce_correlationid", b"\xff"), ("ce_correlationid", None), ("ce_recordedtime", b"\xff")],
)
def test_a_record_that_the_fold_parks_for_its_headers_is_not_counted(name: str, held: bytes | None) -> None:
    assert checked(with_one_parked(lambda record: renamed(record, **{name: held})))[1] == []


@pytest.mark.parametrize("value", [b"{", b'{"record":' + DEEP, b'{"x":' + DEEP, b'{"record":{"shop":"\xff"}}'])
def test_a_record_that_the_fold_parks_for_its_payload_is_not_counted(value: bytes) -> None:
    assert checked(with_one_parked(lambda record: replace(record, value=value)))[1] == []


@pytest.mark.parametrize("value", [b'{"until":"\xff"}', b'{"x":' + DEEP])
def test_a_marker_that_announces_nothing_stops_nothing(value: bytes) -> None:
    story = shopping()
    junk = story.add(PAYMENTS, event(ProgressReached(until=render(MINUTE)), "m", "ingestion@payments#progress/0", 0))
    story.records[-1] = replace(junk, value=value)
    checker, facts = checked(story.records)
    assert (checker.seen.rows, checker.seen.differing, facts) == (2, 0, [])


def test_an_entry_that_points_nowhere_is_no_entry() -> None:
    story = shopping()
    entry = story.of(JOURNAL)[0]
    wrong = json.loads(entry.value or b"") | {"runs": [[7, 0, 0, 0]]}
    checker, _ = checked([replace(entry, value=json.dumps(wrong).encode()), *story.records])
    assert checker.seen.rows == 2


# --- what is chosen


def test_the_rows_are_chosen_by_their_id_and_by_nothing_else() -> None:
    ids = [f"{number:032x}" for number in range(20_000)]
    chosen = [name for name in ids if Choice(0.01).takes(name)]
    assert len(chosen) == pytest.approx(200, abs=60)
    assert [name for name in ids if Choice(0.05).takes(name) and Choice(0.01).takes(name)] == chosen
    assert all(Choice(1.0).takes(name) for name in ids)


def test_rows_that_were_not_chosen_are_not_compared() -> None:
    story = shopping(wrong=[0.0, 0.0, 0.0, 0.0])
    checker, facts = checked(story.records, replace(SUBJECT, choice=Choice(1e-9)))
    assert (checker.seen.rows, facts, len(checker.log)) == (0, [], 0)


# --- when an event is told


def hours(count: int, rows: int = 150, wrong: int | None = None) -> Story:
    """Tell of so many hours with orders, an entry for each; the row with the number `wrong` is wrong."""
    story = Story()
    for hour in range(count):
        for place in range(rows):
            values = [1.0, float(place), 0.0, None]
            at_us = 2 * hour * HOUR + place * SECOND
            story.ordered(at_us, 1.0, [9.0, *values[1:]] if hour * rows + place == wrong else values)
        story.close((2 * hour + 1) * HOUR)
    return story


def test_an_event_is_told_at_the_entry_that_makes_enough_rows() -> None:
    _, facts = checked(hours(5).records)
    assert ROWS_AN_EVENT == 200
    assert [(fact.number, fact.rows, fact.until) for fact in facts] == [
        (0, 300, render(3 * HOUR)),
        (1, 300, render(7 * HOUR)),
    ]
    assert {fact.first_difference for fact in facts} == {None}


def test_a_difference_is_told_at_the_entry_in_which_it_is_found() -> None:
    _, facts = checked(hours(4, wrong=20).records)
    assert [(fact.number, fact.rows, fact.differing) for fact in facts] == [(0, 150, 1), (1, 300, 0)]


def a_day(*rows: int) -> Story:
    """Tell of entries twelve hours apart, each with so many rows, the last of them a second before its end."""
    story = Story()
    for half_day, count in enumerate(rows, start=1):
        until_us = half_day * 12 * HOUR
        for place in range(count):
            story.ordered(until_us - (count - place + 1) * SECOND, 1.0, [1.0, float(place), 0.0, None])
        story.close(until_us)
    return story


def test_a_few_rows_are_told_a_day_after_the_first_and_then_once_a_day() -> None:
    _, facts = checked(a_day(1, 1, 1, 1, 1, 1, 1, 1).records)
    assert AN_EVENT_US == DAY
    told = [(fact.rows, fact.until) for fact in facts]
    assert told == [(3, render(36 * HOUR)), (2, render(60 * HOUR)), (2, render(84 * HOUR))]


def test_days_without_a_row_are_not_told_and_the_next_row_is_at_once() -> None:
    _, facts = checked(a_day(1, 0, 0, 0, 0, 0, 1, 1, 1).records)
    assert [(fact.number, fact.rows, fact.until) for fact in facts] == [
        (0, 1, render(36 * HOUR)),
        (1, 1, render(84 * HOUR)),
        (2, 2, render(108 * HOUR)),
    ]


def test_an_event_for_many_rows_puts_off_that_of_the_day() -> None:
    _, facts = checked(a_day(1, 200, 1, 1, 1).records)
    assert [(fact.rows, fact.until) for fact in facts] == [(201, render(24 * HOUR)), (2, render(48 * HOUR))]


def test_an_event_follows_from_the_entry_that_closes_it() -> None:
    story = shopping(wrong=[0.0, 0.0, 0.0, 0.0])
    checker = Checker(SUBJECT)
    checker.take(story.records)
    (found,) = [found for found in checker.work() if found is not None]
    assert (found.envelope.causation, found.envelope.recorded_us) == ("entry 0", 5 * MINUTE)
    assert (found.fact.topic, found.fact.key) == ("evt.feature.check", "buying")


# --- a log that has lost its beginning


def shortened(story: Story, entries: int) -> list[Any]:
    """Return the log as it is when everything of the first entries was deleted, their first markers left."""
    kept = []
    for topic in (ORDERS, ROWS, JOURNAL):
        records = story.of(topic)
        kept += records[entries * len(records) // 6 - (topic == ROWS) :]
    return kept


def test_nothing_is_said_before_every_window_lies_in_what_is_left() -> None:
    an_hour = replace(SUBJECT, spec=looking_back("1h"))
    story = hours(6, rows=100, wrong=250)
    assert [(fact.rows, fact.differing) for fact in checked(story.records, an_hour)[1]] == [
        (200, 0),
        (100, 1),
        (200, 0),
    ]
    _, facts = checked(shortened(story, 2), an_hour)
    assert [(fact.rows, fact.differing, fact.until) for fact in facts] == [(200, 0, render(11 * HOUR))]


def test_a_value_that_looks_back_without_end_is_not_compared_in_what_is_left() -> None:
    for_ever = replace(SUBJECT, spec=looking_back(None))
    story = hours(6, rows=100)
    assert len(checked(story.records, for_ever)[1]) == 3
    checker, facts = checked(shortened(story, 1), for_ever)
    assert (checker.seen.rows, facts, checker.reached_us) == (0, [], 11 * HOUR)


def test_a_set_that_began_with_what_was_left_is_checked_from_its_first_entry_on() -> None:
    story = hours(2, rows=100)
    story.records = [replace(r, offset=r.offset + 7) if r.topic == ORDERS else r for r in story.records]
    assert [(fact.rows, fact.differing) for fact in checked(story.records)[1]] == [(200, 0)]


def test_rows_that_the_log_has_lost_are_not_missed() -> None:
    story = hours(4, rows=100)
    story.records = [record for record in story.records if record.topic != ROWS or record.offset >= 150]
    checker, facts = checked(story.records)
    assert (checker.seen.rows, [fact.differing for fact in facts]) == (251, [0])


def looking_back(ttl: str | None) -> dict[str, Any]:
    """Return a set of which one value looks back for so long."""
    spine, other = orders().stream(), payments().stream()
    features = {
        "amount": spine.amount,
        "orders": spine.by("shop").count("1h"),
        "paid": other.by("shop").sum("paid", "1h"),
        "paid_last": other.by("shop").last("paid", ttl=ttl),
    }
    compiled = feature_set("buying", spine=spine, lateness="1d")(type("Buying", (), features)).compile()
    return dict(compiled.spec)
