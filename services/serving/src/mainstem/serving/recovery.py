"""How far serving had answered, from its answers (ADR 17)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mainstem.events.fence import Fence, Position, read_origin
from mainstem.events.record import Record, header
from mainstem.runtime.recovery import LoggedRecords
from mainstem.serving.domain import LogTime, Partition, Reached, Tallies, Tally, TallyKey
from mainstem.serving.ports import Parked
from mainstem.serving.rows import read_markers, read_rows
from mainstem.serving.store import PostgresStore, add_tallies
from mainstem.storage import Database

_ANSWERS = "tel.prediction."
_ROWS = "evt.feature."
_SPOOLED = "serving@"
#: Tallies add up modulo this.
_CIRCLE = 2**63


@dataclass(slots=True)
class _Answered:
    """What the answers say of the positions that they were given at."""

    #: By partition of a feature topic and model the offset behind the last row or marker that led to an answer.
    rows: dict[Partition, dict[str, int]] = field(default_factory=dict)
    #: By spool the number behind the last message that was sent.
    spools: dict[Partition, int] = field(default_factory=dict)

    def take(self, records: Sequence[Record]) -> None:
        """Take notice of answers."""
        for record in records:
            origin = read_origin(header(record, "ce_origin") or b"")
            if origin is None:
                continue
            stream, number = origin
            place = _feature_partition(stream)
            if place is not None:
                models, model = self.rows.setdefault(place, {}), record.topic.removeprefix(_ANSWERS)
                models[model] = max(models.get(model, 0), number + 1)
            elif stream.startswith(_SPOOLED) and "#" not in stream:
                self.spools[stream, 0] = max(self.spools.get((stream, 0), 0), number + 1)

    def positions(self, readers: Mapping[str, Sequence[str]]) -> dict[Partition, int]:
        """Return for each partition the offset up to which every model that reads it has answered."""
        found = {}
        for place, models in self.rows.items():
            behind = [models[model] for model in readers.get(place[0], ()) if model in models]
            if behind:
                found[place] = min(behind)
        return found


async def recover(database: Database, log: LoggedRecords) -> None:
    """Store positions, states and tallies as they were when the last row was answered that every model has answered.

    Answers behind that are given again by the service, so they are counted then. The tables must be folded already.
    """
    store, answered = PostgresStore(database), _Answered()
    async for records in log.records([f"{_ANSWERS}*"]):
        answered.take(records)
    ends = answered.positions(await store.feature_topics())
    fence, reached = await _read_up_to(log, ends)
    # Of rows that were answered and are not in the log the service will hear again.
    again = await _given_again(
        log, answered, {place: fence.positions.get(place, Position()).next_offset for place in ends}
    )
    async with database.transaction() as tx:
        await add_tallies(tx, again)
        positions = {**fence.positions, **{place: Position(number) for place, number in answered.spools.items()}}
        states = {place: at.dump() for place, at in reached.partitions.items() if place in fence.positions}
        await tx.save_positions(positions, states)


async def _read_up_to(log: LoggedRecords, ends: Mapping[Partition, int]) -> tuple[Fence, LogTime]:
    """Return how far the feature topics were seen below some offsets."""
    fence, time, parked = Fence(), LogTime(), list[Parked]()
    async for records in log.records(sorted({topic for topic, _ in ends})):
        below = [record for record in records if record.offset < ends.get((record.topic, record.partition), 0)]
        fresh, headers = fence.admit(below)
        for row in read_rows(fresh, headers, parked):
            place = row.record.topic, row.record.partition
            at = time.partitions.get(place, Reached())
            time.see({place: at.with_row(row.recorded_us, row.record.offset)})
        for index, marker in read_markers(fresh, headers, parked).items():
            place = fresh[index].topic, fresh[index].partition
            at = time.partitions.get(place, Reached())
            time.see({place: at.with_marker(marker.envelope.time_us)})
    return fence, time


async def _given_again(log: LoggedRecords, answered: _Answered, ends: Mapping[Partition, int]) -> Tallies:
    """Return, to be added, the negative of the tallies of answers to rows behind some offsets."""
    less = Tallies()
    if all(last <= ends.get(place, last) for place, models in answered.rows.items() for last in models.values()):
        return less
    async for records in log.records([f"{_ANSWERS}*"]):
        for key, tally in Tallies.of(record for record in records if _is_behind(record, ends)).items():
            less[key] = _minus(less, key, tally)
    return less


def _minus(less: Tallies, key: TallyKey, tally: Tally) -> Tally:
    return Tally(less[key].n - tally.n, (less[key].fingerprint - tally.fingerprint) % _CIRCLE)


def _is_behind(record: Record, ends: Mapping[Partition, int]) -> bool:
    origin = read_origin(header(record, "ce_origin") or b"")
    if origin is None:
        return False
    place, number = _feature_partition(origin[0]), origin[1]
    return place is not None and number >= ends.get(place, number + 1)


def _feature_partition(stream: str) -> Partition | None:
    """Return the partition of a feature topic that a stream of origins is of; None for another stream."""
    topic, _, part = stream.rpartition("/")
    return (topic, int(part)) if topic.startswith(_ROWS) and part.isdecimal() else None
