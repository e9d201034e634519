"""The hold-back merge: the same order whatever order the polls bring."""

from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem.feature_engine import HoldBack

A, B, C = ("a", 0), ("a", 1), ("b", 0)

contents = st.lists(
    st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["record", "record", "marker"])), max_size=14),
    min_size=3,
    max_size=3,
)


def offer(merge, partition, *records):
    """Offer records given as (arrival, offset)."""
    arrivals, offsets = (np.array(column, np.int64) for column in zip(*records, strict=True))
    merge.offer(partition, arrivals, offsets, [f"{partition[0]}{partition[1]}:{offset}" for offset in offsets])


def test_records_come_out_by_arrival_then_topic_partition_and_offset():
    merge = HoldBack([C, B, A], {A, B, C})
    offer(merge, C, (1, 0), (3, 1))
    offer(merge, B, (3, 0))
    offer(merge, A, (3, 0), (3, 1))
    for partition in (A, B, C):
        merge.progress(partition, 10)
    assert merge.release().items == ["b0:0", "a0:0", "a0:1", "a1:0", "b0:1"]


def test_a_record_is_held_until_every_partition_has_shown_something_later():
    merge = HoldBack([A, B], {A, B})
    offer(merge, A, (5, 0))
    offer(merge, B, (5, 0), (6, 1))
    assert merge.release().items == []
    merge.progress(A, 5)
    assert merge.release().items == ["a0:0", "a1:0"]
    assert len(merge) == 1


def test_a_record_alone_does_not_complete_its_own_instant():
    merge = HoldBack([A], {A})
    offer(merge, A, (5, 0))
    assert merge.release().items == []
    offer(merge, A, (6, 1))
    assert merge.release().items == ["a0:0"]


def test_an_arrival_that_steps_back_counts_as_equal_to_the_one_before():
    merge = HoldBack([A, B], {A, B})
    offer(merge, A, (7, 0), (4, 1))
    offer(merge, B, (5, 0))
    merge.progress(A, 9)
    merge.progress(B, 9)
    released = merge.release()
    assert released.items == ["a1:0", "a0:0", "a0:1"]
    assert released.arrivals.tolist() == [5, 7, 7]


def test_a_record_behind_a_marker_that_excluded_it_comes_just_after_the_marker():
    merge = HoldBack([A], {A})
    merge.progress(A, 10)
    offer(merge, A, (3, 0), (12, 1))
    assert merge.release().arrivals.tolist() == [11]


def test_a_live_partition_read_to_its_end_does_not_hold_what_was_offered_before():
    merge = HoldBack([A, C], {A})
    offer(merge, A, (5, 0))
    merge.progress(A, 5)
    assert merge.release().items == []
    merge.drained(C)
    assert merge.release().items == ["a0:0"]


def test_a_live_partition_holds_again_what_is_offered_after_it_was_read_to_its_end():
    merge = HoldBack([A, C], {A})
    merge.drained(C)
    offer(merge, A, (5, 0))
    merge.progress(A, 5)
    assert merge.release().items == []


def test_a_partition_that_announces_cannot_be_drained():
    with pytest.raises(ValueError, match="announces progress: only its markers"):
        HoldBack([A], {A}).drained(A)


def test_offsets_must_rise():
    merge = HoldBack([A], {A})
    offer(merge, A, (5, 3))
    with pytest.raises(ValueError, match="offsets must rise above 3"):
        offer(merge, A, (6, 3))


def test_a_merge_of_nothing_releases_nothing():
    assert HoldBack([], ()).release().items == []


def test_columns_must_be_equally_long():
    with pytest.raises(ValueError, match="1 arrivals, 1 offsets, 0 items"):
        HoldBack([A], {A}).offer(A, np.array([1]), np.array([1]), [])


def test_what_holds_records_back_is_named():
    merge = HoldBack([A, B, C], {A, B})
    assert merge.waits_for() == []
    offer(merge, A, (5, 0))
    assert merge.waits_for() == [B, C]
    merge.drained(C)
    merge.progress(B, 3)
    assert merge.waits_for() == [B]
    merge.progress(B, 6)
    assert merge.waits_for() == [A]
    merge.progress(A, 6)
    assert (len(merge.release().items), merge.waits_for()) == (1, [])


def test_an_instant_is_reached_once_in_its_place_when_all_have_passed_it():
    merge = HoldBack([A, B], {A, B})
    offer(merge, A, (1, 0), (4, 1))
    merge.progress(A, 3)
    merge.progress(A, 6)
    merge.progress(B, 5)
    assert merge.release().reached == [(3, 1), (5, 2)]
    merge.progress(B, 6)
    assert merge.release().reached == [(6, 0)]
    assert merge.release().reached == []


def test_an_instant_that_is_announced_again_is_not_reached_again():
    merge = HoldBack([A], {A})
    merge.progress(A, 5)
    assert merge.release().reached == [(5, 0)]
    merge.progress(A, 5)
    assert merge.release().reached == []


def deliver(logs, turns):
    """Deliver three logs, some lines of one at each turn; return items and instants in one sequence."""
    merge, at, out = HoldBack([A, B, C], {A, B, C}), [0, 0, 0], []
    for turn in turns:
        lines, which = divmod(turn, 3)
        show(merge, (A, B, C)[which], logs[which][at[which] : at[which] + lines + 1], at[which])
        at[which] += lines + 1
        out += sequence(merge.release())
    return out


def show(merge, partition, lines, start):
    """Offer records and markers one after another."""
    for offset, (arrival, kind) in enumerate(lines, start):
        if kind == "record":
            offer(merge, partition, (arrival, offset))
        else:
            merge.progress(partition, arrival)


def sequence(released):
    """Write items and reached instants in the order a consumer sees them."""
    out, done = [], 0
    for instant, place in released.reached:
        out += [*released.items[done:place], instant]
        done = place
    return out + released.items[done:]


@given(logs=contents, turns=st.lists(st.integers(0, 11), max_size=60))
def test_any_interleaving_of_polls_gives_the_same_sequence(logs, turns):
    finish = [which + 3 * 14 for which in range(3)]
    assert deliver(logs, [*turns, *finish]) == deliver(logs, finish)


@given(logs=contents)
def test_what_comes_out_is_every_completed_record_sorted(logs):
    merge = HoldBack([A, B, C], {A, B, C})
    expected = []
    for partition, log in zip((A, B, C), logs, strict=True):
        show(merge, partition, log, 0)
        merge.progress(partition, 100)
        floors = accumulate((arrival + (kind == "marker") for arrival, kind in log), max)
        lines = enumerate(zip(floors, log, strict=True))
        expected += [(floor, partition, offset) for offset, (floor, (_, kind)) in lines if kind == "record"]
    assert merge.release().items == [f"{p[0]}{p[1]}:{offset}" for _, p, offset in sorted(expected)]
