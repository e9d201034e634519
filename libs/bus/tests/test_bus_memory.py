import pytest

from mainstem.bus.memory import MemoryBus
from mainstem.events.errors import Unavailable
from mainstem.testkit.bus_contract import BusContract, numbered


class TestMemoryBus(BusContract):
    @pytest.fixture
    def bus(self) -> MemoryBus:
        return MemoryBus()

    async def test_publishing_to_a_topic_that_does_not_exist_is_unavailable(self, bus: MemoryBus) -> None:
        with pytest.raises(Unavailable, match=r"topic contract\.nowhere does not exist; create it first"):
            await bus.publish(numbered("contract.nowhere", 1))
