"""What was seen of the answers of a server, and budgets for it. Needs Python alone."""

from argparse import ArgumentTypeError
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from math import isnan, nan

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
#: Steps of the histogram, each 1 % longer than the one before, from a microsecond to three minutes.
STEPS = [1e-6 * 1.01**step for step in range(1_920)]
#: Figures of which there may be too little; of all others there may be too much.
LEAST = {"requests", "rate"}


@dataclass
class Figures:
    """What was seen."""

    seconds: float = 0.0
    #: The share of a core that asking took: near 1 it is this tool that was slow.
    busy: float = 0.0
    #: How many requests took so many steps, by the status of the answer or why there was none.
    statuses: dict[str, Counter[int]] = field(default_factory=dict)

    def add(self, status: str, seconds: float) -> None:
        """Count an answer, or why there was none."""
        self.statuses.setdefault(status, Counter())[min(bisect_left(STEPS, seconds), len(STEPS) - 1)] += 1

    def document(self) -> dict[str, float]:
        """Return all figures by name; times in seconds."""
        counts = sum(self.statuses.values(), Counter[int]())
        total, good = counts.total(), self.statuses.get("200", Counter()).total()
        found = {"requests": total, "errors": total - good, "rate": good / self.seconds if self.seconds else 0.0}
        return {**found, **times(counts), "busy": self.busy}

    def by_status(self) -> dict[str, dict[str, float]]:
        """Return for each status how many there were and how long they took (s)."""
        return {status: {"count": counts.total(), **times(counts)} for status, counts in sorted(self.statuses.items())}


def times(counts: Counter[int]) -> dict[str, float]:
    """Return the times (s) within which such shares of all were answered, each a hundredth more at most."""
    return {name: quantile(counts, share) for name, share in QUANTILES.items()}


def quantile(counts: Counter[int], share: float) -> float:
    """Return one of these times."""
    wanted, seen = share * counts.total(), 0
    for step, count in sorted(counts.items()):
        seen += count
        if seen >= wanted:
            return STEPS[step]
    return 0.0


@dataclass(frozen=True)
class Budget:
    """How much one of the figures may be, or how little where that is what is bad; times in seconds."""

    name: str
    limit: float
    #: The limit as it was written.
    said: str

    def broken(self, figures: Figures) -> str | None:
        """Return what was seen if that is not within the budget; nothing is within one where no request was made."""
        document = figures.document()
        if not document["requests"]:
            return f"{self.name} is not known, since no request was made; the budget is {self.said}"
        found = document[self.name]
        kept = found >= self.limit if self.name in LEAST else found <= self.limit
        return None if kept else f"{self.name} is {found:.6g}, the budget {self.said}"


def budget(said: str) -> Budget:
    """Read a budget; raise ArgumentTypeError for what is none."""
    name, _, limit = said.partition("=")
    unit = next((unit for unit in UNITS if limit.endswith(unit) and name in QUANTILES), "")
    known = Figures().document()
    try:
        most = float(limit.removesuffix(unit)) * UNITS.get(unit, 1.0)
    except ValueError:
        most = nan
    if name not in known or isnan(most):
        raise ArgumentTypeError(f"{said!r} is no budget; there are {', '.join(known)}, as p99=20ms or errors=0")
    return Budget(name, most, limit)
