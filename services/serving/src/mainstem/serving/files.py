"""How many files a worker may have open: each connection is one."""

import resource
from math import inf
from typing import Final

#: Open files that are no connections of callers; each request on its way to the service is two.
_RESERVED: Final = 640
#: With fewer connections nobody is served.
_LEAST: Final = 8


class TooFewFiles(OSError):
    """A process may not have so many files open as a worker needs."""


def room() -> float:
    """Return how many connections this process may have, and those that it starts. Raises TooFewFiles."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return inf
    if files < _RESERVED + _LEAST:
        raise TooFewFiles(
            f"a process may have {files} files open here (`ulimit -Hn`), and a worker needs {_RESERVED} besides one for"
            f" each connection: raise the limit, as with `ulimit -n 65536`, and start serving again"
        )
    return files - _RESERVED


def take_all() -> None:
    """Allow this process as many open files as it may have."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
