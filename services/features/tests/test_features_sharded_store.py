"""States of stages are kept once each, on the real PostgreSQL as in the twin of the unit tests."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from services.features.tests.sharded_cluster import Kept

from mainstem.events.errors import Rejected
from mainstem.features.ports import RowTally
from mainstem.features.settings import Settings
from mainstem.features.sharded.plan import Plan
from mainstem.features.sharded.store import Place, Saved, ShardStore, TakenOver
from mainstem.features.sharded.unit import Outcome
from mainstem.features.sharded.work import Store, agreed
from mainstem.features.store import set_project
from mainstem.fold.accepted import Parked
from mainstem.runtime import Resources, open_resources
from mainstem.storage import Database, open_database
from mainstem.testkit.projects import applied, shop
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


@pytest.fixture
async def resources(kafka: str, database_url: str, tmp_path: Path) -> AsyncIterator[Resources]:
    settings = Settings(kafka=kafka, database_url=database_url, artifacts=tmp_path, http_port=0)
    async with open_resources(f"trial_{uuid4().hex}", "mainstem.features", settings) as resources:
        yield resources


@pytest.fixture(params=["memory", "postgres"])
def store(request: pytest.FixtureRequest, database: Database) -> Store:
    return Kept() if request.param == "memory" else ShardStore(database)


def saved(instead_of: int, state: bytes, outcome: Outcome | None = None) -> Saved:
    return Saved(instead_of, 7, state, outcome or Outcome(), FOUR.compiled.id)


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


def plan(shards: int) -> Plan:
    return Plan(FOUR.compiled, FOUR.contracts, shards)


@pytest.mark.parametrize("first", [1, 2, 4])
async def test_a_set_goes_on_with_as_many_shards_as_it_was_begun_with(database: Database, first: int) -> None:
    store = ShardStore(database)
    assert await store.begin(plan(first)) is None
    others = [await store.begin(plan(shards)) for shards in (1, 2, 4)]
    assert others == [None if shards == first else first for shards in (1, 2, 4)]


@pytest.mark.parametrize("numbers", [(2, 4), (1, 4), (1, 2, 3, 4)])
async def test_of_processes_that_begin_a_set_at_once_one_decides(database: Database, numbers: tuple[int, ...]) -> None:
    store = ShardStore(database)
    found = await asyncio.gather(*(store.begin(plan(shards)) for shards in numbers))
    (decided,) = [shards for shards, other in zip(numbers, found, strict=True) if other is None]
    assert found == [None if shards == decided else decided for shards in numbers]


async def test_a_set_that_was_begun_before_that_was_noted_is_known(database: Database) -> None:
    edited = shop(window="2h")
    async with database.transaction() as tx:
        await set_project(tx, applied(edited))
        await tx.save_snapshot(FOUR.compiled.id, b"state")
    two = Plan(edited.feature_sets["buying"].compiled, edited.sources, 2)
    await ShardStore(database).save(f"{two.name}.deal.orders", 0, saved(0, b"state"))
    async with database.connection() as connection:
        await connection.execute("drop table begun")
        await connection.execute("delete from migration where name = '0004_begun.sql'")
    await database.migrate("mainstem.features")
    assert await ShardStore(database).begin(FOUR) == 1
    assert await ShardStore(database).begin(Plan(two.compiled, two.contracts, 4)) == 2


async def test_a_set_that_cannot_be_shared_out_is_not_begun(resources: Resources) -> None:
    live = shop(replay=False)
    of = live.feature_sets["buying"].compiled
    store = ShardStore(resources.database)
    with pytest.raises(Rejected, match="which announce no progress"):
        await agreed(Plan(of, live.sources, 4), store, resources)
    assert await store.begin(Plan(of, live.sources, 1)) is None


async def test_a_set_that_others_have_begun_otherwise_is_refused_with_what_to_do(resources: Resources) -> None:
    store = ShardStore(resources.database)
    assert await store.begin(plan(2)) is None
    with pytest.raises(Rejected, match="begun with 2 shards and cannot go on with 4: set MAINSTEM_FEATURES_SHARDS=2"):
        await agreed(FOUR, store, resources)
