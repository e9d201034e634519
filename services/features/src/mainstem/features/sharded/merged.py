"""The one applied order of what was dealt from many source partitions."""

from collections.abc import Collection
from itertools import groupby
from operator import attrgetter

import numpy as np

from mainstem.feature_engine import HoldBack, Released
from mainstem.features.ports import Partition
from mainstem.features.sharded.frames import Carried, Dealt

#: A record and its source partition.
Item = tuple[Partition, Carried]
#: By source partition the offset after the last record that was applied.
Offsets = list[tuple[str, int, int]]

_is_marker = attrgetter("marker")


class Merged:
    """Puts the records of source partitions in order, each once.

    Promise: what `advance` gives, one call after another, is a function of what was dealt, wherever the state was
    stored and restored. A dealer deals in rising order, and begins again no later than where it stopped; so whatever is
    not higher than what a partition has brought is a second copy (ADR 1).
    """

    def __init__(self, places: Collection[Partition]) -> None:
        self._merge: HoldBack[Item] = HoldBack(list(places), places)
        self._applied = dict.fromkeys(places, 0)
        self._due = dict(self._applied)

    def offer(self, frame: Dealt) -> None:
        """Take what was dealt."""
        place = (frame.topic, frame.partition)
        fresh = [record for record in frame.records if record.offset >= self._due[place]]
        for marker, run in groupby(fresh, _is_marker):
            records = list(run)
            if marker:
                for record in records:
                    self._merge.progress(place, record.arrival - 1)
            else:
                arrivals = np.array([record.arrival for record in records], np.int64)
                offsets = np.array([record.offset for record in records], np.int64)
                self._merge.offer(place, arrivals, offsets, [(place, record) for record in records])
            self._due[place] = records[-1].offset + 1

    def advance(self) -> Released[Item]:
        """Return what nothing can precede any more; from now on it counts as applied."""
        released = self._merge.release()
        self._applied |= {place: record.offset + 1 for place, record in released.items}
        return released

    def snapshot(self) -> Offsets:
        """Return how far everything was applied; what is held back is not in it and must be dealt again."""
        return [(*place, following) for place, following in self._applied.items()]

    def restore(self, state: Offsets) -> None:
        """Go on where the one stood that gave `state`."""
        self._applied |= {(topic, partition): following for topic, partition, following in state}
        self._due = dict(self._applied)
