"""`python -m projects.flights.demo`: the client of the demo, from the checkout, in the environment of a platform.

It plays the year, holds everything that was promised against the log, and writes `.mainstem/demo/summary.json` and
`report.html`. The exit code is 0 only when every promise held.
"""

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

from projects.flights.demo.play import play
from rich.console import Console

from mainstem.events.errors import MainstemError
from mainstem.events.instants import parse

#: The first verdict on the first version falls due on the day before.
EARLIEST: Final = "2013-05-04"
#: The last verdict, on the last days of December, falls due on the day before.
END: Final = "2014-01-04"
WIDTH: Final = 140


def main(arguments: Sequence[str]) -> int:
    """Play; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m projects.flights.demo", description=__doc__)
    parser.add_argument("--until", default=END, metavar="DATE", help="play only the days before this one (2013-06-15)")
    until = parser.parse_args(arguments).until
    if not EARLIEST <= until <= END:
        parser.error(f"--until {until}: give a date from {EARLIEST} to {END}")
    # Millions of records without a cycle among them: looking for cycles would take a third of the time.
    gc.disable()
    # Its warnings are about retries, which succeed.
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    # Where nobody looks the width is a guess, and tables cut off what does not fit.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    try:
        return asyncio.run(_interruptible(console, parse(f"{until}T00:00:00Z")))
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
