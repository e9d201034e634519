"""The supervisor as a process of its own: `python -m mainstem.cli.local.daemon ROOT [SERVICE …]`."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from mainstem.cli.local.errors import LocalError
from mainstem.cli.local.home import Home
from mainstem.cli.local.session import supervise


def main(arguments: Sequence[str]) -> int:
    """Run the platform until a signal; what made it give up goes to stderr and into `state.json`."""
    root, *services = arguments
    try:
        asyncio.run(supervise(Home.at(Path(root)), services, lambda _: None))
    except LocalError as error:
        print(f"mainstem: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
