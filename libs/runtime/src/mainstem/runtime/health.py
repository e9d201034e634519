"""Health: live means that the loop turns, ready means that every check passes."""

import asyncio
import os
from collections.abc import Callable

from mainstem.telemetry import logger

_TICK_S = 0.5
_STUCK_S = 60.0

_log = logger(__name__)

#: Returns what is wrong, or None.
Check = Callable[[], str | None]


class Health:
    """Collects checks. A process whose loop stands still for a minute ends itself."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}
        self._samples: dict[str, Callable[[], None]] = {}
        self._ticked_at = 0.0

    def require(self, name: str, check: Check) -> None:
        """Add a readiness check."""
        self._checks[name] = check

    def every_tick(self, name: str, sample: Callable[[], None]) -> None:
        """Call `sample` twice a second; a later one of the same name takes its place."""
        self._samples[name] = sample

    def forget(self, name: str) -> None:
        """Take back the check and the sample of a name."""
        self._checks.pop(name, None)
        self._samples.pop(name, None)

    def faults(self) -> dict[str, str]:
        """Return what keeps the service from being ready, by check."""
        found = {name: check() for name, check in self._checks.items()}
        return {name: fault for name, fault in found.items() if fault is not None}

    async def tick(self) -> None:
        """Turn for ever, and end the process after a turn that took too long: its timeouts cannot be trusted."""
        loop = asyncio.get_running_loop()
        self._ticked_at = loop.time()
        while True:
            await asyncio.sleep(_TICK_S)
            now = loop.time()
            if now - self._ticked_at > _STUCK_S:
                _log.critical("loop stood still", extra={"action": "wedged", "seconds": now - self._ticked_at})
                os._exit(3)
            self._ticked_at = now
            for sample in list(self._samples.values()):
                sample()
