"""What ingestion remembers, from what it published (ADR 17)."""

from array import array
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
import numpy as np

from mainstem.events.data import BatchJudged, ProgressReached, RecordAccepted, RecordQuarantined, RecordRedriven
from mainstem.events.envelope import named
from mainstem.events.fence import Position, read_origin
from mainstem.events.ids import fingerprint
from mainstem.events.instant_columns import parse_all
from mainstem.events.record import Record
from mainstem.ingestion.domain import Block, PartitionState
from mainstem.ingestion.ports import Partition, Tally
from mainstem.ingestion.store import PostgresStore, add_tallies
from mainstem.project.contract import BLOCK, SourceContract
from mainstem.runtime.recovery import LoggedRecords
from mainstem.storage import Database

_ACCEPTED, _QUARANTINED = RecordAccepted.TYPE.encode(), RecordQuarantined.TYPE.encode()
_PROGRESS, _REDRIVEN, _BLOCK = (kind.TYPE.encode() for kind in (ProgressReached, RecordRedriven, BatchJudged))
#: Tallies add up modulo this.
_CIRCLE = 2**63


class _Payload(msgspec.Struct):
    record: dict[str, object] = {}
    replaces: str | None = None


_decode = msgspec.json.Decoder(_Payload).decode


class _Verdict(NamedTuple):
    """An event that a record of a source led to."""

    kind: bytes
    place: Partition
    #: Offset of the record; of a verdict on a block its number.
    number: int
    recorded_us: int
    known_by: bytes
    payload: bytes


@dataclass(slots=True)
class _Told:
    """Which records of a partition of a source led to what."""

    judged: "array[int]" = field(default_factory=lambda: array("q"))
    passed_on: "array[int]" = field(default_factory=lambda: array("q"))
    corrections: set[int] = field(default_factory=set)
    redriven: set[int] = field(default_factory=set)
    blocks: set[int] = field(default_factory=set)

    def take(self, verdict: _Verdict) -> None:
        """Take notice of a verdict."""
        match verdict.kind:
            case kind if kind == _PROGRESS:
                self.passed_on.append(verdict.number)
            case kind if kind == _REDRIVEN:
                self.redriven.add(verdict.number)
            case kind if kind == _BLOCK:
                self.blocks.add(verdict.number)
            case kind:
                self.judged.append(verdict.number)
                if kind == _ACCEPTED and b'"replaces":"' in verdict.payload and _decode(verdict.payload).replaces:
                    self.corrections.add(verdict.number)

    def next_offset(self, sent: Sequence[int]) -> int:
        """Return the first offset whose record did not lead to all that it leads to; `sent` are the records there are.

        The log takes its topics one after another, so what a batch led to may be in it in part.
        """
        judged = np.unique(np.array(self.judged, np.int64))
        told = np.union1d(judged, np.array(self.passed_on, np.int64))
        untold = np.setdiff1d(np.array(sent, np.int64), told)[:1].tolist()
        blocks = judged // BLOCK
        closing = (np.flatnonzero(np.diff(blocks)) + 1).tolist()
        unclosed = [int(judged[at]) for at in closing if int(blocks[at - 1]) not in self.blocks][:1]
        return min([*untold, *unclosed, *(self.corrections - self.redriven), *(told[-1:] + 1).tolist()], default=0)


@dataclass(slots=True)
class _Remembered:
    """What is remembered of a partition up to an offset, and the tally of what was judged behind it."""

    contract: SourceContract
    state: PartitionState
    next_offset: int
    behind: Tally = field(default_factory=Tally)

    def take(self, verdict: _Verdict) -> None:
        """Take notice of a verdict on a record."""
        accepted = verdict.kind == _ACCEPTED
        if verdict.number >= self.next_offset:
            if accepted:
                self.behind.count_accepted(fingerprint(verdict.known_by))
            else:
                self.behind.quarantined += 1
            return
        if accepted:
            self.state.seen.admit(fingerprint(verdict.known_by), verdict.recorded_us)
        block = self._enter(verdict.number // BLOCK)
        if block is not None:
            block.records += 1
            block.quarantined += not accepted
            record = _decode(verdict.payload).record if accepted and self.contract.batch.max_null else None
            for column in self.contract.batch.max_null if record is not None else ():
                block.nulls[column] = block.nulls.get(column, 0) + ((record or {}).get(column) is None)

    def _enter(self, number: int) -> Block | None:
        """Return a block if it is the last one."""
        if self.state.block is None or number > self.state.block.number:
            self.state.block = Block(number)
        return self.state.block if number == self.state.block.number else None


async def recover(database: Database, log: LoggedRecords) -> None:
    """Store positions, states and tallies as they were before the first record whose verdicts are not all in the log.

    What is behind is judged again by the service, and counted then. The tables must be folded already.
    """
    definitions = await PostgresStore(database).definitions()
    contracts = {f"src.{name}": contract for each in definitions for name, contract in each.sources.items()}
    told: defaultdict[Partition, _Told] = defaultdict(_Told)
    async for verdict in _verdicts(log, contracts):
        told[verdict.place].take(verdict)
    sent: defaultdict[Partition, array[int]] = defaultdict(lambda: array("q"))
    async for records in log.records(sorted(contracts)):
        for record in records:
            sent[record.topic, record.partition].append(record.offset)
    found = {
        place: _Remembered(
            contracts[place[0]],
            PartitionState.load(contracts[place[0]].unique_within, None),
            of_place.next_offset(sent[place]),
        )
        for place, of_place in told.items()
    }
    async for verdict in _verdicts(log, contracts):
        if verdict.kind in (_ACCEPTED, _QUARANTINED):
            found[verdict.place].take(verdict)
    async with database.transaction() as tx:
        await add_tallies(
            tx, {(place[0].removeprefix("src."), place[1]): _less(of.behind) for place, of in found.items()}
        )
        positions = {place: Position(of.next_offset) for place, of in found.items()}
        await tx.save_positions(positions, {place: of.state.dump() for place, of in found.items()})


def _less(tally: Tally) -> Tally:
    return Tally(-tally.accepted, -tally.quarantined, -tally.fingerprint % _CIRCLE)


async def _verdicts(log: LoggedRecords, contracts: Mapping[str, SourceContract]) -> AsyncIterator[_Verdict]:
    """Yield what the records of the sources in force led to."""
    async for records in log.records(["evt.data.*"]):
        headers = [named(record.headers) for record in records]
        recorded = parse_all([each.get("ce_recordedtime", b"") for each in headers]).tolist()
        for record, about, recorded_us in zip(records, headers, recorded, strict=True):
            verdict = _verdict(record, about, recorded_us)
            if verdict is not None and verdict.place[0] in contracts:
                yield verdict


def _verdict(record: Record, about: Mapping[str, bytes], recorded_us: int) -> _Verdict | None:
    """Return what a record says; None when it was not ingestion that wrote it."""
    origin = read_origin(about.get("ce_origin", b""))
    if origin is None:
        return None
    topic, _, part = origin[0].partition("#")[0].rpartition("/")
    if not (topic.startswith("src.") and part.isdecimal()):
        return None
    known_by = about.get("ce_causationid", b"")
    return _Verdict(
        about.get("ce_type", b""), (topic, int(part)), origin[1], recorded_us, known_by, record.value or b""
    )
