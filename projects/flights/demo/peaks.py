"""How much memory each process took at most, asked once a second."""

import asyncio
import os

import psutil
from projects.flights.demo.crash import Processes

_MIB = 1 << 20


async def watch_memory(processes: Processes, peaks: dict[str, int]) -> None:
    """Keep in `peaks` the most that each process, children included, was seen to take (MiB), until cancelled."""
    while True:
        for name, pid in {**processes.pids(), "demo": os.getpid()}.items():
            peaks[name] = max(peaks.get(name, 0), _resident(pid))
        await asyncio.sleep(1)


def _resident(pid: int) -> int:
    """Return the resident memory of a process and its children in MiB; what they share is counted once."""
    try:
        process = psutil.Process(pid)
        taken = [one.memory_info() for one in (process, *process.children(recursive=True))]
    except psutil.NoSuchProcess:
        return 0
    shared = max(memory.shared for memory in taken)
    return int((sum(memory.rss - memory.shared for memory in taken) + shared) // _MIB)
