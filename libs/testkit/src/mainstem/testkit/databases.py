"""Schemas of a test's own on a real PostgreSQL, and what their tables hold."""

import contextlib
from collections.abc import AsyncIterator, Sequence

from mainstem.storage import Database, open_database

#: A table as the sorted texts of its rows, so that tables of any shape can be compared.
_ROWS = "select coalesce(array_agg(t::text order by t::text), '{{}}') as rows from {} t"


@contextlib.asynccontextmanager
async def opened(url: str, schema: str, package: str) -> AsyncIterator[Database]:
    """Open a schema with the migrations of a package for as long as the block lasts."""
    database = await open_database(url, schema, package)
    try:
        yield database
    finally:
        await database.close()


async def tables(database: Database, names: Sequence[str]) -> dict[str, list[str]]:
    """Return the rows of each table as sorted texts, all as of one moment."""
    async with database.connection() as connection, connection.transaction(isolation="repeatable_read"):
        return {name: await connection.fetchval(_ROWS.format(name)) for name in names}
