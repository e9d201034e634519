"""The running service may append and nothing else: its role has no right to change what it archived."""

from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from mainstem.events.frames import Entry
from mainstem.ledger_service.engine import Verdict
from mainstem.ledger_service.publishing import Publisher
from mainstem.ledger_service.store import ROLE, PostgresStore
from mainstem.storage import Database, Outbox, open_database

pytestmark = pytest.mark.real

Write = Callable[..., list[Entry]]
Audited = Callable[[PostgresStore], Awaitable[Verdict]]


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[Database]:
    """Return the database as the running service has it."""
    database = await open_database(database_url, "ledger", "mainstem.ledger_service", role=ROLE)
    yield database
    await database.close()


async def test_it_archives_publishes_and_relays(
    service: Database, write: Write, publisher: Publisher, audited: Audited
) -> None:
    store = PostgresStore(service)
    await store.archive(write(range(10)))
    await store.archive(write(range(20)))
    assert await publisher.publish(store) is not None
    outbox = Outbox(service, "ledger")
    await outbox.advance(len(await outbox.next_messages(100)))
    assert await outbox.next_messages(100) == []
    assert ((await audited(store)).holds, (await audited(store)).size) == (True, 20)


TABLES = ("block", "checkpoint", "sealed")
REFUSED = sorted(
    [
        "update block set frames = frames",
        "update checkpoint set note = note",
        "update sealed set address = address",
        "insert into sealed values (0, 1, 'sha256:')",
        *(f"delete from {table}" for table in TABLES),
        *(f"truncate {table}" for table in TABLES),
        *(f"alter table {table} disable trigger append_only" for table in TABLES),
        *(f"alter table {table} disable trigger all" for table in TABLES),
        *(f"drop trigger append_only on {table}" for table in TABLES),
        *(f"alter table {table} owner to current_user" for table in TABLES),
        *(f"drop table {table}" for table in TABLES),
        "create or replace function refuse_change() returns trigger language plpgsql as $$ begin return null; end $$",
        "drop function refuse_change cascade",
        "drop schema ledger cascade",
        "set session_replication_role = replica",
        "delete from migration",
        "create table another()",
    ]
)


@pytest.mark.parametrize("change", REFUSED)
async def test_it_may_not_change_what_it_archived(
    service: Database, write: Write, publisher: Publisher, audited: Audited, change: str
) -> None:
    store = PostgresStore(service)
    await store.archive(write(range(10)))
    await publisher.publish(store)
    async with service.connection() as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(change)
    assert (await audited(store)).size == 10


async def test_it_stays_what_it_is_when_a_connection_is_reset(service: Database) -> None:
    for reset in ("reset role", "reset all", "reset session authorization"):
        async with service.connection() as connection:
            await connection.execute(reset)
            assert await connection.fetchval("select current_user") == ROLE
