"""Platforms of their own for the fault tests, and the run that nothing disturbs."""

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from projects.flights.data import Events, honest_events
from tests.fault.scenario import CHECKOUT, Outcome, Run

from mainstem.cli.local.platform import Platform

NewPlatform = Callable[[], AbstractAsyncContextManager[Platform]]


@pytest.fixture(scope="session")
def flights() -> Mapping[str, Events]:
    """Return the honest events of the year."""
    return honest_events()


@pytest.fixture(scope="session")
def new_platform(tmp_path_factory: pytest.TempPathFactory) -> NewPlatform:
    """Return what starts a platform of its own with all services."""

    @asynccontextmanager
    async def start() -> AsyncIterator[Platform]:
        root = tmp_path_factory.mktemp("fault")
        async with Platform(root, fast=True, cache=CHECKOUT / ".mainstem" / "cache") as platform:
            yield platform

    return start


@pytest.fixture(scope="session")
async def undisturbed(new_platform: NewPlatform, flights: Mapping[str, Events]) -> Outcome:
    """Return what the two weeks lead to when nothing is killed."""
    async with new_platform() as platform:
        run = Run(platform, flights)
        await run.play()
        return await run.settled()


@pytest.fixture
def nothing_is_synced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no disk in this process: what is synced is known by the calls."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
