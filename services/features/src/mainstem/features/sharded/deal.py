"""Dealing: each accepted record goes to the shards that its keys belong to, with the arrival that orders it."""

from collections.abc import Sequence

import msgspec

from mainstem.events.catalogue import Record
from mainstem.events.data import ProgressReached
from mainstem.events.envelope import Message
from mainstem.events.fence import Fence, Position
from mainstem.events.instants import NEVER, parse_all, render
from mainstem.feature_engine import FIRST_INSTANT, LAST_INSTANT, shard_of
from mainstem.features.accepted import NOT_OURS, Reading, event_times, payload, runs
from mainstem.features.engine import too_late
from mainstem.features.ports import Parked
from mainstem.features.sharded.frames import Forwarded, dealt
from mainstem.features.sharded.plan import Plan
from mainstem.features.sharded.unit import Outcome
from mainstem.runtime.ordered import Headers, Item, announcements

_PROGRESS = ProgressReached.TYPE.encode()

_ORDERING = frozenset(("ce_type", "ce_recordedtime", "ce_origin"))

Shards = frozenset[int]


class Dealer:
    """Deals out one partition of an accepted topic.

    Promise: what goes to a receiver is a function of what the partition holds; after a restart some of it goes out
    again, in the same order under the same places.
    """

    def __init__(self, plan: Plan, source: str, partition: int) -> None:
        self._plan, self._source, self._partition = plan, source, partition
        self._reading = Reading(plan.compiled, plan.contracts)
        self._asked = plan.asked(source)
        self._everybody = frozenset(range(plan.shards))
        self._owners: dict[tuple[str, object], int] = {}
        self._fence = Fence()
        self._floor = FIRST_INSTANT
        self._parked: list[Parked] = []

    @property
    def next_offset(self) -> int:
        """Return where to begin to read after a restart."""
        return self._position().next_offset

    def take(self, records: Sequence[Record]) -> list[Message]:
        """Return the frames that carry the records to the stages."""
        fresh, headers = self._fence.admit(records)
        items = list(zip(fresh, headers, strict=True))
        out = self._with_shards(items, self._arrivals(items))
        messages: list[Message] = []
        for shard in range(self._plan.shards):
            mine = (_ordered(item, at) for item, at, shards in out if shard in shards)
            messages += dealt(self._plan.fold_topic, shard, mine)
        if self._source == self._plan.compiled.spine:
            messages += dealt(self._plan.join_topic, self._partition, (_whole(item, at) for item, at, _ in out))
        return [*messages, *dealt(self._plan.order_topic, 0, (_bare(item, at) for item, at, _ in out))]

    def snapshot(self) -> bytes:
        """Return what must be known to go on."""
        position = self._position()
        return msgspec.msgpack.encode((position.next_offset, position.origins, self._floor))

    def restore(self, state: bytes) -> None:
        """Go on where the dealer that gave `state` stood."""
        following, origins, self._floor = msgspec.msgpack.decode(state)
        self._fence = Fence({(f"evt.data.{self._source}", self._partition): Position(following, origins)})

    def outcome(self) -> Outcome:
        """Return the records that could not be dealt since the last call."""
        parked, self._parked = self._parked, []
        return Outcome(parked=parked)

    def _position(self) -> Position:
        return self._fence.positions.get((f"evt.data.{self._source}", self._partition), Position())

    def _arrivals(self, items: Sequence[Item]) -> list[int]:
        """Return when each record arrived, never falling and after what was announced: as one worker's merge has it.

        A marker that announces less than is known already says nothing: it counts as before everything.
        """
        recorded = parse_all([headers.get("ce_recordedtime", b"") for _, headers in items]).tolist()
        announced = iter(announcements([record for record, headers in items if _is_marker(headers)]))
        arrivals = []
        for (_, headers), at in zip(items, recorded, strict=True):
            reached = next(announced) + 1 if _is_marker(headers) else max(at, self._floor)
            arrivals.append(min(reached, LAST_INSTANT) if reached >= self._floor else NEVER)
            self._floor = max(self._floor, arrivals[-1])
        return arrivals

    def _with_shards(self, items: list[Item], arrivals: list[int]) -> list[tuple[Item, int, Shards]]:
        """Return items with arrival and receivers, without the records that were never accepted; these are parked."""
        told = [place for place, (_, headers) in enumerate(items) if not _is_marker(headers)]
        shards = dict.fromkeys((place for place, at in enumerate(arrivals) if at != NEVER), self._everybody)
        try:
            shards |= zip(told, self._shards([items[i] for i in told], [arrivals[i] for i in told]), strict=True)
        except NOT_OURS:
            for place in told:
                try:
                    (shards[place],) = self._shards([items[place]], [arrivals[place]])
                except NOT_OURS as fault:
                    reason = f"this is no accepted record: {fault}; fix its writer"
                    self._parked.append(Parked(items[place][0], reason))
                    del shards[place]
        return [(items[place], arrivals[place], receivers) for place, receivers in shards.items()]

    def _shards(self, items: Sequence[Item], arrivals: Sequence[int]) -> list[Shards]:
        """Return the shards that each record's keys belong to; none for one that is too late, which is parked."""
        columns = self._reading.columns(self._source, [payload(record.value, headers) for record, headers in items])
        times = event_times(items).tolist()
        runs(items)
        owners = ([self._owner(index, key) for key in columns[column]] for index, column in self._asked)
        found = [frozenset(each) for each in zip(*owners, strict=True)] or [frozenset[int]()] * len(items)
        for place, (at, time) in enumerate(zip(arrivals, times, strict=True)):
            if time < at - self._plan.compiled.definition.lateness:
                found[place] = frozenset()
                self._parked.append(Parked(items[place][0], too_late(self._plan.compiled)))
        return found

    def _owner(self, index: str, key: object) -> int:
        owner = self._owners.get((index, key))
        if owner is None:
            owner = self._owners[index, key] = shard_of(index, None if key is None else str(key), self._plan.shards)
        return owner


def _is_marker(headers: Headers) -> bool:
    return headers.get("ce_type") == _PROGRESS


def _ordered(item: Item, arrival: int) -> Forwarded:
    """Return a record whose recorded time is its arrival."""
    record, headers = item
    if not _is_marker(headers):
        headers = headers | {"ce_recordedtime": render(arrival).encode()}
    return _forwarded(record, record.value, headers, arrival)


def _whole(item: Item, arrival: int) -> Forwarded:
    """Return a record as it is."""
    return _forwarded(item[0], item[0].value, item[1], arrival)


def _bare(item: Item, arrival: int) -> Forwarded:
    """Return what orders a record, without its payload."""
    ordered, marker = _ordered(item, arrival), _is_marker(item[1])
    headers = {name: value or b"" for name, value in ordered.headers if name in _ORDERING}
    return _forwarded(item[0], ordered.value if marker else None, headers, arrival)


def _forwarded(record: Record, value: bytes | None, headers: Headers, arrival: int) -> Forwarded:
    return Forwarded(record.topic, record.partition, record.offset, record.key, value, tuple(headers.items()), arrival)
