"""What the log says up to a cut, whatever the polls and whoever wrote what twice."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from services.training.tests.training_log import (
    CUT,
    PARTITIONS,
    RANGES,
    Gusts,
    dataset,
    history,
    identity,
    said,
    whole,
)

from mainstem.testkit.clock import DAY, HOUR, MAY
from mainstem.testkit.projects import storms
from mainstem.testkit.records import Taken
from mainstem.training.domain import PartitionRead, Ranges
from mainstem.training.ports import NotReached

WHOLE = whole()
CALM = said(dataset(WHOLE))
PLACES = [(topic, number) for topic in WHOLE.topics for number in range(PARTITIONS)]
EARLIER = Ranges.at(MAY + 5 * DAY, 5 * DAY, DAY)


def polled(steps):
    """Return the whole log in polls: so many records of this partition, then of that; at last what is left of each."""
    left = {place: [r for r in WHOLE.records() if (r.topic, r.partition) == place] for place in PLACES}
    polls = []
    for taken in steps:
        poll = []
        for place, number in taken:
            poll += left[place][:number]
            left[place] = left[place][number:]
        polls.append(poll)
    return [*polls, *left.values()]


@given(st.lists(st.lists(st.tuples(st.sampled_from(PLACES), st.integers(0, 9)), max_size=4), max_size=12))
def test_any_polls_give_the_same_dataset(steps):
    assert said(history(WHOLE, polled(steps)).dataset(RANGES)) == CALM


def test_what_was_read_before_or_after_for_another_cut_changes_nothing():
    gusts = Gusts().row("a", MAY).loss("a", MAY).row("b", MAY + HOUR).passed(EARLIER.evaluation.end_us - 1)
    first = len(gusts.messages)
    records = gusts.row("c", MAY + 6 * DAY).loss("b", MAY + 6 * DAY).passed(CUT - 1).records()
    found = history(gusts, [records[:first]])
    earlier = said(found.dataset(EARLIER))
    found.take(records[first:])
    assert said(found.dataset(RANGES)) == said(dataset(gusts))
    assert said(found.dataset(EARLIER)) == earlier


def test_rows_come_in_the_order_of_recorded_time_and_id_and_each_has_its_label():
    gusts = Gusts()
    gusts.row("b", MAY + HOUR, 2.0, id="b").row("a", MAY + HOUR, 3.0, partition=1, id="a").row("c", MAY, 1.0, id="c")
    gusts.loss("a", MAY + 2 * HOUR, 10.5).loss("b", MAY + 2 * HOUR, 10).loss("c", MAY + 2 * HOUR, 0)
    found = dataset(gusts.passed(CUT - 1))
    assert (found.ids, found.entities) == (["c", "a", "b"], ["c", "a", "b"])
    assert found.spine_ids == ["spine-c", "spine-a", "spine-b"]
    assert (found.x.tolist(), found.y.tolist()) == ([[1.0], [3.0], [2.0]], [0, 1, 0])
    assert found.time_us.tolist() == [MAY - HOUR, MAY, MAY]


def test_a_value_that_is_unknown_is_no_number():
    assert np.isnan(dataset(Gusts().row("a", MAY, None).loss("a", MAY).passed(CUT)).x).all()


@pytest.mark.parametrize(("recorded_us", "inside"), [(MAY - 1, 0), (MAY, 1), (CUT - 1, 1), (CUT, 0)])
def test_a_row_is_in_from_the_beginning_of_the_window_and_before_the_cut(recorded_us, inside):
    assert len(dataset(Gusts().row("a", recorded_us).loss("a", recorded_us).passed(CUT)).ids) == inside


def test_a_label_counts_when_it_was_recorded_before_the_cut():
    gusts = Gusts().row("a", CUT - 2).row("b", CUT - 2).loss("a", CUT - 1).loss("b", CUT).passed(CUT)
    assert (dataset(gusts).entities, dataset(gusts).unlabelled) == (["a"], 1)


def test_the_last_label_counts_and_a_null_decides_nothing():
    gusts = Gusts().row("a", MAY).loss("a", MAY + 2, 50, partition=1).loss("a", MAY + 1, 0).loss("a", MAY + 3, None)
    assert dataset(gusts.passed(CUT)).y.tolist() == [1]


WAIT = storms().models["storm"].label.wait
EVENT = MAY - HOUR


@pytest.mark.parametrize(
    ("known_us", "labelled"), [(EVENT, 0), (EVENT + 1, 1), (EVENT + WAIT, 1), (EVENT + WAIT + 1, 0)]
)
def test_a_label_counts_when_it_came_after_the_event_and_within_the_wait(known_us, labelled):
    found = dataset(Gusts().row("a", MAY).loss("a", known_us).passed(CUT))
    assert (len(found.ids), found.unlabelled) == (labelled, 1 - labelled)


def test_a_correction_that_comes_too_late_leaves_the_label_as_it_was():
    gusts = Gusts().row("a", MAY).loss("a", MAY + 1, 50).loss("a", EVENT + WAIT + 1, 0)
    assert dataset(gusts.passed(CUT)).y.tolist() == [1]


def test_rows_of_an_entity_have_the_labels_of_their_own_time():
    gusts = Gusts().row("a", MAY).row("a", MAY + DAY).loss("a", MAY + 1, 50).loss("a", MAY + DAY + 1, 0)
    assert dataset(gusts.passed(CUT)).y.tolist() == [1, 0]


def test_of_two_labels_recorded_at_once_the_one_in_the_later_partition_counts():
    first, second = Gusts().row("a", MAY), Gusts().row("a", MAY)
    first.loss("a", MAY, 50, partition=1).loss("a", MAY, 0, partition=0).passed(CUT)
    second.loss("a", MAY, 0, partition=0).loss("a", MAY, 50, partition=1).passed(CUT)
    assert [dataset(gusts).y.tolist() for gusts in (first, second)] == [[1], [1]]


def test_what_stands_behind_the_marker_that_passes_the_cut_is_not_in():
    gusts = Gusts().row("a", MAY).loss("a", MAY).passed(CUT - 1)
    before = said(dataset(gusts))
    assert said(dataset(gusts.row("b", MAY).loss("b", MAY).loss("a", MAY + 1, 0).passed(CUT + DAY))) == before


def test_an_event_that_was_written_twice_is_in_once_and_both_copies_are_counted():
    once, twice = dataset(whole()), dataset(whole().again())
    assert said(once) | {"positions": None} == said(twice) | {"positions": None}
    assert once.positions == twice.positions  # the copies stand behind the markers
    copied = Gusts().row("a", MAY).again().loss("a", MAY).passed(CUT)
    assert dataset(copied).positions.topics[copied.topics[0]].partitions["0"] == PartitionRead(3, 3)
    assert dataset(copied).ids == dataset(Gusts().row("a", MAY).loss("a", MAY).passed(CUT)).ids


def test_positions_say_how_far_was_read_and_how_many_records_lie_there():
    gusts = Gusts().row("a", MAY).row("b", MAY).loss("a", MAY).passed(CUT - 1).passed(CUT)
    records = [r if r.offset < 1 else replace(r, offset=r.offset + 5) for r in gusts.records()]
    found = history(gusts, [records]).dataset(RANGES).positions
    rows, labels = (found.topics[topic] for topic in gusts.topics)
    assert (found.cluster, rows.id) == ("cluster", f"id of {gusts.topics[0]}")
    assert rows.partitions == {"0": PartitionRead(8, 3), "1": PartitionRead(1, 1)}
    assert labels.partitions == {"0": PartitionRead(7, 2), "1": PartitionRead(1, 1)}


def test_rows_of_a_set_that_had_the_label_before_are_not_in_and_take_no_place():
    before = Gusts(set_id=f"sha256:{'0' * 64}").row("a", MAY, 7.0, origin="s/0")
    now = Gusts(messages=before.messages).row("a", MAY, 1.0, origin="s/0").loss("a", MAY).passed(CUT)
    assert dataset(now).x.tolist() == [[1.0]]


def test_how_far_another_set_is_says_nothing_of_this_one():
    before = Gusts(set_id=f"sha256:{'0' * 64}").passed(CUT)
    found = history(Gusts(messages=before.messages).passed(CUT - 2))
    with pytest.raises(
        NotReached, match=r"evt\.feature\.gusts/0 has announced all before 2013-05-10T23:59:59\.999998Z"
    ):
        found.dataset(RANGES)


def test_a_log_that_announced_nothing_is_not_complete():
    gusts = Gusts().row("a", MAY).passed(CUT, only=["evt.feature.gusts"])
    missing = history(gusts).missing(CUT, {})
    assert missing == (
        "evt.data.outcome/0 has announced nothing, the cut is 2013-05-11T00:00:00.000000Z; the source must announce it"
    )


def test_markers_on_the_last_microsecond_before_the_cut_are_enough():
    assert history(Gusts().passed(CUT - 1)).missing(CUT, {}) is None
    assert history(Gusts().passed(CUT - 2)).missing(CUT, {}) is not None


def test_a_topic_that_was_made_anew_is_read_from_its_beginning():
    found, other = history(WHOLE), identity(WHOLE, "another cluster")
    found.begin(other, PLACES)
    assert found.offsets() == dict.fromkeys(PLACES, 0)
    found.take(WHOLE.records())
    again = found.dataset(RANGES)
    assert again.positions.cluster == "another cluster"
    assert said(again) | {"positions": None} == CALM | {"positions": None}


def live() -> Gusts:
    """Return a log of sources that announce nothing."""
    gusts = Gusts(storms(replay=False)).row("a", MAY).row("b", MAY, partition=1)
    return gusts.loss("a", MAY + 1).loss("b", MAY + 2).row("a", CUT)


def test_a_live_topic_is_complete_when_it_was_read_to_its_end():
    gusts = live()
    ends = {place: max([r.offset + 1 for r in gusts.records() if (r.topic, r.partition) == place], default=0)
            for place in PLACES}  # fmt: skip
    records = gusts.records()
    assert history(gusts).missing(CUT, ends) is None
    assert history(gusts, [records[:-1]]).missing(CUT, ends) == (
        "evt.feature.gusts/0 was read up to 1 of 2; it is read again"
    )


def test_a_live_dataset_does_not_hang_on_what_was_recorded_after_the_cut():
    found = dataset(live())
    assert (found.entities, found.positions) == (["a", "b"], dataset(live().row("c", CUT + 1).loss("b", CUT)).positions)
    rows = found.positions.topics["evt.feature.gusts"].partitions
    assert rows == {"0": PartitionRead(1, 1), "1": PartitionRead(1, 1)}


def test_rows_of_a_set_that_reads_one_announcing_source_have_markers_to_wait_for():
    document = json.loads(storms(replay=False, mean_over="1h").canonical())
    document["sources"]["reading"]["replay"] = True
    assert Gusts(type(storms()).model_validate(document)).subject.live == {"evt.data.outcome"}


NOT_OURS = {
    "no JSON": {"value": b"{"},
    "too deep": {"value": b'{"x":' + b"[" * 100_000},
    "no row": {"value": b"{}"},
    "too many values": {"value": b'{"entity":"a","spine_id":"s","values":[1,2]}'},
    "no spine record": {"value": b'{"entity":"a","values":[1]}'},
    "no value at all": {"value": None},
    "no id": {"drop": "ce_id"},
    "no recorded time": {"drop": "ce_recordedtime"},
    "no origin": {"drop": "ce_origin"},
    "an origin of nobody": {"headers": {"ce_origin": b"nobody"}},
    "no time": {"headers": {"ce_time": b"noon"}},
    "another type": {"headers": {"ce_type": b"mainstem.feature.order_journalled.v1"}},
}


@pytest.mark.parametrize("fault", NOT_OURS.values(), ids=list(NOT_OURS))
def test_a_record_that_no_service_of_ours_wrote_is_left_out_and_the_others_stay(fault, caplog):
    gusts = Gusts().row("a", MAY).row("forged", MAY).loss("a", MAY).loss("forged", MAY).passed(CUT)
    records = [forged(record, fault) if b"forged" in (record.value or b"") and "feature" in record.topic else record
               for record in gusts.records()]  # fmt: skip
    assert history(gusts, [records]).dataset(RANGES).entities == ["a"]
    assert "left out evt.feature.gusts/0/1: " in caplog.text


def forged(record: Taken, fault) -> Taken:
    headers = {name: value for name, value in record.headers if name != fault.get("drop")} | fault.get("headers", {})
    return replace(record, value=fault.get("value", record.value), headers=tuple(headers.items()))


def test_a_marker_that_says_no_instant_is_left_out(caplog):
    gusts = Gusts().passed(CUT)
    records = gusts.records()
    records[0] = replace(records[0], value=b'{"until":"soon"}')
    assert history(gusts, [records]).missing(CUT, {}) is not None
    assert "left out evt.feature.gusts/0/0: " in caplog.text
