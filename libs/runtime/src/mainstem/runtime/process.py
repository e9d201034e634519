"""The process around a service: it begins, ends at a fault, and waits for what is away. It loads little."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeVar

import uvloop

from mainstem.events.errors import Conflict, Unavailable
from mainstem.telemetry import logger

_log = logger(__name__)

T = TypeVar("T")


async def steadily(work: Callable[[], Awaitable[T]], *, longest_s: float = 5.0) -> T:
    """Do `work` and return its result; when something is away or somebody was faster, wait and do it all again.

    Work must be repeatable. Any other error is a fault of ours and is raised.
    """
    pause_s = 0.05
    while True:
        try:
            return await work()
        except (Unavailable, Conflict) as fault:
            _log.warning("trying again: %s", fault, extra={"action": "retry", "pause_s": pause_s})
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, longest_s)


def run(main: Callable[[], Coroutine[object, None, None]]) -> None:
    """Run a service's main on uvloop.

    After a fault the process ends at once: what was not acknowledged is not flushed, it is done again from the
    stored positions.
    """
    try:
        uvloop.run(main())
    except BaseException:  # noqa: BLE001  # the last stop: log it, then leave without flushing anything
        _log.critical("fault", exc_info=True, extra={"action": "fault"})
        os._exit(1)
