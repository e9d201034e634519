"""Serving that records no answer: what the record costs is the difference."""

import sys
from functools import partial

import uvloop
from typing_extensions import override

from mainstem.bus.spool import Spool
from mainstem.runtime import run
from mainstem.serving import app, worker


class NoSpool(Spool):
    """Keeps nothing."""

    @override
    def append(self, payload: bytes, count: int, *, leave: int = 0) -> int:
        return 0


if __name__ == "__main__":
    if sys.argv[1:]:
        worker.Spool = NoSpool  # type: ignore[attr-defined]
        uvloop.run(worker.main(int(sys.argv[1])))
    else:
        run(partial(app.main, "tests.bench.unrecorded"))
