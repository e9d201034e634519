"""What stands in the log of a real broker."""

import asyncio
from collections.abc import Callable, Sequence

from mainstem.bus.reader import LogReader
from mainstem.events.catalogue import decode
from mainstem.events.envelope import Event
from mainstem.events.fence import Fence


async def events_once(
    bootstrap: str, topics: Sequence[str], enough: Callable[[list[Event]], object], *, within_s: float = 60
) -> list[Event]:
    """Return the events of some topics, each once as a fenced reader sees them, as soon as there are enough.

    Raises TimeoutError when there are not within `within_s` seconds.
    """
    fence, events = Fence(), list[Event]()
    async with asyncio.timeout(within_s), LogReader(bootstrap, topics) as reader:
        await reader.start()
        while not enough(events):
            events += map(decode, fence.admit(await reader.poll())[0])
    return events
