"""Dealing: each accepted record goes to the shards that its keys belong to, with the arrival that orders it."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from mainstem.events.data import ProgressReached
from mainstem.events.envelope import Message
from mainstem.events.fence import Fence, Position
from mainstem.events.instant_columns import parse_all
from mainstem.events.instants import NEVER
from mainstem.events.record import Record
from mainstem.feature_engine import FIRST_INSTANT, shard_of
from mainstem.features.sharded.frames import Carried, dealt
from mainstem.features.sharded.plan import Plan
from mainstem.features.sharded.unit import Outcome
from mainstem.fold.accepted import NOT_OURS, Parked, Reading, event_times, payload
from mainstem.fold.fold import check_places, why_late
from mainstem.fold.ordered import Headers, Item, announcements

_PROGRESS = ProgressReached.TYPE.encode()
#: What a row says of its spine record.
_ROW_HEADERS = ("ce_id", "ce_time", "ce_recordedtime", "ce_correlationid", "ce_origin", "traceparent")
#: Of so many keys the dealer knows by heart which shard they belong to.
_KEYS = 1 << 20

Shards = frozenset[int]


@dataclass(frozen=True, slots=True)
class _Card:
    """A record or a marker, and which shards it goes to."""

    item: Item
    arrival: int
    shards: Shards
    time: int = 0
    payload: bytes | None = None

    @property
    def marker(self) -> bool:
        return self.payload is None

    def ordered(self) -> Carried:
        """Return what a shard needs."""
        return Carried(self.item[0].offset, self.arrival, self.marker, self.time, self.payload)

    def placed(self) -> Carried:
        """Return what the journal needs."""
        headers = {} if self.marker else {"ce_origin": self.item[1]["ce_origin"]}
        return Carried(self.item[0].offset, self.arrival, self.marker, headers=headers)

    def whole(self) -> Carried:
        """Return what a row needs."""
        record, headers = self.item
        kept = {} if self.marker else {name: headers[name] for name in _ROW_HEADERS if name in headers}
        return Carried(record.offset, self.arrival, self.marker, self.time, self.payload, record.key, kept)


class Dealer:
    """Deals out one partition of an accepted topic.

    Promise: what goes to a receiver is a function of what the partition holds; after a restart some of it goes out
    again, in the same order under the same places.
    """

    def __init__(self, plan: Plan, source: str, partition: int) -> None:
        self._plan, self._source, self._place = plan, source, (f"evt.data.{source}", partition)
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
        cards = self._cards(list(zip(fresh, headers, strict=True)))
        hands: list[list[Carried]] = [[] for _ in range(self._plan.shards)]
        for card in cards:
            ordered = card.ordered()
            for shard in card.shards:
                hands[shard].append(ordered)
        messages: list[Message] = []
        for shard, hand in enumerate(hands):
            messages += dealt(self._plan.fold_topic, shard, self._place, hand)
        if self._source == self._plan.compiled.spine:
            messages += dealt(self._plan.join_topic, self._place[1], self._place, (card.whole() for card in cards))
        return [*messages, *dealt(self._plan.order_topic, 0, self._place, (card.placed() for card in cards))]

    def snapshot(self) -> bytes:
        """Return what must be known to go on."""
        position = self._position()
        return msgspec.msgpack.encode((position.next_offset, position.origins, self._floor))

    def restore(self, state: bytes) -> None:
        """Go on where the dealer that gave `state` stood."""
        following, origins, self._floor = msgspec.msgpack.decode(state)
        self._fence = Fence({self._place: Position(following, origins)})

    def outcome(self) -> Outcome:
        """Return the records that could not be dealt since the last call."""
        parked, self._parked = self._parked, []
        return Outcome(parked=parked)

    def _position(self) -> Position:
        return self._fence.positions.get(self._place, Position())

    def _cards(self, items: list[Item]) -> list[_Card]:
        """Return what is dealt, in order: not the records that were never accepted, which are parked."""
        arrivals = self._arrivals(items)
        told = [place for place, (_, headers) in enumerate(items) if not _is_marker(headers)]
        cards = {
            place: _Card(items[place], at, self._everybody)
            for place, at in enumerate(arrivals)
            if at != NEVER and _is_marker(items[place][1])
        }
        try:
            cards |= zip(told, self._records([items[i] for i in told], [arrivals[i] for i in told]), strict=True)
        except NOT_OURS:
            for place in told:
                try:
                    (cards[place],) = self._records([items[place]], [arrivals[place]])
                except NOT_OURS as fault:
                    reason = f"this is no accepted record: {fault}; fix its writer"
                    self._parked.append(Parked(items[place][0], reason))
        return [cards[place] for place in sorted(cards)]

    def _arrivals(self, items: Sequence[Item]) -> list[int]:
        """Return when each record arrived, never falling and after what was announced: as one worker's merge has it.

        A marker arrives one after what it announces. One that announces less than is known already says nothing, and
        never arrives.
        """
        recorded = parse_all([headers.get("ce_recordedtime", b"") for _, headers in items]).tolist()
        announced = iter(announcements([record for record, headers in items if _is_marker(headers)]))
        arrivals = []
        for (_, headers), at in zip(items, recorded, strict=True):
            reached = next(announced) + 1 if _is_marker(headers) else max(at, self._floor)
            arrivals.append(reached if reached >= self._floor else NEVER)
            self._floor = max(self._floor, reached)
        return arrivals

    def _records(self, items: Sequence[Item], arrivals: Sequence[int]) -> list[_Card]:
        """Return cards for records; one that is too late goes to no shard and is parked."""
        check_places(items)
        payloads = [payload(record.value, headers) for record, headers in items]
        columns = self._reading.columns(self._source, payloads)
        times = event_times(items).tolist()
        owners = ([self._owner(index, key) for key in columns[column]] for index, column in self._asked)
        shards = [frozenset(each) for each in zip(*owners, strict=True)] or [frozenset[int]()] * len(items)
        cards = list(map(_Card, items, arrivals, shards, times, map(bytes, payloads)))
        for place, card in enumerate(cards):
            if self._plan.too_late(card.time, card.arrival):
                cards[place] = _Card(card.item, card.arrival, frozenset(), card.time, card.payload)
                self._parked.append(Parked(card.item[0], why_late(self._plan.compiled), late=True))
        return cards

    def _owner(self, index: str, key: object) -> int:
        owner = self._owners.get((index, key))
        if owner is None:
            if len(self._owners) >= _KEYS:
                self._owners.clear()
            owner = self._owners[index, key] = shard_of(index, None if key is None else str(key), self._plan.shards)
        return owner


def _is_marker(headers: Headers) -> bool:
    return headers.get("ce_type") == _PROGRESS
