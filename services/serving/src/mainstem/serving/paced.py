"""What is made for whoever asks, and no more often than it may be."""

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Paced(Generic[_T]):
    """Makes something anew for who asks, at most once in `each_s`: who asks sooner waits, and all who wait share it.

    So nobody is given what was made before the question.
    """

    def __init__(self, make: Callable[[], Awaitable[_T]], each_s: float) -> None:
        self._make = make
        self._each_s = each_s
        self._turn = asyncio.Lock()
        self._last_s = -inf
        #: The last one, and when it was begun.
        self._made: tuple[float, _T] | None = None

    async def get(self) -> _T:
        """Return one that was begun after this was called. Raises what making it raises."""
        loop = asyncio.get_running_loop()
        asked = loop.time()
        async with self._turn:
            if self._made is None or self._made[0] < asked:
                await asyncio.sleep(self._last_s + self._each_s - loop.time())
                self._last_s = begun = loop.time()
                self._made = begun, await self._make()
            return self._made[1]
