"""The journal: the applied order as maximal runs, the same whatever batches it came in. Pure."""

from dataclasses import dataclass, field

from mainstem.events.features import OrderJournalled
from mainstem.events.instants import render

#: (topic, partition, first offset, last offset, count) in the applied order.
Run = tuple[str, int, int, int, int]


@dataclass(slots=True)
class Journal:
    """Gathers runs and closes an entry at each instant that all inputs have passed."""

    number: int = 0
    applied: int = 0
    reached_us: int = -(2**63)
    open: list[Run] = field(default_factory=list)

    def extend(self, runs: list[Run]) -> None:
        """Append applied runs; one that goes on where the last stopped, in the same partition, lengthens it."""
        for topic, partition, first, last, count in runs:
            self.applied += count
            if self.open and self.open[-1][:2] == (topic, partition):
                start, have = self.open[-1][2], self.open[-1][4]
                self.open[-1] = (topic, partition, start, last, have + count)
            else:
                self.open.append((topic, partition, first, last, count))

    def close(self, instant_us: int, feature_set: str, definition: str, *, complete: bool = True) -> OrderJournalled:
        """Return the entry up to `instant_us` and begin the next; `complete`: all inputs have passed it."""
        topics = sorted({run[0] for run in self.open})
        entry = OrderJournalled(
            feature_set=feature_set,
            definition=definition,
            number=self.number,
            until=render(instant_us),
            applied=self.applied,
            topics=topics,
            complete=complete,
            runs=[(topics.index(topic), partition, first, last) for topic, partition, first, last, _ in self.open],
        )
        self.number += 1
        self.reached_us = instant_us if complete else self.reached_us
        self.open = []
        return entry
