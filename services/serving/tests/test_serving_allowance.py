"""A turn takes calls for as long as a burst may last, and for less while more is asked than can be answered."""

import pytest

from mainstem.serving.allowance import Allowance

DEADLINE_S = 1.0


def last_taken(allowance: Allowance, turn: float) -> float:
    """Ask each ms in a turn; return how long after its begin a call was last taken (s)."""
    steps = [turn + step / 1000 for step in range(1000)]
    return max(now for now in steps if allowance.has_time(turn, now)) - turn


def test_a_burst_gets_two_fifths_of_the_deadline_so_that_two_turns_and_refusals_fit_into_it() -> None:
    assert last_taken(Allowance(DEADLINE_S), 5.0) == pytest.approx(0.4, abs=0.0015)


def test_after_a_turn_that_refused_turns_are_short_until_one_refuses_nobody() -> None:
    allowance = Allowance(DEADLINE_S)
    assert last_taken(allowance, 5.0) > 0.39  # asked until it refused
    assert [last_taken(allowance, turn) for turn in (6.0, 7.0)] == pytest.approx([0.1, 0.1], abs=0.0015)
    assert allowance.has_time(8.0, 8.09)
    assert last_taken(allowance, 9.0) > 0.39


def test_turns_that_have_time_for_everybody_stay_as_long_as_they_may_be() -> None:
    allowance = Allowance(DEADLINE_S)
    assert all(allowance.has_time(float(turn), turn + 0.399) for turn in range(1, 20))
    assert not allowance.has_time(20.0, 20.401)
