"""The archive on a real PostgreSQL: append-only, each entry once, found by id and by place."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import httpx
import pytest
from starlette.applications import Starlette

from mainstem.events.frames import Entry
from mainstem.events.record import header
from mainstem.ledger_service.api import Api
from mainstem.ledger_service.engine import Verdict
from mainstem.ledger_service.folder import Folder
from mainstem.ledger_service.publishing import Publisher
from mainstem.ledger_service.store import PostgresStore
from mainstem.runtime.health import Health
from mainstem.runtime.http import application
from mainstem.storage import Database, Outbox
from mainstem.testkit.cosigner import LOG

pytestmark = pytest.mark.real

Write = Callable[..., list[Entry]]
Read = Callable[..., Awaitable[list[Entry]]]
Audited = Callable[[PostgresStore], Awaitable[Verdict]]
TOPIC = "evt.registry.model"


async def test_what_is_archived_comes_back_in_order(
    store: PostgresStore, write: Write, audited: Audited, entries_in: Read
) -> None:
    offered = write(range(2_300))
    await store.archive(offered[:1_700])
    await store.archive(offered[1_700:])
    assert await entries_in(store) == offered
    assert (await audited(store)).holds


async def test_a_batch_offered_again_after_a_crash_adds_nothing(
    store: PostgresStore, write: Write, entries_in: Read
) -> None:
    await store.archive(write(range(10)))
    again = await store.archive(write(range(15)))
    assert (again.entries, again.second_copies) == ({TOPIC: 5}, 0)
    assert [entry.offset for entry in await entries_in(store)] == list(range(15))


async def test_a_batch_that_was_not_committed_leaves_nothing(
    store: PostgresStore, database: Database, write: Write, audited: Audited, entries_in: Read
) -> None:
    await store.archive(write(range(10)))
    async with database.connection() as connection:
        await connection.execute("alter table position add check (next_offset <= 10)")
        with pytest.raises(asyncpg.CheckViolationError):
            await store.archive(write(range(10, 20), first_offset=10))
        await connection.execute("alter table position drop constraint position_next_offset_check")
    await store.archive(write(range(10, 20), first_offset=10))
    assert (await audited(store)).size == len(await entries_in(store)) == 20


async def test_second_copies_in_the_log_are_dropped_and_counted(store: PostgresStore, write: Write) -> None:
    await store.archive(write(range(10)))
    await store.archive(write([8, 9, 10], first_offset=10))
    assert await store.counts() == [{"topic": TOPIC, "entries": 11, "second_copies": 2}]


async def test_a_record_with_an_origin_of_nobodys_is_archived_too(store: PostgresStore) -> None:
    origins = [b"\xff\x00/1", b"none", b"a/" + b"9" * 5_000, "a/²".encode(), None]
    headers = [(("ce_origin", origin),) for origin in origins]
    strange = [Entry("src.flights", 0, i, 0, None, None, header) for i, header in enumerate(headers)]  # type: ignore[arg-type]
    assert (await store.archive(strange)).entries == {"src.flights": 5}


@pytest.mark.parametrize("change", ["update block set count = 1", "delete from block", "truncate block"])
async def test_blocks_cannot_be_changed(store: PostgresStore, database: Database, write: Write, change: str) -> None:
    await store.archive(write(range(3)))
    async with database.connection() as connection:
        with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
            await connection.execute(change)


async def test_an_entry_is_found_by_id_by_prefix_and_by_place(store: PostgresStore, write: Write) -> None:
    offered = write(range(1_500))
    await store.archive(offered)
    event_id = (header(offered[1_234], "ce_id") or b"").decode()
    assert [found.leaf for found in await store.with_id(event_id)] == [1_234]
    assert [found.leaf for found in await store.with_id_prefix(event_id[:9], "evt.")] == [1_234]
    assert await store.with_id_prefix(event_id[:9], "tel.") == []
    assert await store.at(TOPIC, 0, 1_234) == (1_234, offered[1_234])
    assert await store.at(TOPIC, 0, 1_500) is None


async def test_families_of_topics_are_read_alone(store: PostgresStore, write: Write, entries_in: Read) -> None:
    await store.archive(write(range(3)))
    await store.archive([entry._replace(topic="src.flights") for entry in write(range(2))])
    assert {entry.topic for entry in await entries_in(store, "src.*", "evt.nothing")} == {"src.flights"}


async def test_a_checkpoint_is_published_once_for_new_entries(
    store: PostgresStore, database: Database, write: Write, audited: Audited, publisher: Publisher
) -> None:
    await store.archive(write(range(3)))
    assert await publisher.publish(store) is not None
    assert await publisher.publish(store) is None
    message, *receipts = await Outbox(database, "ledger").next_messages(10)
    for number, own in enumerate((message, *receipts)):
        await store.archive([Entry(own.topic, 0, number, 0, own.key, own.value, own.headers)])
    assert await publisher.publish(store) is None
    assert len(await Outbox(database, "ledger").next_messages(10)) == 1 + len(receipts) == 4
    assert (await audited(store)).checkpoints == 1
    assert dict(message.headers)["ce_recordedtime"] == b"2013-05-01T00:00:00.000002Z"


@pytest.mark.parametrize("depth", [1_000, 5_000])
async def test_the_api_shows_an_entry_however_deep_it_is_nested(
    store: PostgresStore, tmp_path: Path, depth: int
) -> None:
    deep = b"[" * depth + b"]" * depth
    await store.archive([Entry(TOPIC, 0, 0, 0, None, deep, ())])
    app: Starlette = application(Health(), Api(store, Folder(tmp_path, LOG.log_key)).routes())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://ledger") as client:
        answer = await client.get("/v1/entries", params={"topic": TOPIC})
    assert answer.status_code == 200
    assert (deep in answer.content, b"value_base64" in answer.content) == (depth == 1_000, depth == 5_000)


async def test_the_api_tells_the_tree_and_shows_entries(store: PostgresStore, write: Write, tmp_path: Path) -> None:
    offered = write(range(30))
    await store.archive(offered)
    app: Starlette = application(Health(), Api(store, Folder(tmp_path, LOG.log_key)).routes())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://ledger") as client:
        tree = (await client.get("/v1/ledger")).json()
        newest = (await client.get("/v1/entries", params={"topic": TOPIC, "limit": 2})).json()["entries"]
        (shown,) = (await client.get(f"/v1/entries/{dict(newest[0]['headers'])['ce_id']}")).json()["entries"]
        answers = [(await client.get(f"/v1/entries{end}")).status_code for end in ("", "?topic=a&limit=x", "/none")]
    assert (tree["size"], [entry["leaf"] for entry in newest]) == (30, [29, 28])
    assert shown == newest[0]
    assert shown["value"]["version"] == 29
    assert answers == [400, 400, 404]
