import pytest

from mainstem.bus.memory import MemoryBus
from mainstem.testkit.bus_contract import BusContract


class TestMemoryBus(BusContract):
    @pytest.fixture
    def bus(self) -> MemoryBus:
        return MemoryBus()
