"""Ingestion on the real PostgreSQL: its tables are folds of what it published, whatever crashed meanwhile."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from mainstem.events.fence import Fence
from mainstem.events.record import Record
from mainstem.ingestion.engine import Judge
from mainstem.ingestion.handlers import Intake
from mainstem.ingestion.store import PROJECTIONS, PostgresStore, apply_records, set_project
from mainstem.storage import Database, load_checkpoint, open_database
from mainstem.telemetry import Tracer
from mainstem.testkit.projects import applied, orders, shop
from mainstem.testkit.records import Log, Taken

pytestmark = pytest.mark.real

JUDGES = {"src.orders": Judge(orders(), Tracer("test", None))}
GOOD = b'{"shop":"a","amount":1}'


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await open_database(database_url, "ingestion", "mainstem.ingestion")
    yield database
    await database.close()


@pytest.fixture
async def replayed(database_url: str) -> AsyncIterator[Database]:
    """Return a schema in which only the log is applied."""
    database = await open_database(database_url, "replayed", "mainstem.ingestion")
    yield database
    await database.close()


def sent(first: int, last: int, *, partition: int = 0, **headers: str) -> list[Taken]:
    """Return records of which every third is broken and every fifth has a NUL in all it says of itself."""
    odd = {"ce_id": "\0", "ce_correlationid": "a\0b"}
    return [
        Taken(
            "src.orders",
            partition,
            offset,
            b'{"sh\\u0000p":1}' if offset % 3 == 0 else GOOD,
            b"a",
            tuple((name, text.encode()) for name, text in {**(odd if offset % 5 == 0 else {}), **headers}.items()),
        )
        for offset in range(first, last)
    ]


async def started(database: Database) -> Intake:
    """Return an intake as a process that just started has it."""
    checkpoint = await load_checkpoint(database)
    return Intake(JUDGES, Fence(checkpoint.positions), dict(checkpoint.states))


async def tables(database: Database) -> dict[str, list[Any]]:
    async with database.connection() as connection:
        return {
            name: [tuple(row) for row in await connection.fetch(f"select * from {name} order by 1, 2")]
            for name in PROJECTIONS
        }


async def replay(records: Sequence[Record], database: Database) -> None:
    for number in range(0, len(records), 7):
        async with database.transaction() as tx:
            await apply_records(tx, await tx.admit(records[number : number + 7]))


async def test_the_tables_are_what_the_log_says_even_after_crashes(database: Database, replayed: Database) -> None:
    log, store = Log(), PostgresStore(database)
    for begin, saved, lost in ((0, 10, 17), (10, 25, 25), (25, 40, 43)):
        intake = await started(database)
        await intake.on_records([*sent(begin, saved), *sent(begin, saved, partition=1)], publisher=log)
        await intake.checkpoint(store)
        # Published, not stored: the process is gone, and the next one does it again.
        await intake.on_records(sent(saved, lost), publisher=log)
    last = await started(database)
    await last.on_records(sent(40, 50), publisher=log)
    await last.checkpoint(store)
    await replay(log.records, replayed)
    assert await tables(replayed) == await tables(database)
    assert [row[:4] for row in (await tables(database))["tally"]] == [("orders", 0, 28, 22), ("orders", 1, 22, 18)]


async def test_a_commit_that_nobody_heard_of_is_not_counted_twice(database: Database) -> None:
    intake, store = await started(database), PostgresStore(database)
    await intake.on_records(sent(0, 20), publisher=Log())
    progress = intake._progress()
    await store.save(progress)
    before = await tables(database)
    await store.save(progress)
    assert await tables(database) == before


async def test_nothing_is_stored_when_nothing_came(database: Database) -> None:
    await (await started(database)).checkpoint(PostgresStore(database))
    assert (await load_checkpoint(database)).positions == {}


async def test_a_record_that_is_read_again_is_dropped(database: Database) -> None:
    log, intake = Log(), await started(database)
    for _ in range(2):
        await intake.on_records(sent(0, 10), publisher=log)
    assert len(log.records) == 10


async def test_the_quarantine_is_listed_the_newest_first_and_found_by_a_prefix(database: Database) -> None:
    intake, store = await started(database), PostgresStore(database)
    await intake.on_records(sent(0, 20), publisher=Log())
    await intake.checkpoint(store)
    rows = await store.quarantined(source="orders", reason="missing_field", status="open", limit=3)
    assert len(rows) == 3
    found = await store.find(str(rows[0]["quarantine_id"])[:12])
    assert found is not None
    assert found["quarantine_id"] == rows[0]["quarantine_id"]
    assert [await store.find(prefix) for prefix in ("", "%", "_" * 32, "unknown")] == [None] * 4


async def test_a_correction_closes_the_quarantined_record(database: Database, replayed: Database) -> None:
    log, intake, store = Log(), await started(database), PostgresStore(database)
    await intake.on_records(sent(0, 1), publisher=log)
    await intake.checkpoint(store)
    ((quarantine_id, *_),) = (await tables(database))["quarantined"]
    await intake.on_records(sent(1, 2, ce_replaces=quarantine_id), publisher=log)
    await intake.checkpoint(store)
    assert len(await store.quarantined(source=None, reason=None, status="redriven", limit=9)) == 1
    assert await store.quarantined(source=None, reason=None, status="open", limit=9) == []
    await replay(log.records, replayed)
    assert await tables(replayed) == await tables(database)


async def test_the_definition_in_force_is_the_last_one_applied(database: Database) -> None:
    for definition in (shop(), shop(window="2h")):
        async with database.transaction() as tx:
            await set_project(tx, applied(definition))
    assert [definition.id for definition in await PostgresStore(database).definitions()] == [shop(window="2h").id]
