"""What all tests share: one real Kafka and one real PostgreSQL a session, and an environment of nobody's."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import settings

from mainstem.cli.local.platform import Platform

#: The broker's jars are fetched once for the checkout.
CACHE = Path(__file__).parent / ".mainstem" / "cache"
#: Tests on a platform that runs all services.
_SYSTEM = Path(__file__).parent / "tests" / "system"

# The same examples every time, so that a red test is red for everybody; timed by nobody, since the machine may be busy.
settings.register_profile("house", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("house")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no process is left alone with it; end with what shares a whole platform.

    That one runs from its first test to the end of the session, and costs the others what it takes.
    """
    items.sort(key=lambda item: (_SYSTEM in item.path.parents, item.get_closest_marker("fault") is None))


@pytest.fixture(autouse=True, scope="session")
def clean_environment() -> Iterator[None]:
    """Take the platform's own variables out of the environment: no test may find somebody's running platform."""
    patch = pytest.MonkeyPatch()
    for name in [name for name in os.environ if name.startswith("MAINSTEM_")]:
        patch.delenv(name)
    yield
    patch.undo()


@pytest.fixture(scope="session")
async def servers(tmp_path_factory: pytest.TempPathFactory, clean_environment: None) -> AsyncIterator[Platform]:
    """Start Kafka and PostgreSQL, without services, for the whole session."""
    async with Platform(tmp_path_factory.mktemp("servers"), fast=True, services=[], cache=CACHE) as platform:
        yield platform


@pytest.fixture
def kafka(servers: Platform) -> str:
    """Return the broker's address. Topics are shared by the session: a test names its own."""
    return servers.env["MAINSTEM_KAFKA"]


@pytest.fixture
async def database_url(servers: Platform) -> AsyncIterator[str]:
    """Return the address of an empty database that only this test knows."""
    server, name = servers.env["MAINSTEM_DATABASE_URL"], f"test_{uuid4().hex}"
    connection = await asyncpg.connect(server)
    await connection.execute(f"create database {name}")
    yield f"{server.rpartition('/')[0]}/{name}"
    await connection.execute(f"drop database {name} with (force)")
    await connection.close()
