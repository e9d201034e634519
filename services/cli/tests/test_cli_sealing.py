"""Closed ranges go to files, and nobody who reads the archive can tell; what is not as published stays where it is."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from mainstem.cli import sealing
from mainstem.cli.archive import open_schema
from mainstem.cli.local import keys
from mainstem.cli.main import app
from mainstem.events.catalogue import encode
from mainstem.events.data import RecordAccepted
from mainstem.events.envelope import begin
from mainstem.events.frames import Entry
from mainstem.events.ledger import RangeSealed
from mainstem.ledger.keys import Secret
from mainstem.ledger_service.folder import Folder
from mainstem.ledger_service.publishing import Publisher
from mainstem.ledger_service.store import PostgresStore
from mainstem.storage import Artifacts, Database, Outbox
from mainstem.testkit.cosigner import Cosigner

pytestmark = pytest.mark.real

#: When the broker took the first record; each of the others a second later.
MAY_MS = 1_367_366_400_000
BLOCKS, OF_A_BLOCK = 12, 50


def record(number: int) -> Entry:
    fact = RecordAccepted(source="gauge", contract="sha256:0", record={"level": number})
    event = begin(fact, command_id=f"record-{number}", source="/test", actor="test", recorded_us=MAY_MS * 1_000)
    message = encode(event)
    headers = (*message.headers, ("nothing", None), ("empty", b""), ("nothing", b"\xff"))
    key, value = (None, None) if number % 7 == 0 else (message.key, message.value)
    return Entry(message.topic, 0, number, MAY_MS + number * 1_000, key, value, headers)


@pytest.fixture
async def database(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    """Lend an archive of 600 records, of which 500 were published."""
    keys.ensure_all(tmp_path / "keys")
    files = keys.files(tmp_path / "keys")
    folders = {"MAINSTEM_LOG": tmp_path / "log", "MAINSTEM_ARTIFACTS": tmp_path / "artifacts"}
    for name, value in {**files, **folders, "MAINSTEM_DATABASE_URL": database_url}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(sealing, "_SEGMENT", 120)
    log, witness = (Secret.parse(files[f"MAINSTEM_{role}_SECRET"].read_text()) for role in ("LOG", "WITNESS"))
    cosigner = Cosigner(witness, log.log_key)
    async with open_schema(database_url, "ledger", "mainstem.ledger_service") as database:
        store = PostgresStore(database)
        publisher = Publisher(Folder(tmp_path / "log", log.log_key), log, witness.witness_key, cosigner.ask)
        for number in range(BLOCKS):
            await store.archive([record(number * OF_A_BLOCK + at) for at in range(OF_A_BLOCK)])
            if number < 10:
                await publisher.publish(store)
        yield database


async def mainstem(*arguments: object) -> tuple[int, str]:
    # A command runs its own loop, so it runs in a thread of its own.
    result = await asyncio.to_thread(CliRunner().invoke, app, [str(each) for each in arguments])
    return result.exit_code, result.output


async def seal(before: str = "2014-01-01") -> dict[str, int]:
    code, said = await mainstem("audit", "seal", "--before", before, "-o", "json")
    assert code == 0, said
    (found,) = json.loads(said[said.index("[") :])
    return dict(found)


async def hot(database: Database) -> list[int]:
    """Return the first leaves of the blocks whose entries are in the database."""
    async with database.transaction() as tx:
        rows = await tx.fetch("select first_leaf from block where frames <> '' order by first_leaf")
    return [row["first_leaf"] for row in rows]


def segments(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "artifacts").glob("??/*"))


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


async def test_who_reads_the_archive_does_not_notice(database: Database, tmp_path: Path) -> None:
    assert (await mainstem("audit", "export", tmp_path / "before"))[0] == 0
    found = await seal()
    assert (found["first_leaf"], found["end_leaf"], found["segments"]) == (0, 500, 5)
    assert await hot(database) == [500, 550]
    assert (await mainstem("audit", "export", tmp_path / "after"))[0] == 0
    assert files(tmp_path / "after") == files(tmp_path / "before")
    assert (await mainstem("audit", "verify"))[0] == 0
    store = PostgresStore(database, Artifacts(tmp_path / "artifacts"))
    assert (await store.at("evt.data.gauge", 0, 123)) is not None
    assert len(await store.frames(90, 520)) == 430
    assert [each.leaf for each in await store.newest("evt.data.gauge", 600)] == list(range(599, -1, -1))


@pytest.mark.usefixtures("database")
async def test_a_sealed_range_is_a_table_that_anybody_can_read(tmp_path: Path) -> None:
    await seal()
    tables = [pq.read_table(io.BytesIO(file.read_bytes())) for file in segments(tmp_path)]
    rows = sorted((row for table in tables for row in table.to_pylist()), key=lambda row: row["leaf"])
    assert [row["leaf"] for row in rows] == list(range(500))
    for row in rows:
        entry = record(row["leaf"])
        assert (row["topic"], row["partition"], row["offset"]) == entry[:3]
        assert (int(row["timestamp"].timestamp() * 1_000), row["key"], row["value"]) == entry[3:6]
        assert tuple((header["name"], header["value"]) for header in row["headers"]) == entry.headers


async def test_only_what_is_old_and_covered_by_a_checkpoint_is_sealed_and_once(database: Database) -> None:
    found = await seal("2013-05-01T00:02:30")  # record 150 came then
    assert (found["first_leaf"], found["end_leaf"]) == (0, 150)
    assert await hot(database) == list(range(150, 600, 50))
    assert (await seal("2013-05-01T00:02:30"))["segments"] == 0
    assert (await seal())["first_leaf"] == 150
    assert (await seal())["segments"] == 0
    assert await hot(database) == [500, 550]


async def test_a_moment_may_have_an_offset(database: Database) -> None:
    assert (await seal("2013-05-01T05:02:30+05:00"))["end_leaf"] == 150
    assert await hot(database) == list(range(150, 600, 50))


async def test_what_was_sealed_asks_for_a_checkpoint_of_its_own(database: Database) -> None:
    await seal()
    messages = await Outbox(database, "ledger").next_messages(1_000)
    told = next(m for m in messages if m.topic == RangeSealed.TOPIC)
    before = (await PostgresStore(database).state()).unpublished
    await PostgresStore(database).archive([Entry(told.topic, 0, 0, MAY_MS, told.key, told.value, told.headers)])
    assert (await PostgresStore(database).state()).unpublished == before + 1


async def test_the_log_tells_what_was_sealed_and_by_which_checkpoint_it_is_closed(
    database: Database, tmp_path: Path
) -> None:
    await seal()
    outbox = Outbox(database, "ledger")
    messages = await outbox.next_messages(1_000)
    told = [RangeSealed.model_validate_json(m.value or b"") for m in messages if b"segment" in (m.value or b"")]
    assert [(fact.first_leaf, fact.end_leaf, fact.closing_size) for fact in told] == [
        (first, first + 100, 500) for first in range(0, 500, 100)
    ]
    assert {fact.segment.removeprefix("sha256:") for fact in told} == {file.name for file in segments(tmp_path)}


async def test_an_entry_that_is_not_as_published_is_not_sealed(database: Database, tmp_path: Path) -> None:
    async with database.connection() as connection, connection.transaction():
        await connection.execute("set local session_replication_role = replica")
        await connection.execute(
            "update block set frames = (select frames from block where first_leaf = 200) where first_leaf = 150"
        )
    code, said = await mainstem("audit", "seal", "--before", "2014-01-01")
    assert code == 1
    assert "leaves 100 to 199 are not as they were published, so they stay where they are" in " ".join(said.split())
    assert await hot(database) == list(range(100, 600, 50))
    assert segments(tmp_path) != []


@pytest.mark.usefixtures("database")
async def test_a_segment_that_is_lost_or_changed_is_found_with_what_it_held(tmp_path: Path) -> None:
    await seal()
    first, *_ = segments(tmp_path)
    kept = first.read_bytes()
    leaves = pq.read_table(io.BytesIO(kept))["leaf"]
    first.write_bytes(kept[:-1])
    for why in (f"artifact sha256:{first.name} holds bytes of", f"no artifact sha256:{first.name}"):
        code, said = await mainstem("audit", "verify")
        assert code == 1
        assert f"leaves {leaves[0]} to " in said
        assert f"not in the database, and cannot be read elsewhere: {why}" in " ".join(said.split())
        first.unlink(missing_ok=True)
    first.write_bytes(kept)
    assert (await mainstem("audit", "verify"))[0] == 0


@pytest.mark.parametrize(
    "change",
    [
        "update block set frames = '' where first_leaf = 0",  # sealed are those from 100 on
        "update block set frames = 'x' where first_leaf = 100",
        "update block set frames = '', count = 1 where first_leaf = 100",
        "update block set hashes = '' where first_leaf = 100",
        "delete from block where first_leaf = 100",
        "delete from sealed",
        "update sealed set end_leaf = 600",
    ],
)
async def test_the_owner_takes_out_what_is_sealed_and_changes_nothing_else(database: Database, change: str) -> None:
    async with database.connection() as connection:
        await connection.execute("insert into sealed values (100, 150, 'sha256:0')")
        with pytest.raises(asyncpg.RestrictViolationError):
            await connection.execute(change)
        await connection.execute("update block set frames = '' where first_leaf = 100")
    assert await hot(database) == [leaf for leaf in range(0, 600, 50) if leaf != 100]
