"""Transactions, outbox, positions and migrations on the real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import asyncpg
import pytest

from mainstem.events.envelope import Event, Message, begin
from mainstem.events.errors import Conflict, Rejected, Unavailable
from mainstem.events.fence import Position
from mainstem.events.training import RunFailed
from mainstem.storage import Checkpoint, Database, Outbox, Transaction, load_checkpoint, load_snapshot, open_database
from mainstem.testkit.examples import example
from mainstem.testkit.records import Taken

pytestmark = pytest.mark.real

SCHEMA, PACKAGE = "trial", "mainstem.ingestion"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await open_database(database_url, SCHEMA, PACKAGE)
    yield database
    await database.close()


def event(number: int, model: str = "m") -> Event:
    return begin(example(RunFailed, model=model), command_id=f"{model}{number}", source="/t", actor="a", recorded_us=0)


async def append(database: Database, *events: Event) -> None:
    async with database.transaction() as tx:
        await tx.append(events)


async def drain(outbox: Outbox, limit: int = 100) -> list[Message]:
    """Return everything behind the cursor and move it."""
    found: list[Message] = []
    while messages := await outbox.next_messages(limit):
        found += messages
        await outbox.advance(len(messages))
    return found


def ids(messages: Sequence[Message]) -> list[str]:
    return [dict(message.headers)["ce_id"].decode() for message in messages]


async def count(database: Database, table: str) -> int:
    async with database.connection() as connection:
        return int(await connection.fetchval(f"select count(*) from {table}"))


async def test_migrations_are_applied_once_even_by_two_that_start_together(database_url: str) -> None:
    opened = await asyncio.gather(*(open_database(database_url, SCHEMA, PACKAGE) for _ in range(2)))
    again = await open_database(database_url, SCHEMA, PACKAGE)
    assert await count(again, "migration") == 3
    assert await count(again, "relay_cursor") == 1
    for database in (*opened, again):
        await database.close()


async def test_a_statement_used_wrongly_is_a_fault_and_not_a_server_that_is_away(database: Database) -> None:
    with pytest.raises(asyncpg.InterfaceError, match="expects 1 argument"):
        async with database.transaction() as tx:
            await tx.fetch("select $1::int")


async def test_each_service_sees_its_own_schema(database_url: str, database: Database) -> None:
    other = await open_database(database_url, "other", "mainstem.features")
    await append(database, event(1))
    assert (await count(database, "event_log"), await count(other, "event_log")) == (1, 0)
    await other.close()


async def test_a_record_is_admitted_once_and_only_by_a_transaction_that_commits(database: Database) -> None:
    records = [Taken("evt.a", 0, offset, headers=(("ce_origin", b"a/%d" % offset),)) for offset in range(3)]
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as tx:
            assert await tx.admit(records) == records
            raise ZeroDivisionError
    async with database.transaction() as tx:
        assert await tx.admit(records[:2]) == records[:2]
    async with database.transaction() as tx:
        assert await tx.admit(records) == records[2:]
    assert await load_checkpoint(database) == Checkpoint({("evt.a", 0): Position(3, {"a": 2})})


async def test_positions_and_the_state_that_belongs_to_them_are_kept_together(database: Database) -> None:
    positions = {("t", 0): Position(7, {"s/1": 5}), ("t", 1): Position(2)}
    async with database.transaction() as tx:
        await tx.save_positions(positions, {("t", 0): b"\x00state"})
    async with database.transaction() as tx:
        await tx.save_positions({("t", 0): Position(8, {"s/1": 6})})
    stored = await load_checkpoint(database)
    assert stored == Checkpoint({**positions, ("t", 0): Position(8, {"s/1": 6})}, {("t", 0): b"\x00state"})


async def test_a_snapshot_is_the_last_one_stored(database: Database) -> None:
    for state in (b"one", b"two"):
        async with database.transaction() as tx:
            await tx.save_snapshot("fold", state)
    assert (await load_snapshot(database, "fold"), await load_snapshot(database, "none")) == (b"two", None)


async def test_appending_twice_is_appending_once(database: Database) -> None:
    await append(database, event(1), event(1))
    await append(database, event(1))
    assert ids(await drain(Outbox(database, "t"))) == [event(1).envelope.id]


async def test_an_appended_event_is_found_again(database: Database) -> None:
    await append(database, event(1))
    async with database.transaction() as tx:
        assert await tx.find(event(1).envelope.id) == event(1)
        assert await tx.find("unknown") is None


async def test_what_is_rolled_back_is_never_published(database: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as tx:
            await tx.append([event(1)])
            raise ZeroDivisionError
    await append(database, event(2))
    assert ids(await drain(Outbox(database, "t"))) == [event(2).envelope.id]


async def test_messages_carry_rising_origins_of_one_incarnation(database: Database) -> None:
    await append(database, *(event(n) for n in range(5)))
    origins = [dict(m.headers)["ce_origin"].decode() for m in await drain(Outbox(database, "trainer"), limit=2)]
    streams, numbers = zip(*(origin.rsplit("/", 1) for origin in origins), strict=True)
    assert len(set(streams)) == 1
    assert streams[0].startswith("trainer@")
    assert [int(n) for n in numbers] == sorted({int(n) for n in numbers})


async def test_a_crash_between_publishing_and_advancing_repeats_the_same_messages(database: Database) -> None:
    await append(database, event(1), event(2))
    first = await Outbox(database, "t").next_messages(10)
    assert await Outbox(database, "t").next_messages(10) == first
    assert ids(first) == [event(1).envelope.id, event(2).envelope.id]


async def test_a_later_event_that_commits_earlier_is_published_earlier(database: Database) -> None:
    outbox = Outbox(database, "t")
    async with database.transaction() as slow:
        await slow.append([event(1, "slow")])
        await append(database, event(1, "fast"))
        assert ids(await drain(outbox)) == [event(1, "fast").envelope.id]
    assert ids(await drain(outbox)) == [event(1, "slow").envelope.id]


async def test_two_writers_of_one_stream_at_once_conflict_and_the_loser_decides_again(database: Database) -> None:
    entered = asyncio.Event()

    async def second() -> None:
        await entered.wait()
        await append(database, event(2))

    async def first() -> asyncio.Task[None]:
        async with database.transaction() as tx:
            await tx.append([event(1)])
            task = asyncio.create_task(second())
            entered.set()
            await blocked(database)
        return task

    with pytest.raises(Conflict, match="read again and decide again"):
        await (await first())
    await append(database, event(2))
    assert ids(await drain(Outbox(database, "t"))) == [event(1).envelope.id, event(2).envelope.id]


async def blocked(database: Database) -> None:
    """Return when a transaction waits for another."""
    query = "select exists(select from pg_locks where not granted)"
    async with database.connection() as connection, asyncio.timeout(10):
        while not await connection.fetchval(query):  # noqa: ASYNC110  # another connection's lock has no event to set
            await asyncio.sleep(0.005)


async def test_many_writers_lose_nothing_and_keep_the_order_of_each_stream(database: Database) -> None:
    async def write(model: str) -> None:
        for number in range(10):
            await append(database, event(number, model))

    await asyncio.gather(*(write(model) for model in "abc"))
    published = ids(await drain(Outbox(database, "t"), limit=7))
    for model in "abc":
        wanted = [event(number, model).envelope.id for number in range(10)]
        assert [found for found in published if found in wanted] == wanted


async def test_waiting_ends_when_an_event_is_appended(database: Database) -> None:
    waiting = asyncio.create_task(Outbox(database, "t").wait(30))
    await append(database, event(1))
    async with asyncio.timeout(5):
        await waiting
    async with asyncio.timeout(5):
        await Outbox(database, "t").wait(30)


async def test_a_savepoint_undoes_its_own_work_alone(database: Database) -> None:
    calls: list[str] = []

    async def half(tx: Transaction) -> None:
        await tx.append([event(2)])
        tx.after_commit.append(lambda: calls.append("undone"))
        raise Rejected("not this one")

    async with database.transaction() as tx:
        await tx.append([event(1)])
        tx.after_commit.append(lambda: calls.append("kept"))
        with pytest.raises(Rejected):
            async with tx.savepoint():
                await half(tx)
    assert ids(await drain(Outbox(database, "t"))) == [event(1).envelope.id]
    assert calls == ["kept"]


async def test_a_record_of_any_bytes_can_be_parked(database: Database) -> None:
    poison = Taken("evt.a", 0, 3, b"\x00\xff", None, (("ce_id\0", b"\x00\xff"),))
    async with database.transaction() as tx:
        await tx.park(poison, "no event: \0")
        await tx.park(poison, "twice")
    async with database.connection() as connection:
        row = await connection.fetchrow("select * from parked")
    assert row is not None
    assert (row["reason"], row["payload"]) == ("no event: \ufffd", b"\x00\xff")


async def test_a_record_with_a_header_that_is_null_can_be_parked(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.park(Taken(headers=(("ce_id", None),)), "why")  # type: ignore[arg-type]
    async with database.connection() as connection:
        assert await connection.fetchval("select headers from parked") == [["ce_id", ""]]


async def test_each_that_cannot_take_a_record_keeps_its_own_reason(database: Database) -> None:
    for taker, reason in (("one", "too late"), ("another", "too early"), ("one", "told again")):
        async with database.transaction() as tx:
            await tx.park(Taken(), reason, taker)
    async with database.connection() as connection:
        rows = await connection.fetch("select taker, reason from parked order by seq")
    assert [tuple(row) for row in rows] == [("one", "too late"), ("another", "too early")]


async def test_what_was_parked_before_takers_were_told_apart_is_kept(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute("alter table parked drop column taker, drop column seq")
        await connection.execute('alter table parked add primary key (topic, part, "offset")')
        await connection.execute("insert into parked values ('evt.a', 0, 3, 'why', '[]', null)")
        await connection.execute("delete from migration where name = 'platform/0002_parked.sql'")
    await database.migrate(PACKAGE)
    async with database.connection() as connection:
        row = await connection.fetchrow('select topic, part, "offset", reason, taker from parked')
    assert row is not None
    assert tuple(row) == ("evt.a", 0, 3, "why", "")


async def test_a_server_that_went_away_is_unavailable(database: Database) -> None:
    with pytest.raises(Unavailable, match="schema trial"):
        async with database.transaction() as tx:
            await tx.execute("select pg_terminate_backend(pg_backend_pid())")
    async with database.connection() as connection:
        assert await connection.fetchval("select 1") == 1


async def test_a_closed_database_is_unavailable(database_url: str) -> None:
    database = await open_database(database_url, SCHEMA, PACKAGE)
    await database.close()
    with pytest.raises(Unavailable):
        async with database.connection():
            pass


async def test_a_server_that_does_not_come_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="did not answer within 0 s"):
        await open_database("postgresql://nobody:nothing@127.0.0.1:9/none", SCHEMA, PACKAGE, wait_s=0)


async def test_a_query_that_is_wrong_is_neither(database: Database) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        async with database.transaction() as tx:
            await tx.execute("select * from nothing_of_this_name")
    with pytest.raises(asyncpg.DataError, match="invalid input for query argument"):
        async with database.transaction() as tx:
            await tx.fetch("select $1::int", "no number")
