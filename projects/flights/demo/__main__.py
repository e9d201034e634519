"""`python -m projects.flights.demo`: the client of the demo, from the checkout, in the environment of a platform.

It plays the year, holds everything that was promised against the log, and writes `.mainstem/demo/summary.json` and
`report.html`. The exit code is 0 only when every promise held.
"""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

from projects.flights.demo.play import play
from rich.console import Console

from mainstem.events.errors import MainstemError
from mainstem.events.instants import parse

#: The last labels are known in the first days of January.
END: Final = "2014-01-04"


def main(arguments: Sequence[str]) -> int:
    """Play; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m projects.flights.demo", description=__doc__)
    parser.add_argument("--until", default=END, metavar="DATE", help="play only the days before this one (2013-06-15)")
    until_us = parse(f"{parser.parse_args(arguments).until}T00:00:00Z")
    console = Console(highlight=False)
    try:
        return asyncio.run(_interruptible(console, until_us))
    except asyncio.CancelledError:
        return 130
    except (MainstemError, RuntimeError, TimeoutError) as fault:
        console.print(f"demo: {fault}", style="bold red", markup=False, soft_wrap=True)
        return 1


async def _interruptible(console: Console, until_us: int) -> int:
    """Play; a signal to stop cancels it, so that the terminal is left as it was."""
    task = asyncio.ensure_future(play(console, os.environ, until_us))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
