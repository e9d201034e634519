"""One thread, as in every run of the service: sums are taken in one order, and nobody waits for a busy core."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from services.training.tests.training_log import whole
from services.training.tests.training_parts import PACKAGE, Parts, write
from threadpoolctl import threadpool_limits

from mainstem.bus.kafka import KafkaBus
from mainstem.project import ProjectDefinition
from mainstem.testkit.databases import opened
from mainstem.testkit.projects import storms


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    with threadpool_limits(1):
        yield


@pytest.fixture
async def bus(kafka: str) -> AsyncIterator[KafkaBus]:
    async with KafkaBus(kafka, "test") as bus:
        yield bus


@pytest.fixture
def definition() -> ProjectDefinition:
    """Return a project whose topics no other test knows."""
    return storms(mark=f"m{uuid4().hex[:12]}_")


@pytest.fixture
async def parts(
    kafka: str, bus: KafkaBus, database_url: str, tmp_path: Path, definition: ProjectDefinition
) -> AsyncIterator[Parts]:
    """Return the parts of the service over a whole log, with the project in force."""
    await write(bus, whole(definition))
    async with opened(database_url, "training", PACKAGE) as database:
        parts = Parts(kafka, database, tmp_path / "artifacts", definition)
        await parts.apply(definition)
        yield parts
