"""The watch in memory, fresh for a test, or after a story that many tests look at."""

from pathlib import Path

import pytest
from services.monitoring.tests.monitoring_story import World, drifting

from mainstem.monitoring.memory import MemoryStore
from mainstem.storage import Artifacts


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(tmp_path / "artifacts")


@pytest.fixture
async def world(artifacts: Artifacts) -> World[MemoryStore]:
    """Return a watch that has begun; nothing was said yet."""
    return await World(MemoryStore(), artifacts).begun()


@pytest.fixture(scope="session")
async def drifted(tmp_path_factory: pytest.TempPathFactory) -> World[MemoryStore]:
    """Return what an undisturbed watch made of a drift; to be looked at, not to be gone on with."""
    made = await World(MemoryStore(), Artifacts(tmp_path_factory.mktemp("artifacts"))).begun()
    return await made.play(drifting(), most=10_000)
