"""What a process counted, said to the service."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final

from mainstem.serving.orders import Channel, Figures

#: A process that is killed has said what it counted until so long before.
_SAY_S: Final = 1.0


class Reports:
    """Says figures when they are asked for, and within a second of a change: what was said stays counted."""

    def __init__(self, channel: Channel, figures: Callable[[int], Figures]) -> None:
        """Say to a channel what is given for a serial; unasked it is 0."""
        self._channel = channel
        self._figures = figures
        #: What was said last that stays true, and when.
        self._said, self._said_s = figures(0).metrics.lasting(), monotonic()

    def reply(self, serial: int) -> None:
        """Say the figures, as they were asked for."""
        self._channel.send(self._now(serial))

    async def run(self) -> None:
        """Say the figures for ever, a second after they were said last, if they are others."""
        while True:
            await asyncio.sleep(self._said_s + _SAY_S - monotonic())
            if monotonic() < self._said_s + _SAY_S:
                continue  # it was asked meanwhile
            before, figures = self._said, self._now(0)
            if self._said != before:
                self._channel.send(figures)

    async def end(self) -> None:
        """Say the figures once more, as the last of all."""
        await self._channel.leave(self._now(0))

    def _now(self, serial: int) -> Figures:
        figures = self._figures(serial)
        self._said, self._said_s = figures.metrics.lasting(), monotonic()
        return figures
