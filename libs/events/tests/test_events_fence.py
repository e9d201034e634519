"""ADR 1: whatever crashes and whoever writes twice, every event is admitted exactly once; and where the rule is broken,
the same test sees the loss."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from mainstem.events.envelope import Message
from mainstem.events.fence import Fence, Position
from mainstem.testkit.records import Log, Taken

TOPIC = "evt.data.orders"
#: How many inputs a writer has.
INPUTS = 12


def written(numbers: Sequence[int]) -> list[Message]:
    return [Message(TOPIC, None, b"%d" % n, (("ce_origin", b"src.orders/0/%d" % n),), 0) for n in numbers]


#: One life of a writer: where its last checkpoint left it, how far it came, and the batches it sent that in.
#: What a life acknowledged stands in the log; it ends by a crash or by being thought dead.
LIVES = st.lists(st.tuples(st.integers(0, INPUTS), st.integers(0, INPUTS)), max_size=6)
CUTS = st.lists(st.integers(0, 200), max_size=6).map(sorted)


def obeying(lives: list[tuple[int, int]]) -> list[int]:
    """Return what stands in the log: no life begins behind what the lives before it had acknowledged."""
    log: list[int] = []
    for start, end in [*lives, (0, INPUTS)]:
        acknowledged = max(log, default=-1) + 1
        begin = min(start, acknowledged)
        log += range(begin, max(begin, end))
    return log


def interleaved(log: list[int], ghost: list[int], order: Sequence[bool]) -> list[int]:
    """Return two writers' records as the broker happened to take them, each in its own order."""
    mine, other, merged = list(log), list(ghost), []
    for first in order:
        source = mine if first else other
        merged += [source.pop(0)] if source else []
    return merged + mine + other


def admitted(log: list[int], cuts: Sequence[int] = ()) -> list[int]:
    """Return what a reader admits that crashes at `cuts`, going on with the state stored in the poll before."""
    records = Log().append(written(log))
    seen, stored = [], Position()
    for begin, end in pairwise([0, *(min(cut, len(records)) for cut in cuts), len(records)]):
        fence = Fence({(TOPIC, 0): Position(stored.next_offset, dict(stored.origins))})
        # A crash in the middle of a poll: it is read again from the stored position, what it admitted is forgotten.
        fence.admit(records[begin : (begin + end) // 2])
        fence = Fence({(TOPIC, 0): stored})
        seen += fence.admit(records[stored.next_offset : end])[0]
        stored = fence.positions.get((TOPIC, 0), stored)
    return [int(record.value or b"") for record in seen]


@given(LIVES, CUTS)
def test_every_event_is_admitted_once_whatever_crashes(lives: list[tuple[int, int]], cuts: list[int]) -> None:
    assert admitted(obeying(lives), cuts) == list(range(INPUTS))


@given(LIVES, LIVES, st.lists(st.booleans(), max_size=80))
def test_a_writer_back_from_the_dead_loses_and_repeats_nothing(
    lives: list[tuple[int, int]], ghost: list[tuple[int, int]], order: list[bool]
) -> None:
    # Two writers that know nothing of each other: both begin at what they stored, and that was 0.
    assert admitted(interleaved(obeying(lives), obeying(ghost), order)) == list(range(INPUTS))


def test_a_writer_that_commits_before_its_outputs_are_acknowledged_is_seen_to_lose() -> None:
    lost = find(LIVES, lambda lives: sorted(admitted(committing_too_early(lives))) != list(range(INPUTS)))
    assert lost


def committing_too_early(lives: list[tuple[int, int]]) -> list[int]:
    log: list[int] = []
    for start, end in [*lives, (0, INPUTS)]:
        log += range(start, end)
    return log


@settings(max_examples=30)
@given(st.permutations(range(6)))
def test_a_writer_that_does_not_keep_the_order_is_seen_to_lose(numbers: list[int]) -> None:
    kept = admitted(list(numbers))
    assert (kept == sorted(numbers)) is (list(numbers) == sorted(numbers))


def test_streams_are_fenced_each_on_its_own() -> None:
    origins = [b"registry@a/5", b"registry@b/1", b"registry@a/5", b"registry@b/2", b"registry@a/6"]
    records = [Taken(TOPIC, 0, n, headers=(("ce_origin", origin),)) for n, origin in enumerate(origins)]
    fence = Fence()
    assert [record.offset for record in fence.admit(records)[0]] == [0, 1, 3, 4]
    assert fence.positions[TOPIC, 0] == Position(5, {"registry@a": 6, "registry@b": 2})
    assert fence.dropped == 1


@pytest.mark.parametrize(
    "origin", [b"", b"/", b"no number/x", b"\xff/\xff", b"a/" + b"9" * 5000, b"a/-1", "a/²".encode()]
)
def test_an_origin_that_is_none_of_ours_stops_nothing(origin: bytes) -> None:
    records = [Taken(TOPIC, 0, n, headers=(("ce_origin", origin),)) for n in range(2)]
    assert Fence().admit(records)[0] == records


def test_a_source_cannot_hide_its_records_behind_an_origin() -> None:
    records = [Taken("src.orders", 0, n, headers=(("ce_origin", b"src.orders/0/9"),)) for n in range(2)]
    assert Fence().admit(records)[0] == records


def test_a_header_that_is_null_counts_as_absent() -> None:
    headers: Any = (("ce_id", b"7"), ("ce_origin", None), ("ce_correlationid", None))
    assert Fence().admit([Taken(TOPIC, headers=headers)])[1] == [{"ce_id": b"7"}]


def test_a_record_without_an_origin_is_admitted_once_by_its_offset() -> None:
    fence, records = Fence(), [Taken(TOPIC, 0, n) for n in range(3)]
    assert fence.admit(records[:2])[0] == records[:2]
    assert fence.admit(records)[0] == records[2:]


def test_the_next_offsets_are_those_after_everything_offered() -> None:
    fence = Fence()
    fence.admit([Taken("a", 0, 4), Taken("b", 1, 0)])
    assert fence.offsets() == {("a", 0): 5, ("b", 1): 1}
    assert fence.offsets([("a", 0), ("c", 0)]) == {("a", 0): 5}
