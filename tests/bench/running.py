"""Windows that are kept up to date one event after another: plain Python, and river.

A departure is asked about before it is taken in. Departures and arrivals become known in the order in which they
happen, so a deque of them is in the order of time.
"""

import datetime as dt
import math
from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from functools import partial

from river import stats, utils
from tests.bench.happened import Arrived, Departed, Happened

_HOUR = 3_600_000_000
_DAY = 24 * _HOUR

#: What `running_sums` computes, in order; river cannot take a category out of a window, so it has all but the last.
FEATURES = (
    "origin_mean_1h",
    "origin_deps_1h",
    "origin_std_3h",
    "carrier_late_24h",
    "carrier_late_7d",
    "dest_late_24h",
    "origin_dests_1h",
)


class Sums:
    """Sums over what happened in so many µs before a moment; what happened at that moment or after it waits."""

    def __init__(self, span: int) -> None:
        self.n, self.total, self.squares = 0, 0.0, 0.0
        self._span, self._inside, self._ahead = span, deque[tuple[int, float]](), deque[tuple[int, float]]()

    def add(self, at: int, value: float) -> None:
        """Take a value in."""
        self._ahead.append((at, value))

    def before(self, at: int) -> "Sums":
        """Make the window end before `at`; return it."""
        inside, ahead, start = self._inside, self._ahead, at - self._span
        while ahead and ahead[0][0] < at:
            inside.append(entered := ahead.popleft())
            value = entered[1]
            self.n, self.total, self.squares = self.n + 1, self.total + value, self.squares + value * value
        while inside and inside[0][0] < start:
            value = inside.popleft()[1]
            self.n, self.total, self.squares = self.n - 1, self.total - value, self.squares - value * value
        return self

    def mean(self) -> float:
        """Return the mean, or NaN."""
        return self.total / self.n if self.n else math.nan

    def std(self) -> float:
        """Return the sample standard deviation, or NaN."""
        n = self.n
        return math.sqrt((n * self.squares - self.total * self.total) / (n * (n - 1))) if n > 1 else math.nan


class Kinds:
    """How often each category happened in so many µs before a moment."""

    def __init__(self, span: int) -> None:
        self._span, self._inside, self._ahead = span, deque[tuple[int, str]](), deque[tuple[int, str]]()
        self._counts = Counter[str]()

    def add(self, at: int, category: str) -> None:
        """Take a category in."""
        self._ahead.append((at, category))

    def before(self, at: int) -> int:
        """Make the window end before `at`; return how many categories are in it."""
        inside, ahead, counts, start = self._inside, self._ahead, self._counts, at - self._span
        while ahead and ahead[0][0] < at:
            inside.append(entered := ahead.popleft())
            counts[entered[1]] += 1
        while inside and inside[0][0] < start:
            category = inside.popleft()[1]
            counts[category] -= 1
            if not counts[category]:
                del counts[category]
        return len(counts)


def running_sums(events: Iterable[Happened]) -> list[tuple[float, ...]]:
    """Return `FEATURES` for each departure, by the rules of the engine."""
    hour, three = defaultdict[str, Sums](partial(Sums, _HOUR)), defaultdict[str, Sums](partial(Sums, 3 * _HOUR))
    day, week = defaultdict[str, Sums](partial(Sums, _DAY)), defaultdict[str, Sums](partial(Sums, 7 * _DAY))
    there, dests = defaultdict[str, Sums](partial(Sums, _DAY)), defaultdict[str, Kinds](partial(Kinds, _HOUR))
    rows = list[tuple[float, ...]]()
    for event in events:
        at = event.at
        if isinstance(event, Departed):
            origin, carrier = event.origin, event.carrier
            near = hour[origin].before(at)
            own = near.mean(), near.n, three[origin].before(at).std()
            rates = day[carrier].before(at).mean(), week[carrier].before(at).mean(), there[event.dest].before(at).mean()
            rows.append((*own, *rates, dests[origin].before(at)))
            hour[origin].add(at, event.dep_delay)
            three[origin].add(at, event.dep_delay)
            dests[origin].add(at, event.dest)
        elif isinstance(event, Arrived) and event.arr_delay is not None:
            for window in (day[event.carrier], week[event.carrier], there[event.dest]):
                window.add(at, event.arr_delay > 15)
    return rows


def river_windows(events: Iterable[Happened]) -> list[tuple[float, ...]]:
    """Return all but the last of `FEATURES`, by river's rules: ties are in, and a window ends at its last event."""
    hour, three, day, week, there = _means(hours=1), _variances(hours=3), _means(days=1), _means(days=7), _means(days=1)
    rows = list[tuple[float, ...]]()
    for event in events:
        moment = event.moment
        if isinstance(event, Departed):
            near, carrier = hour[event.origin], event.carrier
            own = near.obj.get(), near.obj.n, math.sqrt(max(three[event.origin].obj.get(), 0.0))
            rows.append((*own, day[carrier].obj.get(), week[carrier].obj.get(), there[event.dest].obj.get()))
            near.update(event.dep_delay, t=moment)
            three[event.origin].update(event.dep_delay, t=moment)
        elif isinstance(event, Arrived) and event.arr_delay is not None:
            for window in (day[event.carrier], week[event.carrier], there[event.dest]):
                window.update(event.arr_delay > 15, t=moment)
    return rows


def _means(**period: int) -> defaultdict[str, utils.TimeRolling[stats.Mean]]:
    return defaultdict(lambda: utils.TimeRolling(stats.Mean, period=dt.timedelta(**period)))


def _variances(**period: int) -> defaultdict[str, utils.TimeRolling[stats.Var]]:
    return defaultdict(lambda: utils.TimeRolling(stats.Var, period=dt.timedelta(**period)))
