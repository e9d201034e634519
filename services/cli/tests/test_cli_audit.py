"""Verification and replay over a real archive."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mainstem.cli.archive import open_schema
from mainstem.cli.folding import Folding, foldings
from mainstem.cli.local import keys
from mainstem.cli.main import app
from mainstem.cli.replay import ABSENT, Report, digest, replay
from mainstem.events.catalogue import encode
from mainstem.events.data import RecordAccepted
from mainstem.events.envelope import Event, begin
from mainstem.events.frames import Entry
from mainstem.events.registry import ProjectApplied
from mainstem.ledger_service.domain import Placed
from mainstem.ledger_service.store import PostgresStore
from mainstem.project import load_folder
from mainstem.storage import Database

pytestmark = pytest.mark.real

FLIGHTS = Path(__file__).parents[3] / "projects" / "flights"
MAY = 1_367_366_400_000_000


@pytest.fixture
async def archive(database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Database]:
    """Lend an archive of which nothing was published yet."""
    keys.ensure_all(tmp_path / "keys")
    settings = {name: str(file) for name, file in keys.files(tmp_path / "keys").items()}
    for name, value in {
        **settings,
        "MAINSTEM_DATABASE_URL": database_url,
        "MAINSTEM_LOG": str(tmp_path / "log"),
    }.items():
        monkeypatch.setenv(name, value)
    async with open_schema(database_url, "ledger", "mainstem.ledger_service") as database:
        yield database


def entries(events: Sequence[Event]) -> list[Entry]:
    messages = [encode(event) for event in events]
    return [Entry(m.topic, 0, offset, 0, m.key, m.value, m.headers) for offset, m in enumerate(messages)]


def accepted(number: int) -> Event:
    fact = RecordAccepted(source="flight_departed", contract="sha256:0", record={"flight": str(number)})
    return begin(fact, command_id=f"record-{number}", source="/test", actor="test", recorded_us=MAY + number)


@pytest.fixture
def log() -> list[Entry]:
    definition = load_folder(FLIGHTS)
    fact = ProjectApplied(
        project="flights", definition_id=definition.id, definition=json.loads(definition.canonical()), applied_by="dana"
    )
    applied = begin(fact, command_id="apply", source="/test", actor="dana", recorded_us=MAY)
    return entries([applied, *(accepted(number) for number in range(300))])


def services() -> list[Folding]:
    return [service for service in foldings() if service.service in ("ingestion", "training")]


async def rebuilt(url: str) -> Report:
    return await replay(None, services(), url)


async def live_by_hand(url: str, log: list[Entry]) -> None:
    """Bring the services' tables where the services would have brought them."""
    for service in services():
        async with open_schema(url, service.service, service.package) as database, database.transaction() as tx:
            await service.fold(tx, [Placed(0, entry) for entry in log if service.reads(entry.topic)])


async def command(*arguments: str) -> tuple[int, str]:
    # A command runs its own loop, so it runs in a thread of its own.
    result = await asyncio.to_thread(CliRunner().invoke, app, arguments)
    return result.exit_code, result.stdout


async def test_an_undisturbed_archive_is_verified(archive: Database, log: list[Entry]) -> None:
    await PostgresStore(archive).archive(log)
    code, said = await command("audit", "verify", "-o", "json")
    assert (code, json.loads(said)["size"], json.loads(said)["holds"]) == (0, 301, True)


async def test_a_byte_changed_behind_the_ledgers_back_is_told_with_its_entry(
    archive: Database, log: list[Entry]
) -> None:
    await PostgresStore(archive).archive(log)
    async with archive.connection() as connection:
        await connection.execute("alter table block disable trigger user")
        await connection.execute(
            "update block set hashes = set_byte(hashes, 32 * 7, get_byte(hashes, 32 * 7) # 1) where count > 7"
        )
    code, said = await command("audit", "verify")
    assert code == 1
    assert "DAMAGED leaf 8 (evt.data.flight_departed/0/8, event id" in said


async def test_tables_that_follow_from_the_log_are_equal_after_a_replay(
    archive: Database, database_url: str, log: list[Entry]
) -> None:
    await PostgresStore(archive).archive(log)
    await live_by_hand(database_url, log)
    compared = (await rebuilt(database_url)).tables
    assert {(c.service, c.table): c.rebuilt.rows for c in compared}["ingestion", "tally"] == 1
    assert [c for c in compared if not c.equal] == []


async def test_what_is_no_event_is_left_out_of_a_replay_as_it_was_by_the_services(
    archive: Database, database_url: str, log: list[Entry]
) -> None:
    await live_by_hand(database_url, log)
    junk = [Entry("evt.data.flight_departed", 0, 301 + n, 0, None, value, ()) for n, value in enumerate((b"?", None))]
    await PostgresStore(archive).archive([*log, *junk])
    assert [c for c in (await rebuilt(database_url)).tables if not c.equal] == []


async def test_a_table_changed_by_hand_differs_after_a_replay(
    archive: Database, database_url: str, log: list[Entry]
) -> None:
    await PostgresStore(archive).archive(log)
    await live_by_hand(database_url, log)
    async with archive.connection() as connection:
        await connection.execute("update ingestion.tally set accepted = accepted + 1")
    compared = (await rebuilt(database_url)).tables
    assert [(c.service, c.table) for c in compared if not c.equal] == [("ingestion", "tally")]


async def test_the_replay_command_fails_when_the_services_never_folded_the_log(
    archive: Database, log: list[Entry]
) -> None:
    await PostgresStore(archive).archive(log)
    code, said = await command("audit", "replay", "-o", "json")
    rows = {(row["service"], row["table"]): row for row in json.loads(said)["tables"]}
    assert code == 1
    assert rows["ingestion", "project"]["live"] == "absent"
    assert rows["ledger", "tree"]["equal"]


async def test_a_digest_depends_on_rows_and_not_on_their_order(archive: Database) -> None:
    first, second = "(1, null, 'x')", "(2, '{\"b\": 1}', 'y')"
    async with archive.connection() as connection:
        for name, rows in (("a", f"{first}, {second}"), ("b", f"{second}, {first}")):
            await connection.execute(f"create table {name}(id int, doc jsonb, note text, primary key (note, id))")
            await connection.execute(f"insert into {name} values {rows}")
        one, other = await digest(archive, "ledger", "a"), await digest(archive, "ledger", "b")
        await connection.execute("update b set note = '' where id = 2")
    assert one == other != await digest(archive, "ledger", "b")
    assert one.rows == 2


async def test_a_table_that_is_not_there_has_a_digest_of_its_own(archive: Database) -> None:
    assert await digest(archive, "ledger", "nothing") == ABSENT
