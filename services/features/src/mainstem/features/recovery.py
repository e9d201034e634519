"""Where each feature set stood, from its journal (ADR 17)."""

from collections.abc import Sequence

import msgspec

from mainstem.events.catalogue import header
from mainstem.events.envelope import Message
from mainstem.events.features import OrderJournalled, RowComputed
from mainstem.features.engine import Fold
from mainstem.features.handlers import Computing
from mainstem.features.ports import RowTally
from mainstem.features.sharded.plan import Plan
from mainstem.features.sharded.store import ShardStore
from mainstem.features.store import PostgresStore, add_rows
from mainstem.project.definition import ProjectDefinition
from mainstem.runtime.recovery import LoggedRecords
from mainstem.storage import Database
from mainstem.telemetry import Tracer

_ROW = RowComputed.TYPE.encode()
#: Tallies add up modulo this.
_CIRCLE = 2**63


class _Row(msgspec.Struct):
    definition: str


_decode = msgspec.json.Decoder(_Row).decode


class _Nowhere:
    """Takes messages that stand in the log already."""

    async def publish(self, messages: Sequence[Message]) -> None:
        """Do nothing."""


async def recover(database: Database, log: LoggedRecords) -> None:
    """Store the state of every feature set in force as it was behind the last whole entry of its journal.

    Rows behind that are computed again by the service, so they are counted then. The tables must be folded already.
    """
    store = PostgresStore(database)
    journals = await _journals(log)
    for definition in await store.definitions():
        for name, feature_set in definition.feature_sets.items():
            compiled = feature_set.compiled
            await _uncount(database, log, compiled.label, compiled.id)
            if compiled.id in journals:
                await ShardStore(database).begin(Plan(compiled, definition.sources, 1))
                await _lead(store, log, definition, name, journals[compiled.id])


async def _journals(log: LoggedRecords) -> dict[str, list[OrderJournalled]]:
    """Return the entries of each definition's journal, each once, in order."""
    found: dict[str, list[OrderJournalled]] = {}
    async for records in log.records([OrderJournalled.TOPIC]):
        for record in records:
            if header(record, "ce_type") == OrderJournalled.TYPE.encode():
                entry = OrderJournalled.model_validate_json(record.value or b"")
                entries = found.setdefault(entry.definition, [])
                if entry.number == len(entries):
                    entries.append(entry)
    return found


async def _uncount(database: Database, log: LoggedRecords, label: str, definition: str) -> None:
    """Take the rows of a definition out of the tally of its topic."""
    tallies: dict[int, RowTally] = {}
    async for records in log.records([RowComputed.topic_of(label)]):
        for record in records:
            if header(record, "ce_type") == _ROW and _decode(record.value or b"").definition == definition:
                tallies.setdefault(record.partition, RowTally()).count(record.value or b"")
    less = {(label, part): RowTally(-tally.rows, -tally.fingerprint % _CIRCLE) for part, tally in tallies.items()}
    async with database.transaction() as tx:
        await add_rows(tx, less)


async def _lead(
    store: PostgresStore, log: LoggedRecords, definition: ProjectDefinition, name: str, entries: list[OrderJournalled]
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
