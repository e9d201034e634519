"""The rule of routing, and log time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem.events.instants import NEVER
from mainstem.serving.domain import (
    FOREVER,
    Activation,
    Charge,
    LogTime,
    Reached,
    charges,
    complete_through,
    in_effect_from,
)
from mainstem.serving.rule import ELSEWHERE, NONE, Places, route

DEFINITIONS = ["one", "other"]

activation = st.builds(
    Activation,
    deployment=st.just("d"),
    model=st.just("m"),
    version=st.integers(1, 9),
    onnx=st.just("o"),
    feature_set=st.sampled_from(["f", "f.v2"]),
    feature_definition=st.sampled_from(DEFINITIONS),
    features=st.just(("a",)),
    effective_us=st.integers(0, 20),
    from_offsets=st.dictionaries(st.integers(0, 2), st.integers(0, 20)),
)
row = st.tuples(st.integers(0, 25), st.integers(0, 25), st.sampled_from(DEFINITIONS))


def places(rows, partition=0, topic="evt.feature.f"):
    offsets, recorded, definitions = zip(*rows, strict=True)
    codes = [DEFINITIONS.index(definition) for definition in definitions]
    return Places(topic, partition, np.array(offsets), np.array(recorded), np.array(codes), DEFINITIONS)


def by_hand(activations, offset, recorded, definition, partition):
    in_charge = [
        index
        for index, a in enumerate(activations)
        if recorded >= a.effective_us and (a.topic != "evt.feature.f" or offset >= a.from_offsets.get(partition, 0))
    ]
    if not in_charge:
        return NONE
    return in_charge[-1] if activations[in_charge[-1]].feature_definition == definition else ELSEWHERE


@given(st.lists(activation, max_size=5), st.lists(row, min_size=1, max_size=30), st.integers(0, 2))
def test_each_row_goes_to_the_activation_in_charge_if_it_is_of_its_set(activations, rows, partition):
    found = route(activations, places(rows, partition))
    assert found.tolist() == [by_hand(activations, *one, partition) for one in rows]


@given(st.lists(activation, max_size=4), activation, st.lists(row, min_size=1, max_size=30))
def test_a_new_activation_leaves_every_row_before_its_offsets_or_its_time_where_it_was(activations, new, rows):
    before, after = route(activations, places(rows)), route([*activations, new], places(rows))
    first = new.from_offsets.get(0, 0) if new.topic == "evt.feature.f" else 0
    untouched = [offset < first or recorded < new.effective_us for offset, recorded, _ in rows]
    assert before[untouched].tolist() == after[untouched].tolist()


def version(effective_us, feature_set="f"):
    return Activation("d", "m", 1, "o", feature_set, f"id of {feature_set}", ("a",), effective_us, {})


def test_a_version_is_in_effect_as_asked_unless_something_was_seen_by_then():
    assert in_effect_from(50, version(10), 49) == 50
    assert in_effect_from(50, version(10), 50) == 51


def test_no_version_is_in_effect_before_the_one_that_it_follows():
    assert in_effect_from(50, version(80), NEVER) == 80
    assert in_effect_from(50, None, NEVER) == 50


def test_topics_are_in_charge_one_after_another_each_up_to_the_next():
    story = [version(10), version(20), version(50, "f.v2"), version(60, "f.v2"), version(80)]
    order = [Charge("evt.feature.f", 49), Charge("evt.feature.f.v2", 79), Charge("evt.feature.f", FOREVER)]
    assert charges(story, ["evt.feature.f", "evt.feature.f.v2"]) == order


def test_what_was_never_in_charge_holds_nobody_up():
    story = [version(10), version(50, "f.v2"), version(50)]
    assert charges(story, ["evt.feature.f", "evt.feature.f.v2"]) == [Charge("evt.feature.f", FOREVER)]


def test_a_topic_that_is_not_read_any_more_holds_nobody_up():
    assert charges([version(10), version(50, "f.v2")], ["evt.feature.f.v2"]) == [Charge("evt.feature.f.v2", FOREVER)]


def test_before_any_activation_the_topic_that_is_read_is_in_charge():
    assert charges([], ["t"]) == [Charge("t", FOREVER)]


@pytest.mark.parametrize(
    ("passed", "through"),
    [
        ({}, NEVER),
        ({"t": 30}, 30),
        ({"t": 30, "u": 90}, 30),
        ({"t": 49}, 49),
        ({"t": 60}, 49),
        ({"t": 60, "u": 40}, 49),
        ({"t": 60, "u": 90}, 90),
    ],
)
def test_all_is_answered_up_to_where_each_topic_passed_what_it_has_in_charge(passed, through):
    assert complete_through([Charge("t", 49), Charge("u", FOREVER)], passed) == through


def test_the_position_is_that_of_the_newest_row_of_all_partitions():
    log = LogTime({("t", 0): Reached(50, 10, 7), ("t", 1): Reached(20, 20, 3), ("u", 0): Reached(99, 99, 9)})
    assert log.of("t") == (50, "t/1/3")


def test_before_the_first_row_the_position_stands_before_offset_0():
    assert LogTime().of("t") == (0, "t/0/-1")


def test_a_marker_moves_the_time_and_not_the_position():
    reached = Reached().with_row(5, 2).with_marker(9)
    assert reached == Reached(9, 5, 2, 9)


def test_a_row_recorded_earlier_than_another_changes_nothing():
    reached = Reached().with_row(5, 2)
    assert reached.with_row(4, 3) == reached


@given(st.builds(Reached, st.integers(0, 2**62), st.integers(0, 2**62), st.integers(-1, 2**62)))
def test_what_is_reached_survives_as_bytes(reached):
    assert Reached.load(reached.dump()) == reached
