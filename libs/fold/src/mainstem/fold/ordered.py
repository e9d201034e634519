"""Records of several topics, each once (ADR 1), in the one order in which they became known (ADR 2)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import msgspec
import numpy as np

from mainstem.events.data import ProgressReached
from mainstem.events.errors import NO_DOCUMENT
from mainstem.events.fence import Fence, Position, read_origin
from mainstem.events.instant_columns import parse_all
from mainstem.events.instants import NEVER
from mainstem.events.record import Record
from mainstem.feature_engine import HoldBack, Released

Partition = tuple[str, int]
Headers = dict[str, bytes]
#: The stream of an origin, and the number in it.
Origin = tuple[str, int]
#: A record with its headers by name.
Item = tuple[Record, Headers]
#: How far partitions were applied: topic, partition, next offset, highest number by origin, recorded time reached.
Standing = list[tuple[str, int, int, dict[str, int], int]]

#: From so many records on nothing more is read but what they wait for: about 150 MB of small ones.
_HELD_ENOUGH = 50_000

_PROGRESS = ProgressReached.TYPE.encode()


class _Until(msgspec.Struct):
    until: str


_UNTIL = msgspec.json.Decoder(_Until)


@dataclass(slots=True)
class _Place:
    """How far one partition was applied."""

    position: Position = field(default_factory=Position)
    floor: int = NEVER


class OrderedReader:
    """The applied order of some partitions; `announced` says of each whether its source announces progress.

    Promise: what `advance` gives, one call after another, is a function of what the partitions hold alone, whatever
    the polls, wherever the state was stored and restored (for sources that announce progress). Positions are those of
    what was applied: what is still held back is not in the state and must be read again.
    """

    def __init__(self, announced: Mapping[Partition, bool]) -> None:
        self._live = [place for place, announces in announced.items() if not announces]
        self._places = {place: _Place() for place in announced}
        self._merge: HoldBack[Item] = HoldBack(list(announced), {place for place in announced if announced[place]})
        self._fence = Fence()

    @property
    def live(self) -> bool:
        """Tell whether a partition among them announces no progress."""
        return bool(self._live)

    @property
    def positions(self) -> dict[Partition, Position]:
        """Return how far each partition was applied."""
        return {place: replace(at.position, origins=dict(at.position.origins)) for place, at in self._places.items()}

    def offsets(self) -> dict[Partition, int]:
        """Return where to go on reading each partition."""
        return {place: at.position.next_offset for place, at in self._places.items()}

    def newest(self) -> dict[Partition, int]:
        """Return when the newest record applied of each partition became known (µs); NEVER before the first."""
        return {place: at.floor for place, at in self._places.items()}

    @property
    def held(self) -> int:
        """Return how many records are held back."""
        return len(self._merge)

    def waits_for(self) -> list[Partition]:
        """Return the partitions that keep back what is held."""
        return self._merge.waits_for()

    def ahead(self) -> list[Partition]:
        """Return the partitions of which nothing more should be read now: too much is held, and not for them."""
        if self.held < _HELD_ENOUGH:
            return []
        return sorted(self._places.keys() - self.waits_for())

    def offer(self, records: Sequence[Record]) -> int:
        """Take records, each partition's in order, and return how many of them were new."""
        fresh, headers = self._fence.admit(records)
        pairs = sorted(zip(fresh, headers, strict=True), key=lambda pair: (pair[0].topic, pair[0].partition))
        for place, of_place in groupby(pairs, key=lambda pair: (pair[0].topic, pair[0].partition)):
            for marker, run in groupby(of_place, key=lambda pair: pair[1].get("ce_type") == _PROGRESS):
                if marker:
                    self._pass(place, list(run))
                else:
                    self._hold(place, list(run))
        return len(fresh)

    def _pass(self, place: Partition, run: list[Item]) -> None:
        """Take markers. One behind what was applied says nothing, and is not taken for news after a restart."""
        for until in announcements([record for record, _ in run]):
            if until != NEVER and until + 1 >= self._places[place].floor:
                self._merge.progress(place, until)

    def _hold(self, place: Partition, run: list[Item]) -> None:
        """Hold records back; one whose recorded time cannot be read counts as recorded with the one before it."""
        arrivals = parse_all([headers.get("ce_recordedtime", b"") for _, headers in run])
        offsets = np.fromiter((record.offset for record, _ in run), np.int64, len(run))
        self._merge.offer(place, np.maximum(arrivals, self._places[place].floor), offsets, run)

    def drained(self, lag: Mapping[Partition, int]) -> None:
        """Note which live partitions were read to their end."""
        for place in self._live:
            if lag.get(place) == 0:
                self._merge.drained(place)

    def advance(self) -> Released[Item]:
        """Return what nothing can precede any more; from now on it counts as applied."""
        return self._applied(self._merge.release())

    def follow(self, order: Sequence[tuple[Partition, Origin]]) -> Released[Item] | None:
        """Return records in the order that a journal tells: of a partition those up to the one of an origin.

        What stands before that one without an origin, or under another stream's, comes with it; what stands behind it
        is left. None, with nothing taken, while not all of them have been read.
        """
        places: dict[Partition, int] = {}
        counts: list[tuple[Partition, int]] = []
        for place, last in order:
            start = places.get(place, 0)
            end = _behind(self._merge.held(place), start, last)
            if end is None:
                return None
            places[place] = end
            counts.append((place, end - start))
        return self._applied(self._merge.release_in(counts))

    def _applied(self, released: Released[Item]) -> Released[Item]:
        last: dict[Partition, tuple[int, int]] = {}
        origins: dict[tuple[Partition, bytes], bytes] = {}
        for (record, headers), arrival in zip(released.items, released.arrivals.tolist(), strict=True):
            place = (record.topic, record.partition)
            last[place] = (arrival, record.offset)
            stream, _, number = headers.get("ce_origin", b"").rpartition(b"/")
            origins[place, stream] = number
        for place, (arrival, offset) in last.items():
            self._places[place].floor, self._places[place].position.next_offset = arrival, offset + 1
        for (place, stream), number in origins.items():
            known = read_origin(stream + b"/" + number) if stream else None
            if known is not None:
                seen = self._places[place].position.origins
                seen[known[0]] = max(known[1], seen.get(known[0], -1))
        return released

    def snapshot(self) -> Standing:
        """Return how far everything was applied, as values for a snapshot."""
        return [
            (topic, part, at.position.next_offset, at.position.origins, at.floor)
            for (topic, part), at in self._places.items()
        ]

    def restore(self, state: Standing) -> None:
        """Go on where a reader stood when it gave `state`; partitions that are not read any more are left out."""
        for topic, part, next_offset, origins, floor in state:
            if (topic, part) in self._places:
                self._places[topic, part] = _Place(Position(next_offset, origins), floor)
        self._fence = Fence(self.positions)


def _behind(held: Sequence[Item], start: int, last: Origin) -> int | None:
    """Return the place behind the record of an origin, at `start` or later; None when it is not there.

    The numbers of a stream rise: behind a higher one it need not be looked for.
    """
    stream, number = last
    for place in range(start, len(held)):
        known = read_origin(held[place][1].get("ce_origin", b""))
        if known is not None and known[0] == stream and known[1] >= number:
            return place + 1 if known[1] == number else None
    return None


def announcements(markers: Sequence[Record]) -> list[int]:
    """Return what progress markers announce, in µs; NEVER for one that is no marker after all."""
    found: list[int] = parse_all([_until(record) for record in markers]).tolist()
    return found


def _until(record: Record) -> bytes:
    """Return what a marker announces; nothing when it is no marker after all."""
    try:
        return _UNTIL.decode(record.value or b"").until.encode()
    except NO_DOCUMENT:
        return b""
