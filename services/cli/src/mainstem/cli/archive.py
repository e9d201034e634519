"""The ledger's archive as commands read it: straight from the database, whether services run or not."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mainstem.cli.connection import setting
from mainstem.cli.local.errors import LocalError
from mainstem.ledger_service.store import PostgresStore
from mainstem.storage import Artifacts, Database, open_database

_WAIT_S = 3.0


@asynccontextmanager
async def open_schema(url: str, schema: str, package: str) -> AsyncIterator[Database]:
    """Lend a schema, brought up to date. Raises Unavailable when PostgreSQL does not answer."""
    database = await open_database(url, schema, package, wait_s=_WAIT_S)
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def open_archive() -> AsyncIterator[PostgresStore]:
    """Lend the archive of the platform. Raises NotRunning without a platform, Unavailable without its PostgreSQL."""
    async with open_schema(setting("MAINSTEM_DATABASE_URL"), "ledger", "mainstem.ledger_service") as database:
        yield PostgresStore(database, _artifacts())


def _artifacts() -> Artifacts | None:
    """Return the artifacts of the platform; None where a database alone is given."""
    try:
        return Artifacts(Path(setting("MAINSTEM_ARTIFACTS")))
    except LocalError:
        return None
