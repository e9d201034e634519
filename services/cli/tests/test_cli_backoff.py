"""The pace of restarts."""

from hypothesis import given
from hypothesis import strategies as st

from mainstem.cli.local.backoff import Backoff, Restarts

QUICK_END_S = 0.5


def pauses(*ends: float) -> list[float | None]:
    restarts = Restarts(Backoff(loop_count=100))
    return [restarts.after_end(now, up_for=QUICK_END_S) for now in ends]


def test_the_pause_doubles_up_to_the_limit() -> None:
    assert pauses(*range(8)) == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


def test_a_process_that_was_up_for_long_starts_afresh() -> None:
    restarts = Restarts(Backoff())
    for now in (0.0, 1.0, 2.0):
        restarts.after_end(now, up_for=QUICK_END_S)
    assert restarts.after_end(40.0, up_for=30.0) == 0.2


def test_five_ends_within_a_minute_are_a_crash_loop() -> None:
    restarts = Restarts(Backoff())
    assert [restarts.after_end(now, QUICK_END_S) is None for now in (0, 15, 30, 45, 60)] == [False] * 4 + [True]


def test_five_ends_in_more_than_a_minute_are_not_a_crash_loop() -> None:
    restarts = Restarts(Backoff())
    assert None not in [restarts.after_end(now, QUICK_END_S) for now in (0, 16, 31, 46, 61)]


@given(st.lists(st.floats(0.0, 100.0), min_size=1, max_size=30))
def test_it_is_a_crash_loop_exactly_when_the_last_minute_holds_five_ends(gaps: list[float]) -> None:
    restarts, ends = Restarts(Backoff()), [sum(gaps[: count + 1]) for count in range(len(gaps))]
    verdicts = [restarts.after_end(now, QUICK_END_S) is None for now in ends]
    assert verdicts == [sum(now - 60 <= end <= now for end in ends[: n + 1]) >= 5 for n, now in enumerate(ends)]
