"""Records as a broker hands them over."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from mainstem.events.catalogue import encode
from mainstem.events.envelope import Event, Message, begin
from mainstem.events.frames import Entry
from mainstem.events.registry import VersionApproved
from mainstem.ledger_service.domain import entries_of
from mainstem.ledger_service.engine import Audit, Verdict
from mainstem.ledger_service.folder import Folder
from mainstem.ledger_service.publishing import Publisher
from mainstem.ledger_service.store import PostgresStore
from mainstem.storage import Database, open_database
from mainstem.testkit.cosigner import LOG, WITNESS, Cosigner

#: 2013-05-01T00:00:00Z
MAY = 1_367_366_400_000_000

Write = Callable[..., list[Entry]]


def approval(number: int) -> Event:
    fact = VersionApproved(model="delay", version=number, onnx="sha256:00", approved_by="ann")
    return begin(fact, command_id=f"approve-{number}", source="/test", actor="ann", recorded_us=MAY + number)


def as_entry(message: Message, partition: int, offset: int) -> Entry:
    return Entry(message.topic, partition, offset, 1_000 + offset, message.key, message.value, message.headers)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await open_database(database_url, "ledger", "mainstem.ledger_service")
    yield database
    await database.close()


@pytest.fixture
def store(database: Database) -> PostgresStore:
    return PostgresStore(database)


@pytest.fixture
def write() -> Write:
    """Return a maker of records of a partition: each number is the origin of the one at its place."""

    def make(numbers: Sequence[int], *, first_offset: int = 0, partition: int = 0) -> list[Entry]:
        messages = [encode(approval(number).at_origin(f"registry@1/{number}")) for number in numbers]
        return [as_entry(message, partition, first_offset + i) for i, message in enumerate(messages)]

    return make


@pytest.fixture
def entries_in() -> Callable[..., Awaitable[list[Entry]]]:
    """Return a reader of all entries of some topics."""

    async def read(store: PostgresStore, *topics: str) -> list[Entry]:
        async with store.snapshot() as archive:
            return [entry async for block in archive.blocks(topics or ("*",)) for entry in entries_of(block)]

    return read


@pytest.fixture
def audited() -> Callable[[PostgresStore], Awaitable[Verdict]]:
    """Return an auditor of a whole archive."""

    async def run(store: PostgresStore) -> Verdict:
        audit = Audit()
        async with store.snapshot() as archive:
            async for block in archive.blocks():
                audit.take(block)
            return audit.finish((await archive.state()).frontier)

    return run


@pytest.fixture
def cosigner() -> Cosigner:
    return Cosigner()


@pytest.fixture
def publisher(tmp_path: Path, cosigner: Cosigner) -> Publisher:
    """Return one that publishes below the test's own folder, and a witness in memory cosigns."""
    return Publisher(Folder(tmp_path / "log", LOG.log_key), LOG, WITNESS.witness_key, cosigner.ask)
