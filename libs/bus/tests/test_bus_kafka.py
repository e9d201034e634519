from collections.abc import AsyncIterator

import pytest

from mainstem.bus.kafka import KafkaBus
from mainstem.testkit.bus_contract import BusContract

pytestmark = pytest.mark.real


@pytest.fixture
async def bus(kafka: str) -> AsyncIterator[KafkaBus]:
    async with KafkaBus(kafka, "test") as bus:
        yield bus


class TestKafkaBus(BusContract):
    pass
