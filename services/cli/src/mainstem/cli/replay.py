"""Every service's tables, rebuilt from the log alone in an empty database: from the archive, or from a copy of it."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol, TypeVar
from urllib.parse import urlsplit

from mainstem.audit.log import Log
from mainstem.cli.archive import open_archive, open_schema
from mainstem.cli.folding import Folding, LeftOut, reads
from mainstem.cli.progress import bar
from mainstem.events.errors import Rejected
from mainstem.events.frames import Damaged, unframe
from mainstem.ledger import HASH_BYTES, Frontier, leaf_hash
from mainstem.ledger.tiles import WIDTH, Tile
from mainstem.ledger_service.domain import Placed, entries_of
from mainstem.ledger_service.store import Snapshot
from mainstem.storage import Database

T = TypeVar("T")

REPLAY_DATABASE: Final = "mainstem_replay"

#: Entries folded in one transaction, about.
_BATCH: Final = 10_000
_ROWS_AHEAD: Final = 2_000
#: Entries that were left out of a service's tables are named one by one up to so many.
_MOST_NAMED: Final = 100
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
#: How far each service's tables are, in the transaction that brought them there.
_PROGRESS: Final = (
    "create schema if not exists replay",
    "create table if not exists replay.log(root text primary key, size bigint not null)",
    "create table if not exists replay.progress(service text primary key, next_leaf bigint not null)",
    "create table if not exists replay.left_out(service text, place text, why text)",
)
_LEAVE_OUT: Final = "insert into replay.left_out values ($1, $2, $3)"
_ADVANCE: Final = """
insert into replay.progress values ($1, $2) on conflict (service) do update set next_leaf = excluded.next_leaf
"""


class History(Protocol):
    """A log that can be read in the order of its leaves."""

    @property
    def size(self) -> int:
        """Return the number of its entries."""

    @property
    def root(self) -> str:
        """Return the root over them, hexadecimal."""

    def entries(self, topics: Sequence[str], first: int) -> AsyncIterator[Sequence[Placed]]:
        """Yield the entries of topics (`prefix*` is a family) from a leaf on, some at a time."""

    async def tree(self) -> Frontier:
        """Return the tree over the leaf hashes."""


class Archive:
    """The platform's own archive, at one moment. Make it with `open_history`."""

    def __init__(self, snapshot: Snapshot, size: int, root: str) -> None:
        self._snapshot = snapshot
        self.size = size
        self.root = root

    async def entries(self, topics: Sequence[str], first: int) -> AsyncIterator[Sequence[Placed]]:
        """Yield a block at a time."""
        async for block in self._snapshot.blocks(topics):
            if block.first_leaf + block.count > first:
                placed = [Placed(block.first_leaf + at, entry) for at, entry in enumerate(entries_of(block))]
                yield [each for each in placed if each.leaf >= first]

    async def tree(self) -> Frontier:
        """Read every stored hash."""
        return await self._snapshot.tree()


class Copied:
    """A copy of the log. Raises Rejected when one of its entries was withheld: tables do not follow from a part."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.size = log.size
        self.root = log.checkpoint.root.hex()
        #: Of the bundle that is read.
        self._hashes = b""

    async def entries(self, topics: Sequence[str], first: int) -> AsyncIterator[Sequence[Placed]]:
        """Yield a bundle at a time."""
        due, found, wanted = first, list[Placed](), cache(partial(reads, topics))
        for leaf, entry in self._log.entries(first):
            if leaf != due:
                break
            due += 1
            self._check(leaf, entry)
            placed = Placed(leaf, unframe(self._log.frame(entry)))
            if wanted(placed.entry.topic):
                found.append(placed)
            if due % WIDTH == 0:
                yield found
                found = []
        if due != self.size:
            raise Rejected(f"leaf {due} was withheld from {self._log.folder}; this needs a copy of the whole log")
        yield found

    def _check(self, leaf: int, entry: bytes) -> None:
        """Raise Damaged for an entry that is not the one whose hash is in the tree."""
        if leaf % WIDTH == 0 or not self._hashes:
            try:
                self._hashes = self._log.tile(Tile.within(0, leaf // WIDTH, self.size))
            except OSError as fault:
                raise Damaged(f"the hashes of leaf {leaf} cannot be read: {fault}") from fault
        at = leaf % WIDTH * HASH_BYTES
        if leaf_hash(entry) != self._hashes[at : at + HASH_BYTES]:
            raise Damaged(f"leaf {leaf} is not as it was archived; run `mainstem audit verify {self._log.folder}`")

    async def tree(self) -> Frontier:
        """Read every tile of leaf hashes."""
        tree = Frontier()
        for index in self._log.bundles:
            tree = tree.append(self._log.tile(Tile.within(0, index, self.size)))
        return tree


@asynccontextmanager
async def open_history(copy: Path | None) -> AsyncIterator[History]:
    """Lend a copy, or without one the platform's archive as it is now."""
    if copy is not None:
        yield Copied(Log(copy))
        return
    async with open_archive() as store, store.snapshot() as snapshot:
        tree = (await snapshot.state()).frontier
        yield Archive(snapshot, tree.size, tree.root().hex())


@dataclass(frozen=True, slots=True)
class Digest:
    """The rows of a table, in a form that is equal for equal rows."""

    rows: int
    sha256: str


#: A table that is not there: its service was never started.
ABSENT: Final = Digest(0, "absent")


@dataclass(frozen=True, slots=True)
class Comparison:
    """A projection as the services keep it, and as the log alone gives it."""

    service: str
    table: str
    live: Digest
    rebuilt: Digest

    @property
    def equal(self) -> bool:
        """Whether they are the same, row by row."""
        return self.live == self.rebuilt


@dataclass(slots=True)
class Report:
    """What a replay found: the log it was of, the tables, and what was left out of them."""

    size: int
    root: str
    first_leaf: int = 0  #: where it began; not 0 when it went on after an interrupted one
    tables: list[Comparison] = field(default_factory=list)
    #: The first of each service.
    left_out: list[LeftOut] = field(default_factory=list)
    left_out_of: Counter[str] = field(default_factory=Counter)

    @property
    def equal(self) -> bool:
        """Whether every table is the same."""
        return all(each.equal for each in self.tables)


async def replay(
    copy: Path | None,
    services: Sequence[Folding],
    url: str,
    expected: Mapping[tuple[str, str], Digest] | None = None,
    *,
    resume: bool = False,
) -> Report:
    """Rebuild every projection from a log in an empty database beside the one at `url`, and compare.

    They are compared with the tables there, or with the digests by service and table that are `expected`.

    The empty database is made anew, unless an interrupted replay of the same log is to be resumed, and left for who
    wants to look into a difference. Services should be at rest meanwhile.
    Raises Rejected when there is nothing to resume, or the log is another one.
    """
    async with AsyncExitStack() as stack:
        history = await stack.enter_async_context(open_history(copy))
        live = await stack.enter_async_context(open_schema(url, "ledger", "mainstem.ledger_service"))
        if not resume:
            await _make_empty(live)
        other = urlsplit(url)._replace(path=f"/{REPLAY_DATABASE}").geturl()
        targets = {
            service.service: await stack.enter_async_context(open_schema(other, service.service, service.package))
            for service in services
        }
        report = Report(history.size, history.root)
        await _begin(next(iter(targets.values())), history, resume=resume)
        await rebuild(history, services, targets, report)
        for service in services:
            await _left_out(targets[service.service], service.service, report)
            for table in service.tables:
                place = service.service, table
                known = await digest(live, *place) if expected is None else expected.get(place, ABSENT)
                made = await digest(targets[service.service], *place)
                report.tables.append(Comparison(*place, known, made))
        there = {(table.service, table.table) for table in report.tables} | {("ledger", "tree")}
        lacking = sorted((expected or {}).keys() - there)
        report.tables += [Comparison(*place, (expected or {})[place], ABSENT) for place in lacking]
        tree = await history.tree()
        stored, found = Digest(history.size, history.root), Digest(tree.size, tree.root().hex())
        report.tables.append(Comparison("ledger", "tree", stored, found))
    return report


async def _make_empty(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute(f"drop database if exists {REPLAY_DATABASE} with (force)")
        await connection.execute(f"create database {REPLAY_DATABASE}")


async def _begin(database: Database, history: History, *, resume: bool) -> None:
    """Write down which log is replayed; raise Rejected when that is not the one to go on with."""
    async with database.transaction() as tx:
        for statement in _PROGRESS:
            await tx.execute(statement)
        rows = await tx.fetch("select root, size from replay.log")
        if resume and [row["root"] for row in rows] != [history.root]:
            was = f"it was of {rows[0]['size']} entries, root {rows[0]['root']}" if rows else "there was none"
            raise Rejected(f"no replay of this log to go on with ({was}); start anew without --resume")
        await tx.execute("insert into replay.log values ($1, $2) on conflict do nothing", history.root, history.size)


async def rebuild(
    history: History, services: Sequence[Folding], targets: Mapping[str, Database], report: Report
) -> None:
    """Fold a log in leaf order into the tables of each service; what was folded before is passed over."""
    next_leaves = {service: await _next_leaf(target, service) for service, target in targets.items()}
    report.first_leaf = done = min(next_leaves.values())
    readers = _Readers(services)
    with bar("replaying", history.size - done) as advance:
        async for batch in batches(history.entries(readers.topics, done)):
            shares: dict[str, list[Placed]] = {service.service: [] for service in services}
            for placed in batch:
                for service in readers[placed.entry.topic]:
                    if placed.leaf >= next_leaves[service.service]:
                        shares[service.service].append(placed)
            for service in services:
                await _fold(service, targets[service.service], shares[service.service], batch[-1].leaf + 1)
            advance(batch[-1].leaf + 1 - done)
            done = batch[-1].leaf + 1
        advance(history.size - done)


async def fold_all(history: History, services: Sequence[Folding], targets: Mapping[str, Database]) -> Report:
    """Fold a log into the tables of each service, which are empty."""
    report, notes = Report(history.size, history.root), next(iter(targets.values()))
    await _begin(notes, history, resume=False)
    await rebuild(history, services, targets, report)
    for service in services:
        await _left_out(targets[service.service], service.service, report)
    async with notes.transaction() as tx:
        await tx.execute("drop schema replay cascade")
    return report


class _Readers(dict[str, list[Folding]]):
    """The services whose tables depend on a topic, by the topic."""

    def __init__(self, services: Sequence[Folding]) -> None:
        super().__init__()
        self._services = services
        self.topics = sorted({topic for service in services for topic in service.topics})

    def __missing__(self, topic: str) -> list[Folding]:
        self[topic] = [service for service in self._services if service.reads(topic)]
        return self[topic]


async def _fold(service: Folding, target: Database, entries: Sequence[Placed], next_leaf: int) -> None:
    """Fold some entries into the tables of a service, in one transaction with how far that is."""
    async with target.transaction() as tx:
        left_out = await service.fold(tx, entries) if entries else []
        await tx.connection.executemany(_LEAVE_OUT, left_out)
        await tx.execute(_ADVANCE, service.service, next_leaf)


async def _left_out(database: Database, service: str, report: Report) -> None:
    """Read what was left out of the tables of a service, by this replay or the one that it goes on with."""
    async with database.transaction() as tx:
        rows = await tx.fetch("select service, place, why from replay.left_out where service = $1", service)
    report.left_out += [LeftOut(*row) for row in rows[:_MOST_NAMED]]
    report.left_out_of[service] = len(rows)


async def _next_leaf(database: Database, service: str) -> int:
    async with database.transaction() as tx:
        rows = await tx.fetch("select next_leaf from replay.progress where service = $1", service)
    return int(rows[0]["next_leaf"]) if rows else 0


async def batches(parts: AsyncIterator[Sequence[T]]) -> AsyncIterator[list[T]]:
    """Yield what comes in parts, some ten thousand at a time."""
    batch: list[T] = []
    async for part in parts:
        batch += part
        if len(batch) >= _BATCH:
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
