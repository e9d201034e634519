"""Where each feature set stood, from its journal (ADR 17)."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from mainstem.events.envelope import Message
from mainstem.events.features import OrderJournalled, RowComputed
from mainstem.events.fence import read_origin
from mainstem.events.record import Record, header
from mainstem.features.handlers import Computing
from mainstem.features.ports import RowTally
from mainstem.features.rows import writer_of
from mainstem.features.sharded.plan import Plan
from mainstem.features.sharded.store import ShardStore
from mainstem.features.store import PostgresStore, add_rows
from mainstem.fold.fold import Fold
from mainstem.project.contract import SourceContract
from mainstem.project.definition import ProjectDefinition
from mainstem.runtime.recovery import LoggedRecords
from mainstem.storage import Database
from mainstem.telemetry import Tracer

_ROW = RowComputed.TYPE.encode()
#: Tallies add up modulo this.
_CIRCLE = 2**63


@dataclass(slots=True)
class _Published:
    """What stands in the topic of a set under one definition."""

    tallies: defaultdict[int, RowTally] = field(default_factory=lambda: defaultdict(RowTally))
    #: By stream of origins, of rows or of markers, and partition the highest number.
    numbers: dict[tuple[str, int], int] = field(default_factory=dict)

    def take(self, record: Record, stream: str, number: int) -> None:
        """Take notice of a row or marker."""
        place = stream, record.partition
        self.numbers[place] = max(number, self.numbers.get(place, -1))
        if header(record, "ce_type") == _ROW:
            self.tallies[record.partition].count(record.value or b"")

    def whole(self, entries: Sequence[OrderJournalled], writer: str, spine: SourceContract) -> list[OrderJournalled]:
        """Return the first entries of a journal, up to the last of which all rows and markers stand there.

        The log takes its topics one after another, so it may have an entry and not what the entry led to. What stands
        before a marker is there with it; an entry that no marker follows says which rows it led to.
        """
        told = min(self.numbers.get((f"{writer}#progress", part), -1) for part in range(spine.partitions))
        found = [entry for entry in entries if entry.number <= told]
        for entry in entries[len(found) :]:
            asked = [(part, last) for topic, part, _, last in entry.runs if entry.topics[topic] == f"src.{spine.name}"]
            stream = f"{writer}/src.{spine.name}"
            if entry.complete or any(last > self.numbers.get((f"{stream}/{part}", part), -1) for part, last in asked):
                break
            found.append(entry)
        return found


class _Nowhere:
    """Takes messages that stand in the log already."""

    async def publish(self, messages: Sequence[Message]) -> None:
        """Do nothing."""


async def recover(database: Database, log: LoggedRecords) -> None:
    """Store each feature set in force as it was behind the last entry of its journal that led to all it leads to.

    Rows behind that are computed again by the service, and counted then. The tables must be folded already.
    """
    store = PostgresStore(database)
    journals = await _journals(log)
    for definition in await store.definitions():
        for name, feature_set in definition.feature_sets.items():
            compiled = feature_set.compiled
            published = await _published(log, compiled.label, compiled.id)
            await _uncount(database, compiled.label, published)
            spine = definition.sources[compiled.spine]
            entries = published.whole(journals.get(compiled.id, ()), writer_of(compiled.id), spine)
            if entries:
                await ShardStore(database).begin(Plan(compiled, definition.sources, 1))
                await _lead(store, log, definition, name, entries)


async def _journals(log: LoggedRecords) -> dict[str, list[OrderJournalled]]:
    """Return the entries of each definition's journal, each once, in order."""
    found: defaultdict[str, list[OrderJournalled]] = defaultdict(list)
    async for records in log.records([OrderJournalled.TOPIC]):
        for record in records:
            if header(record, "ce_type") == OrderJournalled.TYPE.encode():
                entry = OrderJournalled.model_validate_json(record.value or b"")
                if entry.number == len(found[entry.definition]):
                    found[entry.definition].append(entry)
    return found


async def _published(log: LoggedRecords, label: str, definition: str) -> _Published:
    """Return what a definition led to."""
    found, writer = _Published(), writer_of(definition)
    async for records in log.records([RowComputed.topic_of(label)]):
        for record in records:
            origin = read_origin(header(record, "ce_origin") or b"")
            if origin is not None and origin[0].startswith(writer):
                found.take(record, *origin)
    return found


async def _uncount(database: Database, label: str, published: _Published) -> None:
    """Take the rows of a definition out of the tally of its topic."""
    less = {
        (label, part): RowTally(-tally.rows, -tally.fingerprint % _CIRCLE) for part, tally in published.tallies.items()
    }
    async with database.transaction() as tx:
        await add_rows(tx, less)


async def _lead(
    store: PostgresStore,
    log: LoggedRecords,
    definition: ProjectDefinition,
    name: str,
    entries: Sequence[OrderJournalled],
) -> None:
    """Lead a fold along its journal, and store it."""
    compiled = definition.feature_sets[name].compiled
    fold = Fold(compiled, definition.sources)
    fold.follow(entries)
    computing = Computing(fold, definition.sources[compiled.spine].partitions, Tracer("features", None))
    async for records in log.records(fold.topics):
        while fold.follows:
            before = fold.journal.number
            await computing.on_records(records, lag={}, publisher=_Nowhere())
            records = ()  # noqa: PLW2901  (they are taken)
            if fold.journal.number == before:
                break
        else:
            break
    await computing.checkpoint(store)
