"""The feature engine by itself, with no broker, on one core: a process of its own, which prints its figures as JSON.

It folds the year of flights: 682,698 accepted events, and a row of 15 features for each of the 328,521 departures.
Peers compute the same values, which is checked first; only river has rules of its own.
"""

import json
import os
import subprocess

import numpy as np
from projects.flights.sources import flight_arrived, flight_departed
from tests.bench.backfill import against_polars, against_python, in_batches
from tests.bench.clock import OWN
from tests.bench.flatness import flatness
from tests.bench.flights_log import flights
from tests.bench.goals import Goal, Outcome, as_fast, interleaved, the_cost
from tests.bench.online import reading
from tests.bench.without_numba import COMMAND, EVENTS

from mainstem.direct import collect_seldom
from mainstem.feature_engine import Batch, CompiledSet, Engine, feature_set

_DAY_US, _TILE_US = 86_400_000_000, 300_000_000
#: A tile: count, sum, sum of squares and when it begins.
_TILE_BYTES = 32
_LATENESS_H = 6


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
    """Measure what the state of the busiest key takes after a year, against tiles of five minutes.

    Either keeps what a late event may still reach: the window and the lateness.
    """
    lateness_us = _LATENESS_H * 3_600_000_000
    return [
        Outcome(
            f"state of the busiest {key}: mean over {days} d",
            "tiles of 5 minutes",
            _state_of_busiest(log, key, days) / ((days * _DAY_US + lateness_us) // _TILE_US * _TILE_BYTES),
            "times the bytes",
            Goal(0.5),
        )
        for key, days in [("carrier", 1), ("carrier", 7), ("dest", 1)]
    ]


def _state_of_busiest(log: Batch, key: str, days: int) -> int:
    """Fold the arrivals of the most frequent key alone, with one window, and return the bytes of the state."""
    arrived, departed = flight_arrived.stream(), flight_departed.stream()
    late = arrived.by(key).mean(arrived.arr_delay > 15, f"{days}d")
    one = feature_set("busiest", spine=departed, lateness=f"{_LATENESS_H}h")(type("Busiest", (), {"late": late}))
    keys = np.array(log.columns["flight_arrived"][key])
    names, counts = np.unique(keys, return_counts=True)
    mine = keys == names[counts.argmax()]
    at = np.flatnonzero(log.stream == 1)[mine]
    delays = np.asarray(log.columns["flight_arrived"]["arr_delay"])[mine]
    engine = Engine(one.compile())
    columns = {"flight_arrived": {key: keys[mine].tolist(), "arr_delay": delays}}
    engine.process(Batch(np.ones(len(at), np.int8), log.event_time[at], log.arrival[at], columns))
    return engine.state_bytes()


def without_numba() -> Outcome:
    """Run the engine as plain Python, as it is where numba is not installed, against a scan of what is kept."""
    taken = json.loads(subprocess.check_output(COMMAND))
    return as_fast(f"without numba, {EVENTS:,} events", "a scan in plain Python", taken["ours"], taken["scan"], 0.7)


if __name__ == "__main__":
    main()
