"""What a downstream consumer sees: follows the decisions of the platform on their topics."""

import asyncio
from collections.abc import Callable

from mainstem.bus.reader import LogReader
from mainstem.events.catalogue import decode
from mainstem.events.envelope import Event

TOPICS = (
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
        self.seen: list[Event] = []

    async def __aenter__(self) -> "Watcher":
        await self._reader.__aenter__()
        await self._reader.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._reader.__aexit__()

    async def look(self) -> None:
        """Take what is there."""
        for record in await self._reader.poll(timeout_s=0.05):
            event = decode(record)
            if event.envelope.id not in self._ids:
                self._ids.add(event.envelope.id)
                self.seen.append(event)
                self._tell(event)

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
                    await self.look()
        except TimeoutError as fault:
            raise TimeoutError(f"{what} did not come within {PATIENCE_S} s; see `mainstem logs`") from fault
