"""One platform with all services for the system tests, a small project on it, and a model that answers."""

import json
from collections.abc import AsyncIterator

import httpx
import pytest
from aiokafka import AIOKafkaProducer
from tests.system.spring import Spring
from tests.system.world import CHECKOUT, HARBOUR, World

from mainstem.cli.local import principals
from mainstem.cli.local.home import Home
from mainstem.cli.local.platform import Platform

#: Larger than anything a test sends: what is too large is for the broker and the platform to say.
LARGEST = 64 << 20


@pytest.fixture(scope="session")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    root = tmp_path_factory.mktemp("system")
    _employ_a_foreman(Home.at(root))
    async with Platform(root, fast=True, cache=CHECKOUT / ".mainstem" / "cache") as platform:
        producer = AIOKafkaProducer(bootstrap_servers=platform.env["MAINSTEM_KAFKA"], max_request_size=LARGEST)
        await producer.start()
        async with httpx.AsyncClient(timeout=30) as http:
            world = World(platform, http, producer)
            await world.apply(HARBOUR)
            yield world
            await world.close()


def _employ_a_foreman(home: Home) -> None:
    """Let somebody have every role: only what they did can keep them from approving it."""
    home.create()
    principals.ensure(home.principals)
    lines = json.loads(home.principals.read_text())
    foreman = {"name": "foreman", "roles": ["builder", "approver", "operator", "replay"], "token": "f" * 32}
    home.principals.write_text(json.dumps([*lines, foreman]))


@pytest.fixture(scope="session")
async def spring(world: World) -> Spring:
    """Return the spring of lifts, with version 1 of the model in production."""
    spring = Spring(world)
    await spring.learn()
    await spring.answers(1)
    return spring
