#!/usr/bin/env python3
"""Load on an HTTP server, and how long its answers take. Needs Python alone.

    hammer.py URL [--body FILE] [-c CONNECTIONS] [-s SECONDS] [-r RATE] [--budget p99=20ms --budget errors=0]

Without a rate each connection sends its next request when the last is answered (closed loop): that finds what a server
can do, and hides what callers wait while it stands still. With one, requests are due at fixed moments, whatever becomes
of those before (open loop), and each is timed from the moment at which it was due: a pause counts for everybody who
would have come meanwhile. Exit code 1 when a budget is not kept.
"""

import argparse
import asyncio
import json
import sys
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from asking import Line

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
#: Steps of the histogram, each 1 % longer than the one before, from a microsecond to three minutes.
STEPS = [1e-6 * 1.01**step for step in range(1_920)]
#: Above this share of a core the figures may be those of this tool.
BUSY = 0.9


@dataclass
class Figures:
    """What was seen."""

    seconds: float = 0.0
    #: The share of a core that asking took: near 1 it is this tool that was slow.
    busy: float = 0.0
    #: How many requests took so many steps, by the status of the answer or why there was none.
    statuses: dict[str, Counter[int]] = field(default_factory=dict)

    def add(self, status: str, seconds: float) -> None:
        """Count an answer, or why there was none."""
        self.statuses.setdefault(status, Counter())[min(bisect_left(STEPS, seconds), len(STEPS) - 1)] += 1

    def document(self) -> dict[str, float]:
        """Return all figures by name; times in seconds."""
        counts = sum(self.statuses.values(), Counter[int]())
        total, good = counts.total(), self.statuses.get("200", Counter()).total()
        found = {"requests": total, "errors": total - good, "rate": good / self.seconds if self.seconds else 0.0}
        return {**found, **times(counts), "busy": self.busy}

    def by_status(self) -> dict[str, dict[str, float]]:
        """Return for each status how many there were and how long they took (s)."""
        return {status: {"count": counts.total(), **times(counts)} for status, counts in sorted(self.statuses.items())}


def times(counts: Counter[int]) -> dict[str, float]:
    """Return the times (s) within which such shares of all were answered, each a hundredth more at most."""
    return {name: quantile(counts, share) for name, share in QUANTILES.items()}


def quantile(counts: Counter[int], share: float) -> float:
    """Return one of these times."""
    wanted, seen = share * counts.total(), 0
    for step, count in sorted(counts.items()):
        seen += count
        if seen >= wanted:
            return STEPS[step]
    return 0.0


async def hammer(url: str, body: bytes | None, options: argparse.Namespace) -> Figures:
    """Send load for a while and return what was seen."""
    figures, clock = Figures(), time.perf_counter
    lines = [Line(url, body, options.patience) for _ in range(options.connections)]
    await asyncio.gather(*(line.connect() for line in lines), return_exceptions=True)  # whoever asks, tries again
    began, worked = clock(), time.process_time()
    end = began + options.seconds

    async def closed(line: Line) -> None:
        while (at := clock()) < end:
            figures.add(await line.ask(), clock() - at)

    due: Iterator[float] = iter(())
    if options.rate:
        due = (began + number / options.rate for number in range(int(options.rate * options.seconds)))

    async def opened(line: Line) -> None:
        for at in due:
            await asyncio.sleep(max(0.0, at - clock()))
            figures.add(await line.ask(), clock() - at)

    await asyncio.gather(*(map(opened if options.rate else closed, lines)))
    figures.seconds = clock() - began
    for line in lines:
        line.connection.end("over")
    figures.busy = (time.process_time() - worked) / figures.seconds
    return figures


def over(figures: Figures, budgets: list[str]) -> list[str]:
    """Return the budgets that were not kept, each with the figure; raise ValueError for what is none."""
    found, document = [], figures.document()
    for budget in budgets:
        name, _, limit = budget.partition("=")
        if name not in document or not limit:
            raise ValueError(f"{budget!r} is no budget; there are {', '.join(document)}, as p99=20ms or errors=0")
        unit = next((unit for unit in UNITS if limit.endswith(unit) and name in QUANTILES), "")
        most = float(limit.removesuffix(unit)) * UNITS.get(unit, 1.0)
        kept = document[name] >= most if name in ("rate", "requests") else document[name] <= most
        if not kept:
            found.append(f"{name} is {document[name]:.6g}, the budget {limit}")
    return found


def page(figures: Figures) -> str:
    """Return the figures for people."""
    document = figures.document()
    lines = [
        f"{document['requests']:.0f} requests in {figures.seconds:.1f} s, {document['rate']:.0f} answered a second"
    ]
    lines += [f"  {name:<5} {document[name] * 1e3:10.3f} ms" for name in QUANTILES]
    lines += [
        f"  {status}: {found['count']:.0f}, p50 {found['p50'] * 1e3:.3f} ms, p99 {found['p99'] * 1e3:.3f} ms"
        for status, found in figures.by_status().items()
    ]
    if figures.busy > BUSY:
        lines.append(f"asking took {figures.busy:.0%} of a core: it may be this tool that was slow, not the server")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("url")
    parser.add_argument("--body", type=Path, help="a file to POST; without it GET")
    parser.add_argument("-c", "--connections", type=int, default=32)
    parser.add_argument("-s", "--seconds", type=float, default=10.0)
    parser.add_argument("-r", "--rate", type=float, help="requests a second, due at fixed moments (open loop)")
    parser.add_argument("--patience", type=float, default=30.0, help="seconds to wait for one answer")
    parser.add_argument("--budget", action="append", default=[], help="p99=20ms, errors=0, rate=1000")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    options = parser.parse_args(arguments)
    figures = asyncio.run(hammer(options.url, options.body.read_bytes() if options.body else None, options))
    try:
        broken = over(figures, options.budget)
    except ValueError as fault:
        parser.error(str(fault))
    print(
        page(figures)
        if options.output == "table"
        else json.dumps({**figures.document(), "statuses": figures.by_status()})
    )
    for one in broken:
        print(f"over budget: {one}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
