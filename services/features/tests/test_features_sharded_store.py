"""States of stages are kept once each, on the real PostgreSQL as in the twin of the unit tests."""

from collections.abc import AsyncIterator

import pytest
from services.features.tests.sharded_cluster import Kept

from mainstem.features.ports import Parked, RowTally
from mainstem.features.sharded.plan import Plan
from mainstem.features.sharded.store import Place, Saved, ShardStore, TakenOver
from mainstem.features.sharded.unit import Outcome
from mainstem.features.sharded.work import Store
from mainstem.storage import Database, open_database
from mainstem.testkit.projects import shop
from mainstem.testkit.records import Taken

pytestmark = pytest.mark.real

SHOP = shop()
FOUR = Plan(SHOP.feature_sets["buying"].compiled, SHOP.sources, 4)
STAGE = f"{FOUR.name}.fold"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await open_database(database_url, "features", "mainstem.features")
    yield database
    await database.close()


@pytest.fixture(params=["memory", "postgres"])
def store(request: pytest.FixtureRequest, database: Database) -> Store:
    return Kept() if request.param == "memory" else ShardStore(database)


def saved(instead_of: int, state: bytes, outcome: Outcome | None = None) -> Saved:
    return Saved(instead_of, 7, state, outcome or Outcome())


async def test_a_state_is_found_with_its_version_and_where_to_read_on(store: Store) -> None:
    assert await store.places(STAGE) == {}
    assert await store.save(STAGE, 1, saved(0, b"first")) == Place(1, 7)
    assert await store.save(STAGE, 1, saved(1, b"second")) == Place(2, 7)
    assert await store.places(STAGE) == {1: Place(2, 7)}
    assert await store.state(STAGE, 1, 2) == b"second"


async def test_a_state_of_another_version_is_somebody_elses(store: Store) -> None:
    await store.save(STAGE, 1, saved(0, b"first"))
    with pytest.raises(TakenOver, match=r"fold/1: somebody else has gone on from version 0"):
        await store.save(STAGE, 1, saved(0, b"also first"))
    with pytest.raises(TakenOver, match=r"fold/1: somebody else has gone on from version 2"):
        await store.state(STAGE, 1, 2)
    assert await store.state(STAGE, 1, 1) == b"first"


async def test_what_came_of_the_work_is_stored_with_the_state_or_not_at_all(database: Database) -> None:
    store = ShardStore(database)
    outcome = Outcome(parked=[Parked(Taken(), "why")], rows={("buying", 1): RowTally(3, 5)})
    await store.save(STAGE, 1, saved(0, b"first", outcome))
    with pytest.raises(TakenOver):
        await store.save(STAGE, 1, saved(0, b"also first", outcome))
    async with database.connection() as connection:
        rows = await connection.fetch("select feature_set, part, rows, fingerprint from row_tally")
        parked = await connection.fetchval("select count(*) from parked")
    assert ([tuple(row) for row in rows], parked) == ([("buying", 1, 3, 5)], 1)


async def test_a_set_that_was_begun_with_another_number_of_shards_is_known(database: Database) -> None:
    store, two = ShardStore(database), Plan(FOUR.compiled, FOUR.contracts, 2)
    assert await store.begun_otherwise(FOUR) is None
    await store.save(STAGE, 1, saved(0, b"state"))
    assert [await store.begun_otherwise(plan) for plan in (FOUR, two)] == [None, 4]


async def test_a_set_that_one_worker_has_begun_is_known(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.save_snapshot(FOUR.compiled.id, b"state")
    store, one = ShardStore(database), Plan(FOUR.compiled, FOUR.contracts, 1)
    assert [await store.begun_otherwise(plan) for plan in (FOUR, one)] == [1, None]
