"""Serving that answers first and records a moment later, for the control: a kill takes what was not recorded yet."""

import asyncio
import sys
from functools import partial

import uvloop
from typing_extensions import override

from mainstem.bus.spool import Spool
from mainstem.runtime import run
from mainstem.serving import app, worker

LATER_S = 0.05


class CarelessSpool(Spool):
    """Gives numbers at once, and keeps the blocks for a while."""

    def __init__(self, *args: object, **settings: object) -> None:
        super().__init__(*args, **settings)  # type: ignore[arg-type]
        self._given = self.next_number

    @property
    @override
    def next_number(self) -> int:
        return getattr(self, "_given", self._next)

    @override
    def append(self, payload: bytes, count: int, *, leave: int = 0) -> int:
        first, self._given = self._given, self._given + count
        asyncio.get_running_loop().call_later(LATER_S, super().append, payload, count)
        return first


if __name__ == "__main__":
    if sys.argv[1:]:
        worker.Spool = CarelessSpool  # type: ignore[attr-defined]
        uvloop.run(worker.main(int(sys.argv[1])))
    else:
        run(partial(app.main, "tests.fault.careless_answers"))
