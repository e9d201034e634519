"""The records of a feature set in the ledger's database, as far back as the values of one spine record can reach."""

from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence
from typing import Final

from mainstem.cli.evidence.archive import Found, ReadSet, events
from mainstem.cli.evidence.columns import Columns, Gathering
from mainstem.cli.progress import bar
from mainstem.events.data import RecordAccepted
from mainstem.events.features import OrderJournalled
from mainstem.events.fence import read_origin
from mainstem.events.instants import parse
from mainstem.events.record import header
from mainstem.features.history import Since
from mainstem.ledger_service.domain import Block, Placed, entries_of
from mainstem.ledger_service.store import Snapshot

#: Blocks before the first record that is wanted: markers stand among its predecessors, and say how late it came.
_BEFORE: Final = 2

Partition = tuple[str, int]


class Recent:
    """Gathers the records of some entries of the journal: from where windows begin to the one with the spine record.

    Where a value looks back without end, or no entry names the record yet, these are all records.
    """

    def __init__(self, archive: Snapshot, read: ReadSet, spine: Found[RecordAccepted]) -> None:
        self._archive = archive
        self._compiled, self._ahead_us = read
        self._spine = spine
        self._what = f"reading the records of {self._compiled.label}"

    async def columns(self) -> Columns:
        """Return the records; raise Rejected when the archive does not hold what the journal says."""
        journal = [each async for each in self._journal()]
        since, end = self._entries([each.fact for each in journal])
        if since == Since():
            return await self._all()
        gathering = Gathering(self._compiled, since)
        chosen = journal[since.entry : end + 1]
        gathering.take([Placed(each.leaf, each.entry) for each in chosen])
        named = _named([each.fact for each in chosen])
        with bar(
            f"reading the records of {self._compiled.label}", sum(last - first for first, last in named.values())
        ) as advance:
            for (topic, part), (first, last) in named.items():
                async for batch in self._between(topic, part, first, last):
                    gathering.take(batch)
                    advance(len(batch))
        return gathering.finish()

    async def _all(self) -> Columns:
        gathering = Gathering(self._compiled)
        with bar(
            f"reading the records of {self._compiled.label}", await self._archive.count(gathering.topics)
        ) as advance:
            async for block in self._archive.blocks(gathering.topics):
                gathering.take(_placed(block))
                advance(block.count)
                if gathering.has(self._spine.leaf):
                    break
        return gathering.finish()

    async def _journal(self) -> AsyncIterator[Found[OrderJournalled]]:
        """Yield the entries of the journal of the set, each once, in order."""
        number = 0
        async for block in self._archive.blocks([OrderJournalled.TOPIC]):
            for found in events(OrderJournalled, _placed(block)):
                if (found.fact.definition, found.fact.number) == (self._compiled.id, number):
                    number += 1
                    yield found

    def _entries(self, journal: Sequence[OrderJournalled]) -> tuple[Since, int]:
        """Return from which entry on records are needed, and the number of the one that names the spine record."""
        origin = read_origin((self._spine.envelope.origin or "").encode())
        spans = [aggregate.span for aggregate in self._compiled.definition.aggregates]
        end = next((entry.number for entry in journal if origin is not None and _names(entry, *origin)), None)
        if end is None or None in spans:
            return Since(), 0
        hops = [aggregate.hop for aggregate in self._compiled.definition.aggregates]
        reach_us = max((span for span in spans if span is not None), default=0) + max(hops, default=0)
        begins_us = self._spine.envelope.time_us - reach_us - self._ahead_us
        # One entry more than is needed: its last records say how late those behind it may have come.
        first = bisect_right([parse(entry.until) for entry in journal[: end + 1]], begins_us) - 1
        return (Since(), end) if first <= 0 else (Since(first, journal[first - 1].applied), end)

    async def _between(self, topic: str, part: int, first: int, last: int) -> AsyncIterator[list[Placed]]:
        """Yield the accepted records of a partition that stood between two offsets of its source, and some before."""
        offsets = await self._archive.first_offsets(topic, part)
        low, high = 0, len(offsets)
        while low < high:
            middle = (low + high) // 2
            number = await self._number(topic, part, offsets[middle])
            low, high = (middle + 1, high) if number < first else (low, middle)
        if not offsets:
            return
        async for block in self._archive.blocks_from(topic, part, offsets[max(0, low - 1 - _BEFORE)]):
            yield _placed(block)
            if _first_number(block) > last:
                return

    async def _number(self, topic: str, part: int, offset: int) -> int:
        """Return the place in its source of the first record in a block, or behind it."""
        async for block in self._archive.blocks_from(topic, part, offset):
            if (number := _first_number(block)) >= 0:
                return number
        return -1


def _placed(block: Block) -> list[Placed]:
    return [Placed(block.first_leaf + place, entry) for place, entry in enumerate(entries_of(block))]


def _names(entry: OrderJournalled, stream: str, number: int) -> bool:
    return any(
        f"{entry.topics[topic]}/{part}" == stream and first <= number <= last for topic, part, first, last in entry.runs
    )


def _named(journal: Sequence[OrderJournalled]) -> dict[Partition, tuple[int, int]]:
    """Return the first and last offset that entries name, by partition of the accepted topic."""
    named: dict[Partition, tuple[int, int]] = {}
    for entry in journal:
        for topic, part, first, last in entry.runs:
            place = RecordAccepted.TOPIC.format(source=entry.topics[topic].removeprefix("src.")), part
            low, high = named.get(place, (first, last))
            named[place] = min(low, first), max(high, last)
    return named


def _first_number(block: Block) -> int:
    """Return where the first record of a block stood in its source; -1 when it holds markers alone."""
    stream = f"src.{block.topic.removeprefix('evt.data.')}/{block.part}"
    for entry in entries_of(block):
        origin = read_origin(header(entry, "ce_origin") or b"")
        if origin is not None and origin[0] == stream and header(entry, "ce_type") == RecordAccepted.TYPE.encode():
            return origin[1]
    return -1
