"""After all that the log holds, and every table follows from it."""

import json

import pytest
from tests.system.world import World

pytestmark = pytest.mark.real


async def test_the_archive_verifies_and_rebuilds_every_table(world: World) -> None:
    verified = await world.run("audit", "verify")
    assert (verified.returncode, "holds" in verified.stdout) == (0, True), verified.stdout
    replayed = await world.run("audit", "replay", "-o", "json")
    assert [table for table in json.loads(replayed.stdout) if not table["equal"]] == []
