"""What ingestion remembers, from what it published (ADR 17)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from mainstem.events.catalogue import Record
from mainstem.events.data import ProgressReached, RecordAccepted, RecordQuarantined
from mainstem.events.envelope import named
from mainstem.events.fence import Position, read_origin
from mainstem.events.ids import fingerprint
from mainstem.events.instants import parse_all
from mainstem.ingestion.domain import Block, PartitionState
from mainstem.ingestion.ports import Partition
from mainstem.ingestion.store import PostgresStore
from mainstem.project.contract import BLOCK, SourceContract
from mainstem.runtime.recovery import LoggedRecords
from mainstem.storage import Database

_ACCEPTED, _QUARANTINED = RecordAccepted.TYPE.encode(), RecordQuarantined.TYPE.encode()
_JUDGED = (_ACCEPTED, _QUARANTINED, ProgressReached.TYPE.encode())


class _Payload(msgspec.Struct):
    record: dict[str, object]


_decode = msgspec.json.Decoder(_Payload).decode


@dataclass(slots=True)
class _Judged:
    """What is known of one partition of a source."""

    contract: SourceContract
    state: PartitionState
    next_offset: int = 0

    def enter(self, offset: int) -> Block | None:
        """Return the block of an offset if it is the last one that was judged."""
        number, block = offset // BLOCK, self.state.block
        if block is None or number > block.number:
            block = self.state.block = Block(number)
        return block if number == block.number else None

    def accept(self, offset: int, known_by: bytes, recorded_us: int, payload: bytes) -> None:
        """Take notice of a record that was accepted."""
        self.state.seen.admit(fingerprint(known_by), recorded_us)
        block = self.enter(offset)
        if block is not None:
            block.records += 1
            record = _decode(payload).record if self.contract.batch.max_null else {}
            for column in self.contract.batch.max_null:
                block.nulls[column] = block.nulls.get(column, 0) + (record.get(column) is None)

    def quarantine(self, offset: int) -> None:
        """Take notice of a record that was refused."""
        block = self.enter(offset)
        if block is not None:
            block.records += 1
            block.quarantined += 1


async def recover(database: Database, log: LoggedRecords) -> None:
    """Store the positions and states of every partition of a source in force, as its verdicts in the log imply them.

    The tables must be folded already.
    """
    definitions = await PostgresStore(database).definitions()
    contracts = {name: contract for each in definitions for name, contract in each.sources.items()}
    found: dict[Partition, _Judged] = {}
    async for records in log.records(["evt.data.*"]):
        _take(records, contracts, found)
    async with database.transaction() as tx:
        await tx.save_positions(
            {place: Position(judged.next_offset) for place, judged in found.items()},
            {place: judged.state.dump() for place, judged in found.items()},
        )


def _take(records: Sequence[Record], contracts: Mapping[str, SourceContract], found: dict[Partition, _Judged]) -> None:
    headers = [named(record.headers) for record in records]
    recorded = parse_all([each.get("ce_recordedtime", b"") for each in headers]).tolist()
    for record, about, recorded_us in zip(records, headers, recorded, strict=True):
        origin = read_origin(about.get("ce_origin", b"")) if about.get("ce_type") in _JUDGED else None
        place = None if origin is None else _source(origin[0])
        contract = None if place is None else contracts.get(place[0].removeprefix("src."))
        if origin is None or place is None or contract is None:
            continue
        offset = origin[1]
        if place not in found:
            found[place] = _Judged(contract, PartitionState.load(contract.unique_within, None))
        judged = found[place]
        judged.next_offset = max(judged.next_offset, offset + 1)
        if about["ce_type"] == _ACCEPTED:
            judged.accept(offset, about.get("ce_causationid", b""), recorded_us, record.value or b"")
        elif about["ce_type"] == _QUARANTINED:
            judged.quarantine(offset)


def _source(stream: str) -> Partition | None:
    """Return the partition of a source that a stream of origins is of; None for another stream."""
    topic, _, part = stream.rpartition("/")
    return (topic, int(part)) if topic.startswith("src.") and part.isdecimal() else None
