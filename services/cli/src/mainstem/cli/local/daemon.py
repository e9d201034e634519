"""The supervisor as a process of its own: `python -m mainstem.cli.local.daemon ROOT [SERVICE …]`."""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Thread

from mainstem.cli.local.errors import LocalError
from mainstem.cli.local.home import Home
from mainstem.cli.local.session import supervise


def main(arguments: Sequence[str]) -> int:
    """Run the platform until a signal; what made it give up goes to stderr and into `state.json`.

    Whoever starts it holds the other end of stdin, and writes a byte when the platform may stay.
    """
    root, *services = arguments
    Thread(target=_stop_unless_told_to_stay, daemon=True).start()
    try:
        asyncio.run(supervise(Home.at(Path(root)), services, lambda _: None))
    except LocalError as error:
        print(f"mainstem: {error}", file=sys.stderr)
        return 1
    return 0


def _stop_unless_told_to_stay() -> None:
    # An end without the byte: who started this is gone, however it ended, and nobody waits for the platform any more.
    if not os.read(sys.stdin.fileno(), 1):
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
