"""PostgreSQL for one service: a pool whose connections see the service's schema, transactions, migrations."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import TypeAlias

import asyncpg

from mainstem.events.errors import Conflict, Rejected, Unavailable
from mainstem.storage.transaction import Transaction

Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

_PLATFORM = "mainstem.storage"
#: A schema that there is while the database is being filled.
_HALF_DONE = "half_restored"
#: What PostgreSQL and its client raise when the server is away, stopping or starting.
_AWAY = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what a connection says that was told the end and is not closed yet
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
)
_LOST_RACE = (asyncpg.UniqueViolationError, asyncpg.SerializationError, asyncpg.DeadlockDetectedError)


class Database:
    """One schema of a PostgreSQL database. Make it with `open_database`."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", schema: str) -> None:
        self.schema = schema
        self._pool = pool

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Run a transaction; commit at the end, roll back on any error.

        Raises Unavailable when the server is away (nothing is known about the commit then: repeat the whole work)
        and Conflict when somebody else wrote the same stream first.
        """
        try:
            async with self.connection() as connection, connection.transaction():
                tx = Transaction(connection)
                yield tx
                await tx.finish()
        except _LOST_RACE as fault:
            raise Conflict(f"schema {self.schema}: {fault}; read again and decide again") from fault
        for call in tx.after_commit:
            call()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection outside a transaction. Raises Unavailable."""
        try:
            async with self._pool.acquire() as connection:
                yield connection
        except _AWAY as fault:
            if _misused(fault):
                raise
            raise self._away(fault) from fault

    def _away(self, fault: Exception) -> BaseException:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            return asyncio.CancelledError()  # what failed was the way out of a block that was cancelled
        return Unavailable(f"PostgreSQL (schema {self.schema}) is away: {fault!r}")

    async def migrate(self, package: str) -> None:
        """Apply the migrations of the platform and of `package` that this schema has not seen, in order of name."""
        async with self.connection() as connection, connection.transaction():
            # Two processes of one service may start at once.
            await connection.execute("select pg_advisory_xact_lock(hashtext($1 || '.migration'))", self.schema)
            await connection.execute(f"create schema if not exists {self.schema}")
            await connection.execute("create table if not exists migration(name text primary key)")
            done = {row["name"] for row in await connection.fetch("select name from migration")}
            for name, sql in _migrations(package):
                if name not in done:
                    await connection.execute(sql)
                    await connection.execute("insert into migration values ($1)", name)

    async def set_half_done(self, half_done: bool) -> None:
        """Note that the database is being filled, so that nobody opens it; or that this is done."""
        statement = f"create schema if not exists {_HALF_DONE}" if half_done else f"drop schema {_HALF_DONE}"
        async with self.connection() as connection:
            await connection.execute(statement)

    async def is_half_done(self) -> bool:
        """Tell whether the database was begun to be filled, and is not done."""
        async with self.connection() as connection:
            return bool(await connection.fetchval("select to_regnamespace($1) is not null", _HALF_DONE))

    async def close(self) -> None:
        """Close all connections."""
        try:
            async with asyncio.timeout(3):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()


def _misused(fault: Exception) -> bool:
    """Tell a wrong number of arguments from a lost connection: asyncpg has one class for both."""
    return isinstance(fault, asyncpg.InterfaceError) and "the server expects" in str(fault)


def _migrations(package: str) -> list[tuple[str, str]]:
    platform = [entry for entry in files(_PLATFORM).joinpath("sql").iterdir() if entry.name[0].isdecimal()]
    own = [entry for entry in files(package).joinpath("migrations").iterdir() if entry.name.endswith(".sql")]
    named = sorted((f"platform/{entry.name}", entry.read_text()) for entry in platform)
    return named + sorted((entry.name, entry.read_text()) for entry in own)


async def open_database(
    url: str, schema: str, package: str, *, role: str | None = None, wait_s: float = 60
) -> Database:
    """Connect, create the schema if it is missing, bring it up to date, and return it.

    What is returned acts as `role`, which the migrations made; without one as whom the URL names, the owner.
    Waits up to `wait_s` for a server that is starting; raises Unavailable after that. Raises Rejected for a database
    that was begun to be filled and is not done.
    """
    deadline = asyncio.get_running_loop().time() + wait_s
    while True:
        try:
            database = Database(await _pool(url, schema), schema)
            if await database.is_half_done():
                await database.close()
                raise Rejected(
                    "this database is being restored, or that was interrupted: wait until `mainstem audit restore` is "
                    "done, or begin it anew with an empty broker, an empty database and no published log"
                )
            await database.migrate(package)
            if role is not None:
                await database.close()
                database = Database(await _pool(url, schema, role), schema)
        except (*_AWAY, Unavailable) as fault:
            if asyncio.get_running_loop().time() > deadline:
                raise Unavailable(f"PostgreSQL did not answer within {wait_s:.0f} s: {fault!r}") from fault
            await asyncio.sleep(0.2)
        else:
            return database


async def _pool(url: str, schema: str, role: str | None = None) -> "asyncpg.Pool[asyncpg.Record]":
    acting_as = {} if role is None else {"role": role}
    return await asyncpg.create_pool(
        url,
        min_size=1,
        max_size=6,
        init=_readable_json,
        server_settings={"search_path": schema, "application_name": f"mainstem-{schema}", **acting_as},
        command_timeout=60,
    )


async def _readable_json(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    for kind in ("json", "jsonb"):
        await connection.set_type_codec(kind, encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
