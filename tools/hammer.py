#!/usr/bin/env python3
"""Load on an HTTP server, and how long its answers take. Needs Python alone.

    hammer.py URL [--body FILE] [-c CONNECTIONS] [-s SECONDS] [-r RATE] [--budget p99=20ms --budget errors=0]

Without a rate each connection sends its next request when the last is answered (closed loop): that finds what a server
can do, and hides what callers wait while it stands still. With one, requests are due at fixed moments, whatever becomes
of those before (open loop), and each is timed from the moment at which it was due: a pause counts for everybody who
would have come meanwhile. Exit code 1 when a budget is not kept; where no request was made none is.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path
from typing import TypeVar

from asking import Line
from figures import QUANTILES, Figures, budget

Number = TypeVar("Number", int, float)

#: Above this share of a core the figures may be those of this tool.
BUSY = 0.9


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


def above_nothing(kind: type[Number]) -> Callable[[str], Number]:
    """Return what reads such a number, and raises ArgumentTypeError for one that is not above 0."""

    def read(said: str) -> Number:
        try:
            found = kind(said)
        except ValueError:
            found = kind(0)
        if not 0 < found < inf:
            raise argparse.ArgumentTypeError(f"{said!r} is no {'whole ' * (kind is int)}number above 0")
        return found

    return read


def page(figures: Figures) -> str:
    """Return the figures for people."""
    document = figures.document()
    if not document["requests"]:
        return f"no request was made in {figures.seconds:.1f} s; ask for longer, or more often"
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
    parser.add_argument("-c", "--connections", type=above_nothing(int), default=32)
    parser.add_argument("-s", "--seconds", type=above_nothing(float), default=10.0)
    parser.add_argument(
        "-r", "--rate", type=above_nothing(float), help="requests a second, due at fixed moments (open loop)"
    )
    parser.add_argument("--patience", type=above_nothing(float), default=30.0, help="seconds to wait for one answer")
    parser.add_argument("--budget", type=budget, action="append", default=[], help="p99=20ms, errors=0, rate=1000")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    options = parser.parse_args(arguments)
    figures = asyncio.run(hammer(options.url, options.body.read_bytes() if options.body else None, options))
    print(
        page(figures)
        if options.output == "table"
        else json.dumps({**figures.document(), "statuses": figures.by_status()})
    )
    broken = [why for one in options.budget if (why := one.broken(figures))]
    for why in broken:
        print(f"over budget: {why}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
