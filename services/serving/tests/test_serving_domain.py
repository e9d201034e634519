"""The rule of routing, and log time."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mainstem.serving.domain import NONE, Activation, LogTime, Places, Reached, route

DEFINITIONS = ["one", "other"]

activation = st.builds(
    Activation,
    deployment=st.just("d"),
    model=st.just("m"),
    version=st.integers(1, 9),
    onnx=st.just("o"),
    feature_set=st.just("f"),
    feature_definition=st.sampled_from(DEFINITIONS),
    features=st.just(("a",)),
    effective_us=st.integers(0, 20),
    from_offsets=st.dictionaries(st.integers(0, 2), st.integers(0, 20)),
)
row = st.tuples(st.integers(0, 25), st.integers(0, 25), st.sampled_from(DEFINITIONS))


def places(rows, partition=0):
    offsets, recorded, definitions = zip(*rows, strict=True)
    codes = [DEFINITIONS.index(definition) for definition in definitions]
    return Places(partition, np.array(offsets), np.array(recorded), np.array(codes), DEFINITIONS)


def by_hand(activations, offset, recorded, definition, partition):
    fitting = [
        index
        for index, a in enumerate(activations)
        if offset >= a.from_offsets.get(partition, 0)
        and recorded >= a.effective_us
        and a.feature_definition == definition
    ]
    return fitting[-1] if fitting else NONE


@given(st.lists(activation, max_size=5), st.lists(row, min_size=1, max_size=30), st.integers(0, 2))
def test_each_row_goes_to_the_last_activation_that_was_in_effect_for_it(activations, rows, partition):
    found = route(activations, places(rows, partition))
    assert found.tolist() == [by_hand(activations, *one, partition) for one in rows]


@given(st.lists(activation, max_size=4), activation, st.lists(row, min_size=1, max_size=30))
def test_a_new_activation_leaves_every_row_before_its_offsets_where_it_was(activations, new, rows):
    before, after = route(activations, places(rows)), route([*activations, new], places(rows))
    first = new.from_offsets.get(0, 0)
    untouched = [offset < first for offset, _, _ in rows]
    assert before[untouched].tolist() == after[untouched].tolist()


def test_the_position_is_that_of_the_newest_row_of_all_partitions():
    log = LogTime({("t", 0): Reached(50, 10, 7), ("t", 1): Reached(20, 20, 3), ("u", 0): Reached(99, 99, 9)})
    assert log.of("t") == (50, "t/1/3")


def test_before_the_first_row_the_position_stands_before_offset_0():
    assert LogTime().of("t") == (0, "t/0/-1")


def test_a_marker_moves_the_time_and_not_the_position():
    reached = Reached().with_row(5, 2).with_marker(9)
    assert reached == Reached(9, 5, 2)


def test_a_row_recorded_earlier_than_another_changes_nothing():
    reached = Reached().with_row(5, 2)
    assert reached.with_row(4, 3) == reached


@given(st.builds(Reached, st.integers(0, 2**62), st.integers(0, 2**62), st.integers(-1, 2**62)))
def test_what_is_reached_survives_as_bytes(reached):
    assert Reached.load(reached.dump()) == reached
