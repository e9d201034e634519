"""`make bench`: what a unit of each service's work costs, beside a bare peer in the same run.

Each service takes the flights of some weeks alone on one core: its own handlers, bus and store, on a real Kafka and a
real PostgreSQL that run on the other cores. A run is ten days of flights; figures are medians. CPU time is what to
look at where others use the machine, too. Before that the feature engine folds the year by itself, without servers, and
a million edges of lineage are built and asked.
"""

import argparse
import asyncio
import json
import logging
import os
import subprocess
import sys
from itertools import chain
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from tests.bench.calls import calls
from tests.bench.clock import RUNS, Figure, spend
from tests.bench.consume import consume
from tests.bench.features import features
from tests.bench.ingestion import ingestion
from tests.bench.ledger import ledger
from tests.bench.monitoring import monitoring
from tests.bench.registry import registry
from tests.bench.serving import bare_session, serving
from tests.bench.stage import CHECKOUT, FIRST_DAYS, RUN_DAYS, open_stage
from tests.bench.training import training
from tests.bench.year import year

WIDTH = 160
#: Benchmarks that are processes of their own, and what stands above their figures.
_ALONE: Final = {
    "engine": f"The feature engine on one core: medians of {RUNS} rounds, in turn with what it is compared with",
    "lineage": "Lineage on one core, in CPU time",
    "evidence": "The evidence: on a PostgreSQL that syncs, in turn with what it is compared with",
    "doors": "Direct calls over HTTP: the server on one core, its callers on the other, in turn",
    "grpc_doors": "Direct calls over gRPC, the same way",
    "switching": "Direct calls over HTTP while versions are switched",
    "crowd": "A worker that is asked three times what it can answer",
    "hostile": "Neighbours of callers that mean no good",
    "routing": "Direct calls without a socket, on one core, in turn",
}


async def measure() -> list[Figure]:
    """Measure everything but the year."""
    async with open_stage() as stage:
        await stage.play(FIRST_DAYS)
        first = [await ingestion(stage), await features(stage)]
        for turn in first:  # the month that is learnt from; it warms up, too
            await stage.drain(turn)
        consumed = await consume(stage)
        run, trained = await training(stage)
        scoring, bare = await serving(stage, trained), bare_session(stage, trained)
        turns = [*first, scoring, await monitoring(stage, trained), await ledger(stage)]
        for turn in turns[2:]:
            await stage.skip(turn)
        for number in range(RUNS + 1):
            await stage.play(RUN_DAYS)
            for turn in turns:
                spent = await stage.drain(turn)
                if number:  # the first warms up
                    peers = {"onnxruntime alone": spend(bare, len(trained.x))} if turn is scoring else {}
                    turn.figure.add(spent, peers)
        order = [turn.figure for turn in turns]
        return [consumed, *order[:3], *await calls(stage, trained), order[3], run, registry(stage), order[4]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    wanted = parser.parse_args().output
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    outcomes = {name: alone(name) for name in _ALONE}
    figures = [figure.document() for figure in asyncio.run(measure())]
    shares = asyncio.run(year())
    if wanted == "json":
        print(json.dumps({**outcomes, "figures": figures, "year": shares}, indent=2))
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    for name, heading in _ALONE.items():
        console.print(f"\n{heading}", style="bold")
        console.print(_goals(outcomes[name]))
    console.print(f"\nEach service alone on one core: medians of {RUNS} runs, ratios within a run", style="bold")
    console.print(_costs(figures))
    played = f"{shares['played']}, {shares['events']:,} events in {shares['seconds']:,.0f} s"
    console.print(f"\nEnd to end: {played}", style="bold")
    console.print(_processes(shares))
    goals = list(chain.from_iterable(outcomes.values()))
    missed = sum(not one["met"] for one in goals)
    console.print(f"\n{missed} of {len(goals)} goals are missed; they are bold above", style="bold")


def alone(name: str) -> list[dict[str, Any]]:
    """Return the figures of a benchmark that is a process of its own, and whether they are what was wanted."""
    argv = [sys.executable, "-m", f"tests.bench.{name}"]
    found = subprocess.check_output(argv, cwd=CHECKOUT, env={**os.environ, "POLARS_MAX_THREADS": "1"})
    outcomes: list[dict[str, Any]] = json.loads(found)
    return outcomes


def _goals(outcomes: list[dict[str, Any]]) -> Table:
    table = _table("what", "against", "value", "unit", "goal", "met")
    for one in outcomes:
        met = "yes" if one["met"] else "no"
        row = one["subject"], one["against"], f"{one['value']:.2f}", one["unit"], one["goal"], met
        table.add_row(*row, style=None if one["met"] else "bold")
    return table


def _costs(figures: list[dict[str, Any]]) -> Table:
    table = _table("service", "a unit is", "CPU µs", "in a CPU second", "in a second", "ratio", "on")
    for one in figures:
        rates = f"{one['per_core_second']:,.0f}", f"{one['per_second']:,.0f}"
        table.add_row(one["service"], one["unit"], f"{one['cpu_us']:,.1f}", *rates, "", one["on"])
        for name, peer in one["peers"].items():
            times = f"{peer['ratio']:.2f}"
            table.add_row("", f"  against {name}", f"{peer['cpu_us']:,.1f}", "", "", times, style="dim")
        if one["note"]:
            table.add_row("", f"  {one['note']}", style="dim")
    return table


def _processes(shares: dict[str, Any]) -> Table:
    table = _table("process", "CPU s", "share")
    for name, one in shares["processes"].items():
        table.add_row(name, f"{one['cpu_s']:.1f}", f"{one['share']:.0%}")
    return table


def _table(*names: str) -> Table:
    table = Table(box=None, header_style="bold dim", pad_edge=False)
    for name in names:
        words = name in {"service", "a unit is", "on", "process", "what", "against", "unit", "goal", "met"}
        table.add_column(name, justify="left" if words else "right", no_wrap=True)
    return table


if __name__ == "__main__":
    main()
