"""Frames, blocks, and which records count as second copies."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem.events.frames import Damaged, Entry, frame, unframe
from mainstem.events.record import header
from mainstem.ledger import Frontier, leaf_hash
from mainstem.ledger_service.domain import (
    BLOCK_ENTRIES,
    NO_ID,
    State,
    belongs,
    cut,
    entries_of,
    id_key,
    id_places,
    last_recorded,
    second_copies,
)

Write = Callable[..., list[Entry]]

octets = st.none() | st.binary(max_size=40)
records = st.builds(
    Entry,
    st.text(min_size=1, max_size=20),
    st.integers(0, 2**31),
    st.integers(0, 2**62),
    st.integers(-1, 2**62),
    octets,
    octets,
    st.lists(st.tuples(st.text(max_size=12), octets), max_size=5).map(tuple),
)


@given(records)
def test_a_record_comes_back_from_its_frame_as_it_was(record: Entry) -> None:
    assert unframe(frame(record)) == record


@given(records, records)
def test_frames_are_equal_only_for_equal_records(one: Entry, other: Entry) -> None:
    assert (frame(one) == frame(other)) == (one == other)


@given(records, st.data())
def test_a_frame_that_was_cut_is_refused(record: Entry, data: st.DataObject) -> None:
    whole = frame(record)
    with pytest.raises(Damaged):
        unframe(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(st.binary(max_size=200))
def test_other_bytes_are_refused_or_are_the_frame_of_what_they_give(octets: bytes) -> None:
    try:
        entry = unframe(octets)
    except Damaged:
        return
    assert frame(entry) == octets


@given(st.lists(records, max_size=30))
def test_blocks_give_back_every_record_and_hash_them_in_order(entries: list[Entry]) -> None:
    blocks = cut(entries, [None] * len(entries), 0)
    found = [entry for block in blocks for entry in entries_of(block)]
    assert sorted(map(repr, found)) == sorted(map(repr, entries))
    assert b"".join(block.hashes for block in blocks) == b"".join(leaf_hash(frame(entry)) for entry in found)


def test_a_block_holds_one_partition_and_at_most_a_thousand_entries(write: Write) -> None:
    offered = [*write(range(2_500)), *write(range(3), partition=1)]
    blocks = cut(offered, [None] * len(offered), 100)
    assert [(b.first_leaf, b.part, b.count) for b in blocks] == [
        (100, 0, BLOCK_ENTRIES),
        (1100, 0, BLOCK_ENTRIES),
        (2100, 0, 500),
        (2600, 1, 3),
    ]


def test_an_entry_is_found_by_its_id_or_the_beginning_of_it(write: Write) -> None:
    offered = write(range(10))
    (block,) = cut(offered, [header(entry, "ce_id") for entry in offered], 0)
    event_id = (header(offered[7], "ce_id") or b"").decode()
    assert id_places(block, id_key(event_id.encode())) == id_places(block, bytes.fromhex(event_id[:8])) == [7]


@pytest.mark.parametrize("event_id", [b"7", b"z" * 32, b"\xff" * 32, b"a" * 31, b"+1" * 16])
def test_any_id_has_a_key_of_sixteen_bytes(event_id: bytes) -> None:
    assert len(id_key(event_id)) == len(NO_ID)
    assert id_key(event_id) != NO_ID


def test_second_copies_are_counted_and_what_is_read_again_is_not(write: Write) -> None:
    read_again, first, copy = write([0, 1]), write([2, 3], first_offset=2), write([2], first_offset=4)
    before = {(first[0].topic, 0): 2}
    assert second_copies([*read_again, *first, *copy], first, before) == {(first[0].topic, 0): 1}


def test_the_recorded_time_is_the_highest_of_the_platforms_own(write: Write) -> None:
    ours = write([3, 9, 4])
    theirs = ours[0]._replace(topic="src.flights", headers=(("ce_recordedtime", b"9999"),))
    offered = [*ours, theirs]
    assert last_recorded(offered, [dict(entry.headers) for entry in offered]) == "2013-05-01T00:00:00.000009Z"


def test_checkpoints_alone_ask_for_no_other_checkpoint(write: Write) -> None:
    offered = [entry._replace(topic="evt.ledger.checkpoint") for entry in write([1, 2])]
    state = State(Frontier()).after(cut(offered, [None, None], 0), "2013-05-01T00:00:00.000000Z")
    assert (state.frontier.size, state.unpublished) == (2, 0)


def test_the_recorded_time_never_goes_back(write: Write) -> None:
    state = replace(State(Frontier()), recorded="2013-06-01T00:00:00.000000Z")
    assert state.after(cut(write([1]), [None], 0), "2013-05-01T00:00:00.000000Z").recorded == state.recorded


@pytest.mark.parametrize(
    ("topic", "ours"),
    [
        *[("src.flights", True), ("evt.data.quarantine", True), ("state.deployment", True), ("tel.prediction.x", True)],
        *[("src.", False), ("evt.other", False), ("state.deployment.old", False), ("__consumer_offsets", False)],
    ],
)
def test_topics_of_the_catalogue_are_archived_and_no_others(topic: str, ours: bool) -> None:
    assert belongs(topic) is ours


def test_a_leaf_commits_to_the_place_of_a_record_too(write: Write) -> None:
    (entry,) = write([1])
    assert leaf_hash(frame(entry)) != leaf_hash(frame(entry._replace(offset=1)))
