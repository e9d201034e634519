"""Whatever is killed, whenever: the same tables, the same events, and a log that was signed as one history."""

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager

import pytest
from projects.flights.data import Events
from tests.fault.evidence import checkpoints_held
from tests.fault.scenario import Killer, Outcome, Run

from mainstem.cli.local.platform import Platform

pytestmark = [pytest.mark.real, pytest.mark.fault]

#: All of them together: `make fault` asks for more than `make test` has the time for.
KILLS = int(os.environ.get("FAULT_KILLS", "60"))


async def test_dozens_of_kills_change_neither_tables_nor_events_nor_what_was_signed(
    undisturbed: Outcome,
    new_platform: Callable[[], AbstractAsyncContextManager[Platform]],
    flights: Mapping[str, Events],
) -> None:
    async with new_platform() as platform:
        services = tuple(name for name in platform.names if name not in ("kafka", "postgres"))
        # The broker and the database are hit less often because they take longest to come back.
        pack = [*services * (KILLS // 7), *("kafka", "postgres") * (KILLS // 12)]
        killer = Killer(platform, pack)
        run = Run(platform, flights, killer, KILLS)
        await run.play()
        found = await run.settled(undisturbed)
        assert await checkpoints_held(platform) >= 10
    assert len(killer.kills) >= KILLS
    assert {"kafka", "postgres"} <= set(killer.kills)
    assert found.tables == undisturbed.tables
    assert found.entries == undisturbed.entries
    assert found.ids == undisturbed.ids
