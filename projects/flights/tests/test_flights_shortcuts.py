"""Short cuts that feature stores take, on a month of real flights: each gives other values, and ours are the true ones.

The truth is the definition, read row by row; each short cut is the same reading with one rule bent.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from projects.flights.data import DAY_US, HOUR_US, Events
from projects.flights.sources import flight_arrived, flight_departed
from projects.flights.tests.conftest import START_US
from projects.flights.tests.year import Floats, Ints, Year, accepted

from mainstem.feature_engine import Batch, Engine, HoldBack, feature_set, window
from mainstem.project import ProjectDefinition

DAYS = 31
Mask = npt.NDArray[np.bool_]

dep = flight_departed.stream()
arr = flight_arrived.stream()


@feature_set("shortcuts", spine=dep, lateness="6h")
class Shortcuts:
    """What the short cuts are taken with."""

    origin_1h = dep.by("origin").mean("dep_delay", "1h")
    carrier_24h = arr.by("carrier").mean(arr.arr_delay > 15, "24h")
    tenths_24h = dep.by("origin").mean(dep.dep_delay * 0.1, "24h")
    sawtooth_1h = dep.by("origin").mean("dep_delay", window("1h", hop="5m"))


@dataclass(frozen=True)
class Seen:
    """The events of one key, and a departure that asks: when events happened, arrived, and stand in the log."""

    time: Ints
    arrival: Ints
    place: Ints
    departed: Ints
    now: int
    here: int

    @property
    def known(self) -> Mask:
        """Which events stand before the departure in the log."""
        return self.place < self.here


@dataclass(frozen=True)
class Month:
    """January: the rows of the engine, and all that a reading of the definitions needs."""

    year: Year
    rows: Floats

    def read(self, stream: str, key: str, value: Callable[[Any], Floats], keep: Callable[[Seen], Mask]) -> Floats:
        """Return for each departure the mean of a value over the events of its key that `keep` keeps."""
        year = self.year
        number = list(year.compiled.streams).index(stream)
        at = np.flatnonzero(year.stream == number)
        keys, values = np.array(year.columns[stream][key], object), value(year.columns[stream])
        spine = np.flatnonzero(year.stream == 0)
        asked = np.array(year.columns["flight_departed"][key], object)
        out = np.full(len(spine), np.nan)
        for name in sorted(set(keys.tolist())):
            mine, rows = np.flatnonzero(keys == name), np.flatnonzero(asked == name)
            place, known = at[mine], values[mine]
            time, arrival = year.event_time[place], year.arrival[place]
            departed = self.departed(stream)[mine]
            for row in rows.tolist():
                here = int(spine[row])
                kept = keep(Seen(time, arrival, place, departed, int(year.event_time[here]), here))
                kept &= ~np.isnan(known)
                out[row] = known[kept].sum() / kept.sum() if kept.any() else np.nan
        return out

    def departed(self, stream: str) -> Ints:
        """Return when the flight of each event departed; the smallest number where that was before the month."""
        spine = self.year.columns["flight_departed"]["flight"]
        times = dict(zip(spine, self.year.event_time[self.year.stream == 0].tolist(), strict=True))
        flights = self.year.columns[stream]["flight"]
        return np.array([times.get(flight, -(2**62)) for flight in flights], np.int64)


@pytest.fixture(scope="module")
def month(honest: dict[str, Events], project: ProjectDefinition) -> Month:
    compiled = Shortcuts.compile()
    end = START_US + DAYS * DAY_US
    sources = {}
    for name in compiled.streams:
        columns, times, arrivals = accepted(project, honest[name])
        n = int(np.searchsorted(arrivals, end))
        sources[name] = ({c: v[:n] for c, v in columns.items()}, times[:n], arrivals[:n])
    year = Year.of(compiled, sources)
    flights = {name: {"flight": sources[name][0]["flight"]} for name in compiled.streams}
    rows = Engine(compiled).process(year.batch(0, len(year))).values
    columns = {name: {**of, **flights[name]} for name, of in year.columns.items()}
    return Month(Year(compiled, year.stream, year.event_time, year.arrival, columns, year.lines), rows)


def delay(columns: Any) -> Floats:
    return np.asarray(columns["dep_delay"], np.float64)


def late(columns: Any) -> Floats:
    delays = np.asarray(columns["arr_delay"], np.float64)
    return np.where(np.isnan(delays), np.nan, delays > 15)


def within(seen: Seen, span: int) -> Mask:
    """Keep what the rules keep: [now - span, now), as far as it is known."""
    return seen.known & (seen.time >= seen.now - span) & (seen.time < seen.now)


def differing(one: Floats, other: Floats) -> float:
    return float(np.mean(~((one == other) | (np.isnan(one) & np.isnan(other)))))


def test_the_engine_gives_the_truth(month: Month) -> None:
    origin = month.read("flight_departed", "origin", delay, lambda s: within(s, HOUR_US))
    carrier = month.read("flight_arrived", "carrier", late, lambda s: within(s, DAY_US))
    np.testing.assert_array_equal(month.rows[:, 0], origin)
    np.testing.assert_array_equal(month.rows[:, 1], carrier)


HOURLY = {
    "the departure's own delay is in its window": lambda s: within(s, HOUR_US) | (s.place == s.here),
    "departures of the same minute are in the window": lambda s: (
        (s.time >= s.now - HOUR_US) & (s.time <= s.now) & (s.place != s.here)
    ),
    "the value is as old as the last departure, and does not slide": lambda s: last_materialised(s, HOUR_US),
    "the window ends at the last whole hour": lambda s: (
        s.known & (s.time >= (s.now // HOUR_US - 1) * HOUR_US) & (s.time < s.now // HOUR_US * HOUR_US)
    ),
    "the window begins at a whole five minutes": lambda s: (
        s.known & (s.time < s.now) & (s.time >= (s.now - HOUR_US) // 300_000_000 * 300_000_000)
    ),
}


def last_materialised(seen: Seen, span: int) -> Mask:
    """Keep the window as it was when the last event came in, that event inside."""
    if not seen.known.any():
        return seen.known
    last = int(seen.time[seen.known].max())
    return seen.known & (seen.time > last - span) & (seen.time <= last)


@pytest.mark.parametrize("shortcut", list(HOURLY))
def test_a_short_cut_by_the_hour_would_be_seen_and_is_not_taken(month: Month, shortcut: str) -> None:
    bent = month.read("flight_departed", "origin", delay, HOURLY[shortcut])
    assert differing(bent, month.rows[:, 0]) > 0.1


def test_a_window_that_begins_at_whole_hops_is_had_by_asking_for_it(month: Month) -> None:
    sawtooth = month.read("flight_departed", "origin", delay, HOURLY["the window begins at a whole five minutes"])
    np.testing.assert_array_equal(month.rows[:, 3], sawtooth)


def test_arrivals_dated_at_departure_would_leak_the_label_and_are_not(month: Month) -> None:
    leak = month.read(
        "flight_arrived",
        "carrier",
        late,
        lambda s: (s.departed >= s.now - DAY_US) & (s.departed < s.now) & (s.place != s.here),
    )
    assert differing(leak, month.rows[:, 1]) > 0.5


def test_arrivals_that_happened_but_are_not_known_yet_are_left_out(month: Month) -> None:
    early = month.read("flight_arrived", "carrier", late, lambda s: (s.time >= s.now - DAY_US) & (s.time < s.now))
    assert differing(early, month.rows[:, 1]) > 0.05


def test_sums_that_run_in_floats_would_drift_and_ours_are_the_nearest_to_the_truth(month: Month) -> None:
    tenths = np.round(delay(month.year.columns["flight_departed"])).astype(np.int64)
    spine = np.flatnonzero(month.year.stream == 0)
    times, origins = month.year.event_time[spine], np.array(month.year.columns["flight_departed"]["origin"], object)
    mine = np.flatnonzero(origins == "JFK")
    running, head, exact, drifted = 0.0, 0, 0, 0
    for row, at in enumerate(mine.tolist()):
        tail = int(np.searchsorted(times[mine[:row]], times[at], side="left")) if row else 0
        start = int(np.searchsorted(times[mine[:row]], times[at] - DAY_US, side="left")) if row else 0
        running -= sum(0.1 * tenths[i] for i in mine[head:start])
        head = start
        inside = tenths[mine[start:tail]]
        if len(inside):
            truth = float(Fraction(int(inside.sum()), 10 * len(inside)))
            exact += month.rows[at, 2] == truth
            ties = sum(0.1 * tenths[i] for i in mine[tail:row])
            drifted += (running - ties) / len(inside) != truth
        running += 0.1 * tenths[at]
    asked = len(mine) - int(np.isnan(month.rows[mine, 2]).sum())
    assert exact == asked
    assert drifted > 0.5 * asked


def polls(month: Month, size: int) -> list[tuple[int, Ints]]:
    """Return what a consumer that catches up reads: so many records of one source after the other."""
    places = [np.flatnonzero(month.year.stream == number) for number in range(len(month.year.compiled.streams))]
    longest = max(map(len, places))
    return [
        (number, at[start : start + size])
        for start in range(0, longest, size)
        for number, at in enumerate(places)
        if start < len(at)
    ]


def test_a_consumer_that_catches_up_applies_the_order_of_arrivals_and_not_that_of_its_polls(month: Month) -> None:
    year = month.year
    names = [f"{number}-{name}" for number, name in enumerate(year.compiled.streams)]  # ties go by name
    merge: HoldBack[int] = HoldBack([(name, 0) for name in names], set())
    released: list[int] = []
    for number, at in polls(month, 500):
        merge.offer((names[number], 0), year.arrival[at], at, at.tolist())
        released += merge.release().items
    for name in names:
        merge.drained((name, 0))
    released += merge.release().items
    assert released == list(range(len(year)))
    order = np.concatenate([at for _, at in polls(month, 500)])
    arrival = np.maximum.accumulate(year.arrival[order])
    columns = {name: {c: of[c] for c in year.compiled.streams[name]} for name, of in year.columns.items()}
    careless = Engine(year.compiled).process(Batch(year.stream[order], year.event_time[order], arrival, columns))
    assert differing(careless.values[:, 1], month.rows[:, 1]) > 0.5
