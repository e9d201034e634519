"""The ordered reader: each record once, in the order of recorded times, wherever it was stored and restored."""

import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem.events.instants import NEVER, render
from mainstem.fold.ordered import OrderedReader, announcements
from mainstem.testkit.records import Taken

A, B = ("a", 0), ("b", 0)


def record(place, offset, recorded_us, origin=None):
    pairs = {"ce_recordedtime": render(recorded_us), "ce_origin": origin or f"from/{place[0]}/{offset}"}
    return Taken(*place, offset, b"{}", b"k", tuple((name, value.encode()) for name, value in pairs.items()))


def marker(place, offset, until):
    value = json.dumps({"until": until if isinstance(until, str) else render(until)}).encode()
    return Taken(*place, offset, value, b"k", (("ce_type", b"mainstem.data.progress.v1"),))


def reader(live=()):
    return OrderedReader({A: A not in live, B: B not in live})


def applied(released):
    return [(found.topic, found.offset) for found, _ in released.items]


def test_records_come_by_recorded_time_once_all_partitions_have_passed_it():
    made = reader()
    made.offer([record(A, 0, 5), record(A, 1, 9), record(B, 0, 7)])
    assert applied(made.advance()) == [("a", 0)]
    made.offer([marker(A, 2, 10), marker(B, 1, 10)])
    released = made.advance()
    assert (applied(released), released.reached) == ([("b", 0), ("a", 1)], [(10, 2)])


def test_what_is_held_back_is_not_applied_and_must_be_read_again():
    made = reader()
    made.offer([record(A, 0, 5), record(A, 1, 9), record(B, 0, 7)])
    made.advance()
    assert made.offsets() == {A: 1, B: 0}


def test_when_much_is_held_nothing_more_is_to_be_read_but_what_it_waits_for(monkeypatch):
    monkeypatch.setattr("mainstem.fold.ordered._HELD_ENOUGH", 3)
    made = reader()
    made.offer([record(A, 0, 5), record(A, 1, 9)])
    assert (made.held, made.waits_for(), made.ahead()) == (2, [B], [])
    made.offer([record(A, 2, 11)])
    assert (made.held, made.waits_for(), made.ahead()) == (3, [B], [A])
    made.offer([record(B, 0, 20)])
    made.advance()
    assert (made.held, made.waits_for(), made.ahead()) == (2, [A], [])


def test_a_second_copy_is_dropped_also_after_a_restart():
    made, again = reader(), reader()
    assert made.offer([record(A, 0, 5, "x/0"), record(A, 1, 5, "x/0"), marker(A, 2, 6), marker(B, 0, 6)]) == 3
    made.advance()
    again.restore(made.snapshot())
    assert again.offer([record(A, 3, 5, "x/0"), record(A, 4, 7, "x/1")]) == 1


def test_a_live_partition_holds_until_it_was_read_to_its_end():
    made = reader(live=[B])
    made.offer([record(A, 0, 5), marker(A, 1, 9)])
    assert applied(made.advance()) == []
    made.drained({A: 0, B: 0})
    assert applied(made.advance()) == [("a", 0)]


def test_a_live_record_that_steps_back_counts_as_equal_also_after_a_restart():
    made, again = reader(live=[A, B]), reader(live=[A, B])
    made.offer([record(A, 0, 5)])
    made.drained({A: 0, B: 0})
    assert applied(made.advance()) == [("a", 0)]
    again.restore(made.snapshot())
    again.offer([record(A, 1, 3)])
    again.drained({A: 0, B: 0})
    assert again.advance().arrivals.tolist() == [5]


@pytest.mark.parametrize("until", ["soon", "2013-05-01T00:00:00", "0001-01-01T00:00:00+14:00"])
def test_a_marker_that_cannot_be_read_announces_nothing(until):
    made = reader()
    made.offer([record(A, 0, 5), marker(A, 1, 9), marker(B, 0, until)])
    assert made.advance().reached == []


def test_a_record_whose_time_cannot_be_read_counts_as_recorded_with_the_one_before():
    made = reader()
    lost = Taken(*A, 1, b"{}", b"k", ())
    made.offer([record(A, 0, 5), lost, record(A, 2, 8), record(B, 0, 6), marker(A, 3, 9), marker(B, 1, 9)])
    assert applied(made.advance()) == [("a", 0), ("a", 1), ("b", 0), ("a", 2)]


def test_a_partition_that_is_no_longer_read_is_forgotten():
    made = OrderedReader({A: True})
    made.restore(reader().snapshot())
    assert made.offsets() == {A: 0}


def held(*records):
    """Return a reader that holds records of two live partitions."""
    made = reader(live=[A, B])
    made.offer(records)
    return made


def stray(offset, origin):
    return Taken(*A, offset, b"junk", b"k", () if origin is None else (("ce_origin", origin.encode()),))


def followed(made, *order):
    released = made.follow([(place, (f"from/{place[0]}", last)) for place, last in order])
    return None if released is None else applied(released)


def test_records_come_in_the_order_that_is_followed():
    made = held(record(A, 0, 5), record(A, 1, 6), record(B, 0, 1))
    assert followed(made, (A, 0), (B, 0), (A, 1)) == [("a", 0), ("b", 0), ("a", 1)]


def test_nothing_is_taken_while_not_all_that_is_followed_was_read():
    made = held(record(A, 0, 5))
    assert followed(made, (A, 0), (B, 0)) is None
    made.offer([record(B, 0, 1)])
    assert followed(made, (A, 0), (B, 0)) == [("a", 0), ("b", 0)]


def test_a_record_that_was_passed_over_is_not_waited_for_at_higher_ones():
    assert followed(held(record(A, 0, 5), record(A, 2, 5)), (A, 1)) is None


STRAYS = (None, "from/a/no", "nobody", "else/0", "else/99", "from/b/99", "from/a/1/99")


@pytest.mark.parametrize("origin", STRAYS)
@pytest.mark.parametrize(
    ("at", "first", "second"),
    [
        (0, [0, 1, 2], [3, 4]),
        (1, [0, 1, 2], [3, 4]),
        (2, [0, 1], [2, 3, 4]),
        (3, [0, 1], [2, 3, 4]),
        (4, [0, 1], [2, 3]),
    ],
    ids=["before", "inside", "at the edge", "inside the next", "behind all"],
)
def test_what_has_another_origin_or_none_comes_with_the_record_behind_it(origin, at, first, second):
    records = [record(A, number + (number >= at), 5, f"from/a/{number}") for number in range(4)]
    made = held(*records[:at], stray(at, origin), *records[at:])
    assert followed(made, (A, 1)) == [("a", offset) for offset in first]
    assert followed(made, (A, 3)) == [("a", offset) for offset in second]
    made.drained({A: 0, B: 0})
    assert applied(made.advance()) == [("a", offset) for offset in range(5) if offset not in first + second]


@pytest.mark.parametrize("value", [b'{"until":"\xff"}', b'{"x":' + b"[" * 100_000, b"{", b'{"until":7}', None])
def test_a_marker_that_announces_nothing_stops_nobody(value):
    junk = Taken(*A, 0, value)
    assert announcements([junk, marker(A, 1, 7)]) == [NEVER, 7]


contents = st.lists(
    st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["record", "record", "marker"])), max_size=10),
    min_size=2,
    max_size=2,
)


@given(contents, st.integers(0, 99))
def test_restarts_change_neither_order_nor_times_nor_what_is_reached_when(content, seed):
    logs = {}
    for place, lines in zip((A, B), content, strict=True):
        lines = [*lines, (20, "marker")]  # noqa: PLW2901
        logs[place] = [(record if kind == "record" else marker)(place, at, us) for at, (us, kind) in enumerate(lines)]
    plain = reader()
    plain.offer([one for log in logs.values() for one in log])
    expected = plain.advance()
    arrivals = expected.arrivals.tolist()
    assert walked(logs, Random(seed)) == (applied(expected), arrivals, reached(expected.reached, 0))


def walked(logs, chance):
    """Read in pieces and start anew by chance: the order, its times, and how many records came before each instant."""
    made, order, arrivals, instants = reader(), [], [], {}
    positions = made.offsets()
    while any(positions[place] < len(log) for place, log in logs.items()):
        place = chance.choice([place for place, log in logs.items() if positions[place] < len(log)])
        made.offer(logs[place][positions[place] : positions[place] + 2])
        positions[place] += 2
        released = made.advance()
        instants = reached(released.reached, len(order)) | instants
        order += applied(released)
        arrivals += released.arrivals.tolist()
        if chance.random() < 0.3:
            state, made = made.snapshot(), reader()
            made.restore(state)
            positions = made.offsets()
    return order, arrivals, instants


def reached(instants, before):
    return {instant: before + place for instant, place in instants}
