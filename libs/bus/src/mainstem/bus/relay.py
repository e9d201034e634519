"""The relay: publishes the outbox in its order, and moves the cursor when everything is acknowledged."""

import asyncio
from collections.abc import Sequence
from itertools import groupby
from typing import Protocol

from mainstem.bus.port import Publisher
from mainstem.events.envelope import Message


class OutboxSource(Protocol):
    """What the relay asks of the store."""

    async def next_messages(self, limit: int) -> Sequence[Message]:
        """Return the next messages behind the cursor in order, each with its origin; empty when there are none."""

    async def advance(self, count: int) -> None:
        """Move the cursor past the first `count` messages last returned."""

    async def wait(self, timeout_s: float) -> None:
        """Return when something may have been added, or after `timeout_s`."""


async def relay(source: OutboxSource, publisher: Publisher, *, batch: int = 500, poll_s: float = 0.5) -> None:
    """Publish for ever. A crash between publishing and advancing publishes the same messages again, same ids."""
    while True:
        messages = await source.next_messages(batch)
        if not messages:
            await source.wait(poll_s)
            continue
        # Topic by topic in the order of the outbox: what comes later is visible later.
        for _, run in groupby(messages, key=lambda message: message.topic):
            await publisher.publish(list(run))
        await source.advance(len(messages))
        await asyncio.sleep(0)
