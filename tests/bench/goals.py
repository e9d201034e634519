"""A figure of the feature engine beside its goal, and how works are timed against one another."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.clock import RUNS, ratio, spend

#: Something to do, and of how many units it is made.
Work = tuple[Callable[[], object], int]


@dataclass(frozen=True, slots=True)
class Goal:
    """The value to reach, from below or from above."""

    bound: float
    at_least: bool = False

    def told(self) -> str:
        """Return it as people write it."""
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}"

    def met(self, value: float) -> bool:
        """Tell whether a value is good enough."""
        return value >= self.bound if self.at_least else value <= self.bound


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was measured and what was wanted."""

    subject: str
    #: What it is compared with; "" for a value that stands for itself.
    against: str
    value: float
    unit: str
    goal: Goal

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        told = {"subject": self.subject, "against": self.against, "value": self.value, "unit": self.unit}
        return {**told, "goal": self.goal.told(), "met": self.goal.met(self.value)}


def as_fast(subject: str, against: str, ours: Sequence[float], theirs: Sequence[float], goal: float) -> Outcome:
    """Say how many times as fast as a peer a work is that took so long, round by round."""
    return Outcome(subject, against, ratio(theirs, ours), "times as fast", Goal(goal, at_least=True))


def the_cost(subject: str, against: str, ours: Sequence[float], theirs: Sequence[float], goal: float) -> Outcome:
    """Say how many times the cost of another a work has that took so long, round by round."""
    return Outcome(subject, against, ratio(ours, theirs), "times the cost", Goal(goal))


def interleaved(works: Mapping[str, Work]) -> dict[str, list[float]]:
    """Do all works in turn, again and again; return for each the CPU µs of a unit, round by round.

    A round that warms up comes first and does not count.
    """
    taken: dict[str, list[float]] = {name: [] for name in works}
    for number in range(RUNS + 1):
        for name, (work, count) in works.items():
            spent = spend(work, count)
            if number:
                taken[name].append(spent.cpu_us)
    return taken
