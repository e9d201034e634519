"""Is the archive as it was written, and are the services' tables what it says? Verification and replay."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Final
from urllib.parse import urlsplit

from mainstem.cli.archive import open_archive, open_schema
from mainstem.cli.connection import setting
from mainstem.cli.local import graph
from mainstem.cli.progress import bar
from mainstem.events.catalogue import Record, decode
from mainstem.events.envelope import Event
from mainstem.events.errors import Rejected, Undecodable
from mainstem.ledger_service.domain import Block, entries_of
from mainstem.ledger_service.engine import Audit, Verdict
from mainstem.ledger_service.store import PostgresStore, Snapshot
from mainstem.storage import Database, Transaction

REPLAY_DATABASE: Final = "mainstem_replay"

#: Records folded in one transaction, about.
_BATCH: Final = 10_000
_ROWS_AHEAD: Final = 2_000
#: Builds the query of a table's rows as text in the order of their keys, the same in every database.
_ROWS_OF: Final = """
select format('select t::text from %I.%I t order by row(%s)::text collate "C"', n.nspname, c.relname,
              coalesce(string_agg(format('t.%I', a.attname), ', ' order by array_position(i.indkey, a.attnum)), 't'))
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  left join pg_index i on i.indrelid = c.oid and i.indisprimary
  left join pg_attribute a on a.attrelid = c.oid and a.attnum = any(i.indkey)
 where n.nspname = $1 and c.relname = $2 and c.relkind = 'r'
 group by n.nspname, c.relname
"""


async def verify() -> Verdict:
    """Read every block and hash every entry again."""
    async with open_archive() as store, store.snapshot() as archive:
        state = await archive.state()
        audit = Audit()
        with bar("verifying", state.frontier.size) as advance:
            async for block in archive.blocks():
                audit.take(block)
                advance(block.count)
        return audit.finish(state.frontier)


@dataclass(frozen=True, slots=True)
class Digest:
    """The rows of a table, in a form that is equal for equal rows."""

    rows: int
    sha256: str


#: A table that is not there: its service was never started.
ABSENT: Final = Digest(0, "absent")


@dataclass(frozen=True, slots=True)
class Comparison:
    """A projection as the services keep it, and as the archive alone gives it."""

    service: str
    table: str
    live: Digest
    rebuilt: Digest

    @property
    def equal(self) -> bool:
        """Whether they are the same, row by row."""
        return self.live == self.rebuilt


@dataclass(frozen=True, slots=True)
class Folding:
    """How the tables of one service come from the log: what its `store` module exports."""

    service: str
    package: str
    store: ModuleType

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that are folds of the log."""
        return tuple(self.store.PROJECTIONS)

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics they fold; `prefix.*` is a family."""
        return tuple(self.store.TOPICS)

    def reads(self, topic: str) -> bool:
        """Tell whether the tables depend on a topic."""
        return any(topic.startswith(t[:-1]) if t.endswith("*") else topic == t for t in self.topics)

    async def fold(self, tx: Transaction, records: Sequence[Record]) -> None:
        """Fold records in their order; what is no event was parked by the service and is left out here too."""
        if not hasattr(self.store, "apply_records"):
            for event in _events(records).values():
                with suppress(Rejected):
                    async with tx.savepoint():
                        await self.store.apply(tx, event)
            return
        try:
            async with tx.savepoint():
                await self.store.apply_records(tx, records)
        except Rejected:
            for at in _events(records):
                with suppress(Rejected):
                    async with tx.savepoint():
                        await self.store.apply_records(tx, [records[at]])


def _events(records: Sequence[Record]) -> dict[int, Event]:
    """Return the events among records, by their place."""
    found = {}
    for place, record in enumerate(records):
        with suppress(Undecodable):
            found[place] = decode(record)
    return found


def foldings() -> Iterator[Folding]:
    """Yield every service whose tables are folds of the log."""
    for service in graph.SERVICES.values():
        name = f"mainstem.{service.package}.store"
        store = import_module(name) if find_spec(name) else None
        if store is not None and hasattr(store, "PROJECTIONS"):
            yield Folding(service.name, f"mainstem.{service.package}", store)


async def replay(services: Sequence[Folding]) -> list[Comparison]:
    """Rebuild every projection from the archive in an empty database beside the platform's, and compare.

    The ledger's own row compares the stored root with the one over the archived leaf hashes. The empty database is made
    anew each time and left for who wants to look into a difference. Services should be at rest meanwhile.
    """
    url = setting("MAINSTEM_DATABASE_URL")
    async with AsyncExitStack() as stack:
        live = await stack.enter_async_context(open_schema(url, "ledger", "mainstem.ledger_service"))
        await _make_empty(live)
        other = urlsplit(url)._replace(path=f"/{REPLAY_DATABASE}").geturl()
        rebuilt = {
            service.service: await stack.enter_async_context(open_schema(other, service.service, service.package))
            for service in services
        }
        async with PostgresStore(live).snapshot() as archive:
            tree = await _compare_trees(archive)
            await rebuild(archive, services, rebuilt)
        compared = [
            Comparison(
                service.service,
                table,
                await digest(live, service.service, table),
                await digest(rebuilt[service.service], service.service, table),
            )
            for service in services
            for table in service.tables
        ]
    return [*compared, tree]


async def _compare_trees(archive: Snapshot) -> Comparison:
    stored, found = (await archive.state()).frontier, await archive.tree()
    return Comparison(
        "ledger", "tree", Digest(stored.size, stored.root().hex()), Digest(found.size, found.root().hex())
    )


async def _make_empty(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute(f"drop database if exists {REPLAY_DATABASE} with (force)")
        await connection.execute(f"create database {REPLAY_DATABASE}")


async def rebuild(archive: Snapshot, services: Sequence[Folding], targets: dict[str, Database]) -> None:
    """Fold the archive's records in leaf order into the tables of each service."""
    topics = sorted({topic for service in services for topic in service.topics})
    with bar("replaying", await archive.count(topics)) as advance:
        async for batch in _batches(archive.blocks(topics)):
            entries = [(block.topic, entries_of(block)) for block in batch]
            for service in services:
                records = [entry for topic, found in entries if service.reads(topic) for entry in found]
                if records:
                    async with targets[service.service].transaction() as tx:
                        await service.fold(tx, records)
            advance(sum(block.count for block in batch))


async def _batches(blocks: AsyncIterator[Block]) -> AsyncIterator[list[Block]]:
    batch: list[Block] = []
    async for block in blocks:
        batch.append(block)
        if sum(each.count for each in batch) >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


async def digest(database: Database, schema: str, table: str) -> Digest:
    """Return count and SHA-256 of a table's rows as text, each behind its length, in the order of the primary key."""
    found, rows = sha256(), 0
    async with database.transaction() as tx:
        query = await tx.connection.fetchval(_ROWS_OF, schema, table)
        if query is None:
            return ABSENT
        async for (text,) in tx.connection.cursor(query, prefetch=_ROWS_AHEAD):
            row = text.encode()
            found.update(len(row).to_bytes(8, "big") + row)
            rows += 1
    return Digest(rows, found.hexdigest())
