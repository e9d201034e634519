"""The year of honest events, read once for all tests."""

import pytest
from projects.flights.data import Events, honest_events


@pytest.fixture(scope="session")
def honest() -> dict[str, Events]:
    return honest_events()
