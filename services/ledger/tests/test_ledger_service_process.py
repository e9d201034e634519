"""The ledger as a process on the real broker and database: killed again and again, it archives each record once."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from mainstem.bus.kafka import KafkaBus
from mainstem.cli.local.platform import Platform
from mainstem.events.catalogue import encode
from mainstem.events.envelope import Message, begin
from mainstem.events.frames import Entry
from mainstem.events.registry import ProjectApplied
from mainstem.events.topics import fixed, member
from mainstem.ledger_service.engine import Verdict
from mainstem.ledger_service.store import PostgresStore
from mainstem.storage import Database, open_database

pytestmark = [pytest.mark.real, pytest.mark.fault]

DEADLINE_S = 60
RECORDS = 6_000

Start = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
async def bus(kafka: str) -> AsyncIterator[KafkaBus]:
    async with KafkaBus(kafka, "test") as bus:
        await bus.create(fixed())
        yield bus


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[PostgresStore]:
    database: Database = await open_database(database_url, "ledger", "mainstem.ledger_service")
    yield PostgresStore(database)
    await database.close()


def free_port() -> str:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return str(door.getsockname()[1])


def start(module: str, env: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", module], env={**os.environ, **env})


@pytest.fixture
def witness(servers: Platform, tmp_path: Path) -> Iterator[str]:
    """Return the address of a witness that has seen nothing yet."""
    port = free_port()
    env = {**servers.env, "MAINSTEM_WITNESS_STATE": str(tmp_path / "witness"), "MAINSTEM_HTTP_PORT": port}
    with running(lambda: start("mainstem.witness.app", env)):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def ledger(servers: Platform, database_url: str, witness: str, tmp_path: Path) -> Start:
    own = {
        "MAINSTEM_DATABASE_URL": database_url,
        "MAINSTEM_LOG": str(tmp_path / "log"),
        "MAINSTEM_WITNESS_URL": witness,
    }
    return lambda: start("mainstem.ledger_service.app", {**servers.env, **own, "MAINSTEM_HTTP_PORT": free_port()})


@contextmanager
def running(start: Start) -> Iterator[None]:
    process = start()
    try:
        yield
    finally:
        process.kill()
        process.wait()


async def archived(store: PostgresStore, topic: str, count: int) -> None:
    """Wait until the archive holds so many records of a topic."""
    async with asyncio.timeout(DEADLINE_S):
        while await counted(store, topic) < count:  # noqa: ASYNC110  (another process archives)
            await asyncio.sleep(0.05)


async def counted(store: PostgresStore, topic: str) -> int:
    return sum(int(str(row["entries"])) for row in await store.counts() if row["topic"] == topic)


async def write(bus: KafkaBus, topic: str, first: int, count: int) -> None:
    numbers = range(first, first + count)
    await bus.publisher.publish([Message(topic, b"", str(n).encode(), (("ce_id", b"x"),), n % 2) for n in numbers])


async def test_a_ledger_killed_while_it_archives_has_no_gap_and_no_double(
    bus: KafkaBus,
    store: PostgresStore,
    ledger: Start,
    entries_in: Callable[..., Awaitable[list[Entry]]],
    audited: Callable[[PostgresStore], Awaitable[Verdict]],
) -> None:
    source = member("src.{source}", f"s{uuid4().hex}", 2)
    await bus.create([source])
    for round_ in range(3):
        await write(bus, source.name, round_ * RECORDS, RECORDS)
        with running(ledger):
            await archived(store, source.name, round_ * RECORDS + RECORDS // 3)
    with running(ledger):
        await archived(store, source.name, 3 * RECORDS)
    assert sorted(int(entry.value or b"") for entry in await entries_in(store, source.name)) == list(range(3 * RECORDS))
    assert (await audited(store)).holds


async def test_topics_that_a_project_brings_are_archived_from_their_beginning(
    bus: KafkaBus, store: PostgresStore, ledger: Start
) -> None:
    topic = member("evt.data.{source}", f"s{uuid4().hex}", 2)
    with running(ledger):
        await bus.publisher.publish([Message("evt.monitoring.window", b"", b"", ())])
        await archived(store, "evt.monitoring.window", 1)
        await bus.create([topic])
        await write(bus, topic.name, 0, 100)
        fact = ProjectApplied(project="p", definition_id="sha256:0", definition={}, applied_by="ann")
        event = begin(fact, command_id=uuid4().hex, source="/test", actor="ann", recorded_us=1_367_366_400_000_000)
        await bus.publisher.publish([encode(event)])
        await archived(store, topic.name, 100)
        await archived(store, "evt.ledger.checkpoint", 1)
