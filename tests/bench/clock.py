"""How a piece of work is timed, and what is told of it. The machine is noisy: medians, and ratios within one run."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

RUNS = 5

_CORES = sorted(os.sched_getaffinity(0))
#: Kafka, PostgreSQL and those who call run here; what is measured has the last core for itself, if there are two.
OTHERS, OWN = (_CORES[:-1], _CORES[-1:]) if len(_CORES) > 1 else (_CORES, _CORES)


@dataclass(frozen=True, slots=True)
class Spent:
    """What one unit of work took: µs on a processor, and µs by the clock."""

    cpu_us: float
    wall_us: float


class Stopwatch:
    """Runs from when it is made; measures this process."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def each(self, count: int) -> Spent:
        """Return what one of `count` units took since."""
        cpu, wall = time.process_time() - self._cpu, time.perf_counter() - self._wall
        return Spent(cpu / count * 1e6, wall / count * 1e6)


def spend(work: Callable[[], object], count: int) -> Spent:
    """Do work that is made of `count` units; return what each took."""
    watch = Stopwatch()
    work()
    return watch.each(count)


@dataclass(slots=True)
class Figure:
    """What one unit of a service's work costs, beside what its peers take in the same runs."""

    service: str
    unit: str
    #: What it ran on: real servers, or memory.
    on: str
    spent: list[Spent] = field(default_factory=list)
    #: CPU µs of the peers by name, one a run.
    peers: dict[str, list[float]] = field(default_factory=dict)
    note: str = ""

    def add(self, spent: Spent, peers: Mapping[str, Spent] | None = None) -> None:
        """Add a run, and what its peers took in it."""
        self.spent.append(spent)
        for name, theirs in (peers or {}).items():
            self.peers.setdefault(name, []).append(theirs.cpu_us)

    def document(self) -> dict[str, Any]:
        """Return the medians."""
        cpu = [run.cpu_us for run in self.spent]
        return {
            "service": self.service,
            "unit": self.unit,
            "on": self.on,
            "runs": len(cpu),
            "cpu_us": median(cpu),
            "per_core_second": 1e6 / median(cpu),
            "per_second": 1e6 / median(run.wall_us for run in self.spent),
            "peers": {name: {"cpu_us": median(of), "ratio": ratio(cpu, of)} for name, of in self.peers.items()},
            "note": self.note,
        }


def ratio(ours: Sequence[float], peer: Sequence[float]) -> float:
    """Return the median of the ratios run by run."""
    return median(a / b for a, b in zip(ours, peer, strict=True))
