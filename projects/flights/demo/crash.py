"""The crash of the story: one process is killed without warning, and must come back without help."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

#: A process that takes longer to come back is not coming back.
PATIENCE_S = 60


class Processes:
    """The platform's processes, as its supervisor describes them in `state.json`."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._file = Path(env["MAINSTEM_HOME"], ".mainstem", "state.json")
        self._env = env

    def pids(self) -> dict[str, int]:
        """Return the process id of each process that runs now, by name."""
        state: dict[str, Any] = json.loads(self._file.read_text())
        return {process["name"]: process["run"]["pid"] for process in state["processes"] if process["run"]}

    async def kill(self, service: str) -> float:
        """Kill a service and return the seconds until another process of it says that it is ready.

        Raises TimeoutError when none does.
        """
        killed, began = self.pids()[service], time.monotonic()
        os.kill(killed, signal.SIGKILL)
        try:
            async with asyncio.timeout(PATIENCE_S), httpx.AsyncClient(timeout=2) as client:
                while not await self._is_back(client, service, killed):  # noqa: ASYNC110  (it is another process)
                    await asyncio.sleep(0.05)
        except TimeoutError as fault:
            message = f"{service} was killed and is not ready after {PATIENCE_S} s; see `mainstem logs {service}`"
            raise TimeoutError(message) from fault
        return time.monotonic() - began

    async def _is_back(self, client: httpx.AsyncClient, service: str, killed: int) -> bool:
        if self.pids().get(service, killed) == killed:
            return False
        try:
            answer = await client.get(self._env[f"MAINSTEM_{service.upper()}_URL"] + "/readyz")
        except httpx.TransportError:
            return False
        return answer.status_code == 200
