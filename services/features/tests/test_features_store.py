"""The feature service's tables on the real PostgreSQL are folds of what it published, whatever crashed meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from services.features.tests.features_history import ANNOUNCED, Kept, Process

from mainstem.features.ports import Progress
from mainstem.features.store import PROJECTIONS, PostgresStore, apply_records, set_project
from mainstem.storage import Database, load_checkpoint, open_database
from mainstem.testkit.projects import applied, shop

pytestmark = pytest.mark.real


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await open_database(database_url, "features", "mainstem.features")
    yield database
    await database.close()


@pytest.fixture
async def replayed(database_url: str) -> AsyncIterator[Database]:
    """Return a schema in which only the log is applied."""
    database = await open_database(database_url, "replayed", "mainstem.features")
    yield database
    await database.close()


async def tables(database: Database) -> dict[str, list[Any]]:
    async with database.connection() as connection:
        return {
            name: [tuple(row) for row in await connection.fetch(f"select * from {name} order by 1, 2, 3")]
            for name in PROJECTIONS
        }


class Both(Kept):
    """Keeps progress where a restarted process looks for it, and in the database."""

    def __init__(self, kept: Kept, store: PostgresStore) -> None:
        super().__init__(kept.states)
        self._store = store

    async def save(self, progress: Progress) -> None:
        """Keep it in both places."""
        await self._store.save(progress)
        await super().save(progress)


async def test_the_tables_are_what_the_log_says_even_after_crashes(database: Database, replayed: Database) -> None:
    process = Process(ANNOUNCED)
    store = Both(process.store, PostgresStore(database))
    for count in (3, 2, 4):
        for place in ANNOUNCED:
            await process.poll(place, count)
        await process.checkpoint(store)
        # Published, not stored: the process is gone, and the next one does it again.
        for place in ANNOUNCED:
            await process.poll(place, 2)
        process.restart()
    await process.finish(store)
    records = process.log.records
    for number in range(0, len(records), 7):
        async with replayed.transaction() as tx:
            await apply_records(tx, await tx.admit(records[number : number + 7]))
    assert await tables(replayed) == await tables(database)
    assert len((await tables(database))["journal"]) == 3


async def test_a_commit_that_nobody_heard_of_is_not_counted_twice(database: Database) -> None:
    process, store = Process(ANNOUNCED), PostgresStore(database)
    await process.finish()
    (progress,) = process.store.states.values()
    await store.save(progress)
    before = await tables(database)
    await store.save(progress)
    assert await tables(database) == before
    assert await store.state(progress.definition) == progress.state
    assert await store.state("sha256:other") is None


async def test_the_definition_in_force_is_the_last_one_applied(database: Database) -> None:
    for definition in (shop(), shop(window="2h")):
        async with database.transaction() as tx:
            await set_project(tx, applied(definition))
    assert [definition.id for definition in await PostgresStore(database).definitions()] == [shop(window="2h").id]


async def test_one_process_at_a_time_checks_a_set_and_any_other_when_it_was_silent_for_too_long(
    database: Database,
) -> None:
    store = PostgresStore(database)
    first = [await store.turn("sha256:a", instance) for instance in ("one", "two", "one")]
    assert first == ["one", "one", "one"]
    assert await store.turn("sha256:b", "two") == "two"
    async with database.transaction() as tx:
        await tx.execute("update checker set until = now() - interval '1 microsecond'")
    assert [await store.turn("sha256:a", instance) for instance in ("two", "one")] == ["two", "two"]


async def test_of_processes_that_would_check_at_once_one_does(database: Database) -> None:
    store = PostgresStore(database)
    whose = await asyncio.gather(*(store.turn("sha256:a", f"{number}") for number in range(4)))
    assert len(set(whose)) == 1


async def test_positions_are_kept_with_the_state_alone(database: Database) -> None:
    process = Process(ANNOUNCED)
    await process.finish(PostgresStore(database))
    assert (await load_checkpoint(database)).positions == {}
