"""Waiting for something that happens elsewhere, never for time to pass."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine

_LOOK_EVERY_S = 0.005


async def until(condition: Callable[[], object], *, within_s: float = 15.0) -> None:
    """Return as soon as `condition()` is true; raise TimeoutError when it is not within `within_s` seconds."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110  # what is waited for has no event to set
            await asyncio.sleep(_LOOK_EVERY_S)


@contextlib.asynccontextmanager
async def running(work: Coroutine[object, None, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Run `work` beside the block and cancel it at the end; what it raised by then is raised here."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
