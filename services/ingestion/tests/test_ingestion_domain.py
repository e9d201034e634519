import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem.ingestion.domain import Block, PartitionState, Seen
from mainstem.project.contract import BLOCK, BatchRules

DAY_US = 86_400_000_000
MARKS = st.integers(0, 2**56 - 1)


@given(st.lists(MARKS, max_size=30))
def test_an_id_is_admitted_once_within_the_horizon(marks: list[int]) -> None:
    seen = Seen(7 * DAY_US)
    admitted = [mark for mark in marks if seen.admit(mark, recorded_us=5)]
    assert admitted == list(dict.fromkeys(marks))


@pytest.mark.parametrize(("days_later", "admitted"), [(0, False), (6, False), (7, False), (9, True)])
def test_an_id_is_forgotten_by_the_day_once_the_horizon_has_passed(days_later: int, admitted: bool) -> None:
    seen = Seen(7 * DAY_US)
    seen.admit(1, recorded_us=DAY_US)
    later = DAY_US * (1 + days_later)
    seen.admit(2, recorded_us=later)
    assert seen.admit(1, recorded_us=later) is admitted


def test_memory_is_bounded_by_the_horizon() -> None:
    seen = Seen(2 * DAY_US)
    for day in range(100):
        seen.admit(day, day * DAY_US)
    assert [day for day, _ in seen.dump()] == [97, 98, 99]


@given(st.lists(st.tuples(MARKS, st.integers(0, 20 * DAY_US)), max_size=30))
def test_what_was_seen_survives_a_restart_at_any_point(admissions: list[tuple[int, int]]) -> None:
    steady = restarted = Seen(3 * DAY_US)
    for mark, recorded_us in admissions:
        restarted = Seen.load(3 * DAY_US, restarted.dump())
        assert restarted.admit(mark, recorded_us) is steady.admit(mark, recorded_us)
        assert restarted.dump() == steady.dump()


def test_the_same_ids_give_the_same_bytes_whatever_their_order() -> None:
    one, other = Seen(DAY_US), Seen(DAY_US)
    marks = np.random.default_rng(1).integers(0, 2**56, 100).tolist()
    for seen, order in ((one, marks), (other, sorted(marks))):
        for mark in order:
            seen.admit(mark, 0)
    assert one.dump() == other.dump()


def test_a_block_ends_where_the_next_thousand_offsets_begin() -> None:
    state = PartitionState(Seen(DAY_US))
    assert [state.enter(offset) for offset in (5, BLOCK - 1)] == [None, None]
    closed = state.enter(BLOCK + 3)
    assert closed == Block(0)
    assert state.block == Block(1)


def test_a_block_breaks_the_rules_by_more_than_the_limit_only() -> None:
    rules = BatchRules(max_quarantined=0.1, max_null={"weight": 0.5})
    assert Block(0, records=100, quarantined=10, nulls={"weight": 45}).broken(rules) == []
    assert Block(0, records=100, quarantined=20, nulls={"weight": 60}).broken(rules) == [
        "quarantined 0.200 > 0.1",
        "null weight 0.750 > 0.5",
    ]


def test_a_block_with_nothing_accepted_has_no_share_of_nulls() -> None:
    assert Block(2, records=4, quarantined=4, nulls={"weight": 0}).null_fractions() == {"weight": 0}


def test_the_state_of_a_partition_survives_a_restart() -> None:
    state = PartitionState(Seen(DAY_US), Block(3, 7, 2, {"weight": 1}))
    state.seen.admit(9, 0)
    again = PartitionState.load(DAY_US, state.dump())
    assert (again.dump(), again.block) == (state.dump(), state.block)
    assert PartitionState.load(DAY_US, None).dump() == PartitionState(Seen(DAY_US)).dump()
