"""Flights folded all at once and in batches, against polars, river and running sums in plain Python."""

import time
from statistics import median

import numpy as np
from tests.bench.agreement import agree
from tests.bench.flights_log import cut, pieces
from tests.bench.goals import Goal, Outcome, as_fast, interleaved, the_cost
from tests.bench.happened import happened
from tests.bench.polars_peer import by_functions, by_groups, frames
from tests.bench.running import FEATURES, river_windows, running_sums

from mainstem.direct import collect_seldom
from mainstem.feature_engine import Batch, CompiledSet, Engine, load

#: So many events of the year are for river.
_PART = 100_000
_BATCH, _ONES = 1_000, 5_000


def against_polars(compiled: CompiledSet, log: Batch) -> list[Outcome]:
    """Compute all features; for two of them polars takes groups of rows, so it is also compared without them."""
    given, count = frames(log), len(log.stream)
    functions, groups = by_functions(given), by_groups(given)
    agree(compiled, log, {column.name: column.to_numpy() for column in [*functions, *groups]})
    fewer = _only(compiled, functions.columns)
    taken = interleaved(
        {
            "ours": (lambda: Engine(compiled).process(log), count),
            "fewer": (lambda: Engine(fewer).process(log), count),
            "functions": (lambda: by_functions(given), count),
            "groups": (lambda: by_groups(given), count),
        }
    )
    whole = [sum(both) for both in zip(taken["functions"], taken["groups"], strict=True)]
    all_of, few_of = (f"backfill of a year, {len(each.names)} features" for each in (compiled, fewer))
    some = f"polars, {len(fewer.names)}: without {' and '.join(groups.columns)}"
    return [
        as_fast(all_of, f"polars, {len(compiled.names)}", taken["ours"], whole, 2),
        as_fast(all_of, some, taken["ours"], taken["functions"], 2),
        as_fast(few_of, f"polars, {len(fewer.names)}", taken["fewer"], taken["functions"], 2),
    ]


def against_python(compiled: CompiledSet, log: Batch) -> list[Outcome]:
    """Compute all features, and the peers those that they can; river has a part of the year to do."""
    events, count = happened(log), len(log.stream)
    agree(compiled, log, dict(zip(FEATURES, np.array(running_sums(events)).T, strict=True)))
    collect_seldom()
    taken = interleaved(
        {
            "ours": (lambda: Engine(compiled).process(log), count),
            "sums": (lambda: running_sums(events), count),
            "river": (lambda: river_windows(events[:_PART]), _PART),
        }
    )
    subject = f"backfill of a year, {len(compiled.names)} features"
    plain, river = f"running sums in plain Python, {len(FEATURES)}", f"river's TimeRolling, {len(FEATURES) - 1}"
    return [
        as_fast(subject, plain, taken["ours"], taken["sums"], 4),
        as_fast(subject, river, taken["ours"], taken["river"], 10),
    ]


def in_batches(compiled: CompiledSet, log: Batch) -> list[Outcome]:
    """Fold the year in batches, as a service does, and its last events one by one."""
    batches, count = list(pieces(log, _BATCH)), len(log.stream)

    def piecemeal() -> None:
        engine = Engine(compiled)
        for batch in batches:
            engine.process(batch)

    taken = interleaved({"batches": (piecemeal, count), "whole": (lambda: Engine(compiled).process(log), count)})
    size = f"an event in batches of {_BATCH:,}"
    return [
        the_cost(size, "the year in one batch", taken["batches"], taken["whole"], 1.4),
        Outcome("a batch of one event, p50", "", _one_by_one(compiled, log), "CPU µs", Goal(40)),
    ]


def _one_by_one(compiled: CompiledSet, log: Batch) -> float:
    """Return the median CPU µs of a batch of one event."""
    engine, count, taken = Engine(compiled), len(log.stream), list[int]()
    engine.process(cut(log, 0, count - _ONES))
    for one in list(pieces(cut(log, count - _ONES, count), 1)):
        began = time.process_time_ns()
        engine.process(one)
        taken.append(time.process_time_ns() - began)
    return median(taken) / 1e3


def _only(compiled: CompiledSet, names: list[str]) -> CompiledSet:
    """Return the set with some of its features."""
    listed = compiled.spec["features"]
    assert isinstance(listed, list)
    return load({**compiled.spec, "features": [feature for feature in listed if feature["name"] in names]})
