"""The kill tests can see a loss: one service run as it is, and once acknowledging before the effect."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping

import asyncpg
import pytest
from projects.flights.data import DAY_US, Events
from projects.flights.demo.people import People
from projects.flights.demo.player import Player
from tests.fault.scenario import CHECKOUT, FIRST_DAY_US, fortnight

from mainstem.bus.kafka import KafkaBus
from mainstem.bus.reader import LogReader
from mainstem.cli.local.platform import Platform
from mainstem.cli.local.ports import anywhere
from mainstem.events.record import header

pytestmark = [pytest.mark.real, pytest.mark.fault]

DAYS, KILLS = 12, 10


@pytest.mark.parametrize(
    ("module", "loses"), [("mainstem.ingestion.app", False), ("tests.fault.careless_ingestion", True)]
)
async def test_what_acknowledges_before_the_effect_loses_and_ours_does_not(
    module: str, loses: bool, tmp_path_factory: pytest.TempPathFactory, flights: Mapping[str, Events]
) -> None:
    root = tmp_path_factory.mktemp("control")
    async with Platform(root, fast=True, services=["registry"], cache=CHECKOUT / ".mainstem" / "cache") as platform:
        sent = await _play(platform, flights)
        await _kill_again_and_again(platform, module)
        accepted = await _accepted(platform)
    assert (accepted < sent) is loses


async def _play(platform: Platform, flights: Mapping[str, Events]) -> int:
    definition = fortnight()
    async with People(platform.env) as people:
        await people.apply(json.loads(definition.canonical()), FIRST_DAY_US)
    partitions = {name: contract.partitions for name, contract in definition.sources.items()}
    async with KafkaBus(platform.env["MAINSTEM_KAFKA"], "player") as bus:
        player = Player(bus.publisher, flights, partitions)
        for day in range(DAYS):
            await player.play(FIRST_DAY_US + day * DAY_US, FIRST_DAY_US + (day + 1) * DAY_US)
    return sum(player.sent.values())


async def _kill_again_and_again(platform: Platform, module: str) -> None:
    """Kill the service as soon as it has stored any progress, so many times; then let it finish."""
    port = anywhere({"ingestion": 0})["ingestion"]
    env = {**os.environ, **platform.env, "MAINSTEM_HTTP_PORT": str(port)}
    ends = await _ends(platform)
    async with asyncio.timeout(150):
        for _ in range(KILLS):
            before = await _position(platform)
            if before >= ends:
                break
            await _run_until(platform, module, env, before + 1)
        await _run_until(platform, module, env, ends)


async def _run_until(platform: Platform, module: str, env: Mapping[str, str], position: int) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", module, env=env, cwd=CHECKOUT)
    while await _position(platform) < position:  # noqa: ASYNC110  # the condition is in another process
        await asyncio.sleep(0.005)
    process.kill()
    await process.wait()


async def _position(platform: Platform) -> int:
    connection = await asyncpg.connect(platform.env["MAINSTEM_DATABASE_URL"])
    try:
        query = "select coalesce(sum(next_offset), 0)::int from ingestion.position where topic like 'src.%'"
        return int(await connection.fetchval(query))
    except asyncpg.UndefinedTableError:
        return 0
    finally:
        await connection.close()


async def _ends(platform: Platform) -> int:
    topics = [f"src.{name}" for name in fortnight().sources]
    async with LogReader(platform.env["MAINSTEM_KAFKA"], topics) as reader:
        await reader.start()
        return sum((await reader.ends()).values())


async def _accepted(platform: Platform) -> int:
    ids = set()
    topics = [f"evt.data.{name}" for name in fortnight().sources]
    async with LogReader(platform.env["MAINSTEM_KAFKA"], topics) as reader:
        await reader.start()
        async for records in reader.to_end():
            kinds = [(header(record, "ce_type"), header(record, "ce_id")) for record in records]
            ids |= {name for kind, name in kinds if kind == b"mainstem.data.record_accepted.v1"}
    return len(ids)
