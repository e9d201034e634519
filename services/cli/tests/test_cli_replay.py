"""A replay needs no platform: a copy of the log and an empty PostgreSQL give the same tables."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mainstem.audit.log import Log
from mainstem.cli import replay as rebuilding
from mainstem.cli.archive import open_schema
from mainstem.cli.folding import Folding, foldings
from mainstem.cli.main import app
from mainstem.cli.replay import Copied, Report, replay
from mainstem.events.catalogue import encode
from mainstem.events.data import RecordAccepted
from mainstem.events.envelope import begin
from mainstem.events.errors import Rejected
from mainstem.events.frames import Damaged, Entry
from mainstem.ledger_service.domain import Placed
from mainstem.ledger_service.folder import Folder
from mainstem.ledger_service.publishing import Publisher
from mainstem.ledger_service.store import PostgresStore
from mainstem.testkit.cosigner import LOG, WITNESS, Cosigner

pytestmark = pytest.mark.real

MAY = 1_367_366_400_000_000
JUNK = Entry("evt.data.gauge", 0, 100, 0, None, b"?", ())


def record(number: int) -> Entry:
    fact = RecordAccepted(source="gauge", contract="sha256:0", record={"level": number})
    message = encode(begin(fact, command_id=f"record-{number}", source="/test", actor="test", recorded_us=MAY + number))
    return Entry(message.topic, 0, number, 0, message.key, message.value, message.headers)


def services() -> list[Folding]:
    return [service for service in foldings() if service.service in ("ingestion", "training")]


@pytest.fixture
async def store(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PostgresStore]:
    """Lend an archive of 1,000 records and something that is no event, and the log that was published over it."""
    monkeypatch.setenv("MAINSTEM_DATABASE_URL", database_url)
    async with open_schema(database_url, "ledger", "mainstem.ledger_service") as database:
        store = PostgresStore(database)
        await store.archive([*map(record, range(100)), JUNK, *map(record, range(101, 1_001))])
        await Publisher(Folder(tmp_path / "log", LOG.log_key), LOG, WITNESS.witness_key, Cosigner().ask).publish(store)
        yield store


async def command(*arguments: object) -> tuple[int, str]:
    # A command runs its own loop, so it runs in a thread of its own.
    result = await asyncio.to_thread(CliRunner().invoke, app, [str(each) for each in arguments])
    return result.exit_code, result.stdout


def rebuilt(report: Report) -> dict[tuple[str, str], rebuilding.Digest]:
    return {(table.service, table.table): table.rebuilt for table in report.tables}


@pytest.mark.usefixtures("store")
async def test_a_copy_gives_the_tables_that_the_archive_gives(tmp_path: Path, database_url: str) -> None:
    assert (await command("audit", "export", tmp_path / "copy"))[0] == 0
    of_archive = await replay(None, services(), database_url)
    of_copy = await replay(tmp_path / "copy", services(), database_url)
    assert rebuilt(of_archive) == rebuilt(of_copy)
    assert rebuilt(of_copy)["ingestion", "tally"].rows == 1
    assert (
        (of_copy.size, of_copy.root)
        == (of_archive.size, of_archive.root)
        == (1_001, Log(tmp_path / "copy").checkpoint.root.hex())
    )


@pytest.mark.usefixtures("store")
async def test_what_was_left_out_is_named_by_its_leaf(tmp_path: Path, database_url: str) -> None:
    report = await replay(None, services(), database_url)
    assert report.left_out_of == {"ingestion": 1, "training": 0}
    (left_out,) = report.left_out
    assert (left_out.service, left_out.where) == ("ingestion", "leaf 100 (evt.data.gauge/0/100, event id none)")
    assert "is no event of the catalogue" in left_out.why


@pytest.mark.usefixtures("store")
async def test_an_interrupted_replay_goes_on_where_it_was(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await command("audit", "export", tmp_path / "copy")
    whole = await replay(tmp_path / "copy", services(), database_url)
    monkeypatch.setattr(rebuilding, "_BATCH", 300)
    read = Copied.entries

    class Interrupted(Exception):
        pass

    async def entries(self: Copied, topics: Sequence[str], first: int) -> AsyncIterator[Sequence[Placed]]:
        async for part in read(self, topics, first):
            yield part
            if part[-1].leaf > 700:
                raise Interrupted

    monkeypatch.setattr(Copied, "entries", entries)
    with pytest.raises(Interrupted):
        await replay(tmp_path / "copy", services(), database_url)
    monkeypatch.setattr(Copied, "entries", read)
    resumed = await replay(tmp_path / "copy", services(), database_url, resume=True)
    assert resumed.first_leaf == 512
    assert resumed.left_out == whole.left_out != []
    assert rebuilt(resumed) == rebuilt(whole)


@pytest.mark.usefixtures("store")
async def test_a_replay_of_another_log_is_not_gone_on_with(
    tmp_path: Path, database_url: str, store: PostgresStore
) -> None:
    await command("audit", "export", tmp_path / "copy")
    await replay(tmp_path / "copy", services(), database_url)
    await store.archive([record(1_001)])
    with pytest.raises(Rejected, match=r"no replay of this log to go on with \(it was of 1001 entries"):
        await replay(None, services(), database_url, resume=True)


@pytest.mark.usefixtures("store")
async def test_tables_do_not_follow_from_a_part_of_the_log(tmp_path: Path, database_url: str) -> None:
    await command("audit", "export", tmp_path / "part", "--to", 600)
    with pytest.raises(Rejected, match="leaf 600 was withheld"):
        await replay(tmp_path / "part", services(), database_url)


@pytest.mark.usefixtures("store")
async def test_what_the_platform_said_is_what_an_auditor_finds_elsewhere(tmp_path: Path, database_url: str) -> None:
    await command("audit", "export", tmp_path / "copy")
    code, said = await command("audit", "replay", "-o", "json")
    assert code == 1  # no service was ever started here: its tables are absent
    (tmp_path / "said.json").write_text(said)
    arguments = ("audit", "replay", tmp_path / "copy", "--database", database_url)
    code, found = await command(*arguments, "--expect", tmp_path / "said.json", "-o", "json")
    assert code == 0
    assert all(table["equal"] for table in json.loads(found)["tables"])
    (tmp_path / "said.json").write_text(said.replace('"rows": 1,', '"rows": 2,'))
    assert (await command(*arguments, "--expect", tmp_path / "said.json"))[0] == 1
    ghost = '"tables": [{"service": "t", "table": "ghost", "rows": 5, "rebuilt": "0"},'
    for change in (('"root": "', '"root": "0'), ('"tables": [', ghost)):
        (tmp_path / "said.json").write_text(said.replace(*change))
        assert (await command(*arguments, "--expect", tmp_path / "said.json"))[0] == 1


@pytest.mark.usefixtures("store")
async def test_an_entry_that_is_not_the_archived_one_is_not_folded(tmp_path: Path, database_url: str) -> None:
    await command("audit", "export", tmp_path / "copy")
    bundle = tmp_path / "copy" / "tile" / "entries" / "002"
    bundle.write_bytes(bundle.read_bytes().replace(b'"level":600', b'"level":601'))
    with pytest.raises(Damaged, match="leaf 600 is not as it was archived"):
        await replay(tmp_path / "copy", services(), database_url)
