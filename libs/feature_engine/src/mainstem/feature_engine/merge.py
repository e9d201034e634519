"""The hold-back merge: one applied order for the records of many partitions, whatever order the polls bring them in.

A record is released once every partition is known to have nothing earlier left. That is known from progress markers
(a source that announces), from a later record, or, for a live partition, from having read it to its end.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
T = TypeVar("T")
Partition = tuple[str, int]

_BEGINNING = -(2**63)
_NEVER_ENDS = 2**63 - 1
_NONE: Ints = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Released(Generic[T]):
    """Records in applied order.

    `arrivals` is the arrival time of each item, as made monotonic per partition.
    `reached` are the instants that now lie behind everything: (instant, number of items here that come before it).
    """

    items: list[T]
    arrivals: Ints
    reached: list[tuple[int, int]]


@dataclass(slots=True)
class _Held(Generic[T]):
    """What one partition has brought and the merge still holds."""

    floor: int = _BEGINNING  #: no later record counts as earlier than this
    complete_through: int = _BEGINNING  #: nothing at or before this is still to come
    last_offset: int = -1
    drained: bool = False
    arrivals: list[Ints] = field(default_factory=list)
    items: list[T] = field(default_factory=list)


class HoldBack(Generic[T]):
    """Merges partitions in the order (arrival, topic, partition, offset).

    `partitions` are all that are read; those in `announced` promise progress markers and wait for them. Arrivals and
    markers are instants of one clock, in one unit. Without `drained`, the items released one after another, and
    the places of the instants reached, depend only on what the partitions hold.
    """

    def __init__(self, partitions: Sequence[Partition], announced: Container[Partition]) -> None:
        self._held: dict[Partition, _Held[T]] = {partition: _Held() for partition in sorted(partitions)}
        self._announced = announced
        self._instants: set[int] = set()
        self._passed = _BEGINNING

    def __len__(self) -> int:
        """Return the number of records held."""
        return sum(len(held.items) for held in self._held.values())

    def waits_for(self) -> list[Partition]:
        """Return the partitions that keep back what is held: of each the next record or marker is awaited."""
        bound = self._bound()
        if not len(self):
            return []
        return [place for place, held in self._held.items() if not held.drained and held.complete_through == bound]

    def offer(self, partition: Partition, arrivals: Ints, offsets: Ints, items: Sequence[T]) -> None:
        """Take records of a partition, in the order of their offsets.

        An arrival below an earlier one of the partition counts as equal to it; one at or below a marker that stands
        before it, as just after the marker. Raises ValueError unless offsets rise and all three are equally long.
        """
        held = self._held[partition]
        if not len(arrivals) == len(offsets) == len(items):
            raise ValueError(f"{partition}: {len(arrivals)} arrivals, {len(offsets)} offsets, {len(items)} items")
        if len(items) == 0:
            return
        if offsets[0] <= held.last_offset or np.any(np.diff(offsets) <= 0):
            raise ValueError(f"{partition}: offsets must rise above {held.last_offset}: offer every record once")
        rising = np.maximum(np.maximum.accumulate(arrivals), held.floor)
        held.arrivals.append(rising)
        held.items.extend(items)
        held.floor, held.last_offset = int(rising[-1]), int(offsets[-1])
        held.complete_through = max(held.complete_through, held.floor - 1)
        for each in self._held.values():
            each.drained = False

    def progress(self, partition: Partition, until: int) -> None:
        """Take a marker: behind it in this partition nothing arrives at or before `until`.

        A marker that stands behind a record of `until + 2` or more is no instant of its own: it says nothing new.
        """
        held = self._held[partition]
        if until >= held.complete_through and until > self._passed:
            self._instants.add(until)
        held.complete_through = max(held.complete_through, until)
        held.floor = max(held.floor, until + 1)

    def drained(self, partition: Partition) -> None:
        """Note that a live partition was read to its end after all that was offered so far: it does not hold that.

        Raises ValueError for a partition that announces progress: when it is read does not say what it still brings.
        """
        if partition in self._announced:
            raise ValueError(f"{partition} announces progress: only its markers and records complete it")
        self._held[partition].drained = True

    def release(self) -> Released[T]:
        """Return the records that nothing can precede any more, and the marked instants that all partitions passed."""
        bound = self._bound()
        taken = [_take(held, bound) for held in self._held.values()]
        arrivals = np.concatenate([_NONE, *(arrivals for arrivals, _ in taken)])
        items = list(chain.from_iterable(items for _, items in taken))
        order = np.argsort(arrivals, kind="stable")
        arrivals = arrivals[order]
        reached = sorted(instant for instant in self._instants if instant <= bound)
        self._instants.difference_update(reached)
        self._passed = reached[-1] if reached else self._passed
        places = np.searchsorted(arrivals, np.array(reached, np.int64), side="right").tolist()
        return Released(list(map(items.__getitem__, order.tolist())), arrivals, list(zip(reached, places, strict=True)))

    def held(self, partition: Partition) -> Sequence[T]:
        """Return what a partition has brought and is still held, in the order of its offsets."""
        return self._held[partition].items

    def release_in(self, order: Sequence[tuple[Partition, int]]) -> Released[T]:
        """Return held records in a given order: so many of a partition, then so many of the next; no instants.

        This follows a journal. Raises ValueError when not so many are held.
        """
        counts: dict[Partition, int] = {}
        for partition, count in order:
            counts[partition] = counts.get(partition, 0) + count
        short = [partition for partition, count in counts.items() if count > len(self._held[partition].items)]
        if short:
            raise ValueError(f"{short[0]} holds fewer than the {counts[short[0]]} records that are asked for")
        taken = {partition: _first(self._held[partition], count) for partition, count in counts.items()}
        places = dict.fromkeys(taken, 0)
        items: list[T] = []
        arrivals = [_NONE]
        for partition, count in order:
            start, end = places[partition], places[partition] + count
            places[partition] = end
            arrivals.append(taken[partition][0][start:end])
            items += taken[partition][1][start:end]
        return Released(items, np.concatenate(arrivals), [])

    def _bound(self) -> int:
        return min((_NEVER_ENDS if h.drained else h.complete_through for h in self._held.values()), default=_NEVER_ENDS)


def _take(held: _Held[T], upto: int) -> tuple[Ints, list[T]]:
    """Remove and return what the partition holds up to an arrival."""
    return _first(held, int(np.searchsorted(np.concatenate([_NONE, *held.arrivals]), upto, side="right")))


def _first(held: _Held[T], count: int) -> tuple[Ints, list[T]]:
    """Remove and return the first records that the partition holds."""
    arrivals = np.concatenate([_NONE, *held.arrivals])
    items, held.items = held.items[:count], held.items[count:]
    held.arrivals = [arrivals[count:]]
    return arrivals[:count], items
