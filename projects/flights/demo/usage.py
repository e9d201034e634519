"""What each process takes: memory at most, and time on a processor; asked once a second."""

import asyncio
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import psutil
from projects.flights.demo.crash import Processes

_MIB = 1 << 20


@dataclass(frozen=True)
class Usage:
    """What was seen of each process by its name, children included."""

    #: MiB of resident memory at most.
    peak_rss_mb: dict[str, int] = field(default_factory=dict)
    #: Seconds on a processor by process id: a service that was killed has one after another.
    _seconds: dict[str, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))

    async def watch(self, processes: Processes) -> None:
        """Look at the platform's processes and at this one, until cancelled."""
        while True:
            self.look({**processes.pids(), "demo": os.getpid()})
            await asyncio.sleep(1)

    def look(self, pids: Mapping[str, int]) -> None:
        """Take note of processes as they are now; one that has just ended stays as it was seen last."""
        for name, pid in pids.items():
            try:
                process = psutil.Process(pid)
                family = [process, *process.children(recursive=True)]
                resident, seconds = _resident_mb(family), _seconds(family)
            except psutil.NoSuchProcess:
                continue
            self.peak_rss_mb[name] = max(self.peak_rss_mb.get(name, 0), resident)
            self._seconds[name][pid] = max(self._seconds[name].get(pid, 0.0), seconds)

    def cpu_seconds(self) -> dict[str, float]:
        """Return the seconds that each process has taken up to now, all its lives added up; the most first."""
        total = {name: round(sum(lives.values()), 1) for name, lives in self._seconds.items()}
        return dict(sorted(total.items(), key=lambda item: -item[1]))


def _resident_mb(family: Sequence[psutil.Process]) -> int:
    """Return the resident memory of a process and its children; what they share is counted once."""
    taken = [one.memory_info() for one in family]
    shared = max(memory.shared for memory in taken)
    return int((sum(memory.rss - memory.shared for memory in taken) + shared) // _MIB)


def _seconds(family: Sequence[psutil.Process]) -> float:
    """Return the time of a process and its children, those that have ended included."""
    return float(sum(sum(one.cpu_times()[:4]) for one in family))
