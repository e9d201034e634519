"""What a downstream consumer sees: follows the decisions of the platform on their topics."""

import asyncio
from collections.abc import Callable

from mainstem.bus import Partition
from mainstem.bus.reader import LogReader
from mainstem.events.catalogue import decode
from mainstem.events.envelope import Event

TOPICS = (
    "evt.feature.check",
    "evt.training.run",
    "evt.registry.model",
    "evt.serving.deployment",
    "evt.monitoring.window",
    "evt.monitoring.alert",
)
#: Longest wait for a decision; a platform that says nothing for so long is broken.
PATIENCE_S = 300


class Watcher:
    """Reads the decisions' topics from the beginning; `seen` holds every event once, in the order read."""

    def __init__(self, bootstrap: str, tell: Callable[[Event], None]) -> None:
        self._reader = LogReader(bootstrap, TOPICS)
        self._tell = tell
        self._ids: set[str] = set()
        self._next: dict[Partition, int] = {}
        self.seen: list[Event] = []

    async def __aenter__(self) -> "Watcher":
        await self._reader.__aenter__()
        await self._reader.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._reader.__aexit__()

    async def look(self, timeout_s: float = 0.0) -> None:
        """Take what is there, or what comes first within a time."""
        for record in await self._reader.poll(timeout_s=timeout_s):
            self._next[record.topic, record.partition] = record.offset + 1
            event = decode(record)
            if event.envelope.id not in self._ids:
                self._ids.add(event.envelope.id)
                self.seen.append(event)
                self._tell(event)

    async def catch_up(self) -> None:
        """Take everything that stands in the log at this moment, on every topic."""
        ends = await self._reader.ends()
        while any(self._next.get(place, 0) < end for place, end in ends.items()):
            await self.look(0.05)

    async def wait_for(self, what: str, found: Callable[[Event], bool]) -> Event:
        """Return the first event for which `found` holds, old or new; raise TimeoutError naming what did not come."""
        done = 0
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    for event in self.seen[done:]:
                        if found(event):
                            return event
                    done = len(self.seen)
                    await self.look(0.1)
        except TimeoutError as fault:
            raise TimeoutError(f"{what} did not come within {PATIENCE_S} s; see `mainstem logs`") from fault
