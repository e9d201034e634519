"""The feature engine by itself, with no broker, on one core: a process of its own, which prints its figures as JSON.

It folds the year of flights: 682,698 accepted events, and a row of 15 features for each of the 328,521 departures.
Peers compute the same values, which is checked first; only river has rules of its own.
"""

import json
import os
import subprocess

import numpy as np
from tests.bench.backfill import against_polars, against_python, in_batches
from tests.bench.clock import OWN
from tests.bench.flatness import flatness
from tests.bench.flights_log import flights
from tests.bench.goals import Goal, Outcome, as_fast, interleaved, the_cost
from tests.bench.online import reading
from tests.bench.without_numba import COMMAND, EVENTS

from mainstem.feature_engine import Batch, CompiledSet, Engine
from mainstem.runtime.service import collect_seldom

_DAY_US, _TILE_US = 86_400_000_000, 300_000_000
#: An event in a ring: its time and its value. A tile: count, sum, sum of squares and when it begins.
_EVENT_BYTES, _TILE_BYTES = 16, 32


def main() -> None:
    """Measure and print."""
    os.sched_setaffinity(0, OWN)
    compiled, log = flights()
    collect_seldom()
    outcomes = [
        *against_polars(compiled, log),
        *against_python(compiled, log),
        *in_batches(compiled, log),
        *reading(compiled, log),
        *restart(compiled, log),
        *against_tiles(log),
        *flatness(log),
        without_numba(),
    ]
    print(json.dumps([outcome.document() for outcome in outcomes]))


def restart(compiled: CompiledSet, log: Batch) -> list[Outcome]:
    """Write the state after the year down and take it up again; say how large it is in memory."""
    engine = Engine(compiled)
    engine.process(log)
    taken = interleaved(
        {
            "restart": (lambda: Engine(compiled).restore(engine.snapshot()), 1),
            "replay": (lambda: Engine(compiled).process(log), 1),
        }
    )
    size = Outcome("state after a year", "", engine.state_bytes() / 1e6, "MB", Goal(4))
    return [the_cost("snapshot and restore", "a replay of the year", taken["restart"], taken["replay"], 0.1), size]


def against_tiles(log: Batch) -> list[Outcome]:
    """Compare what long windows hold of their busiest key with tiles of five minutes; both by their definition."""
    windows = [("carrier", 1), ("carrier", 7), ("dest", 1)]
    return [
        Outcome(
            f"arrivals of the busiest {key} in {days} d",
            "tiles of 5 minutes",
            _busiest(log, key, days * _DAY_US) * _EVENT_BYTES / (days * _DAY_US // _TILE_US * _TILE_BYTES),
            "times the bytes",
            Goal(0.5),
        )
        for key, days in windows
    ]


def without_numba() -> Outcome:
    """Run the engine as plain Python, as it is where numba is not installed, against a scan of what is kept."""
    taken = json.loads(subprocess.check_output(COMMAND))
    return as_fast(f"without numba, {EVENTS:,} events", "a scan in plain Python", taken["ours"], taken["scan"], 0.7)


def _busiest(log: Batch, key: str, window_us: int) -> int:
    """Return the largest number of arrivals with one key that ever lie in a window."""
    keys, times = np.array(log.columns["flight_arrived"][key]), log.event_time[log.stream == 1]
    return max(_most(times[keys == one], window_us) for one in np.unique(keys))


def _most(times: np.ndarray, window_us: int) -> int:
    return int((np.arange(1, len(times) + 1) - np.searchsorted(times, times - window_us)).max())


if __name__ == "__main__":
    main()
