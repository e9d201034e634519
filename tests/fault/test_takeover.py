"""A version on another set of features takes over, and the one before it again: every record is answered once."""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from tests.fault.scenario import CHECKOUT, Killer
from tests.fault.takeover import CHANGES, END, LIFTS, LONGEST_WAIT_S, taking_over

from mainstem.cli.local.graph import SERVICES
from mainstem.cli.local.platform import Platform
from mainstem.cli.local.ports import anywhere

pytestmark = [pytest.mark.real, pytest.mark.fault]

PACK = ("features", "serving", "registry")


async def test_kills_around_four_takeovers_neither_lose_nor_double_an_answer(
    new_platform: Callable[[], AbstractAsyncContextManager[Platform]], tmp_path: Path
) -> None:
    async with new_platform() as platform, taking_over(platform) as story:
        await story.begin(tmp_path)
        story.killer = killer = Killer(platform, [*PACK * 20])
        for place, (day, following) in enumerate(pairwise((*CHANGES, END))):
            await story.change(day, following, late=place >= 2)
        activations = await story.activations(1 + len(CHANGES))
        answers = await story.answers()
    assert (len(killer.kills) >= 20, set(killer.kills)) == (True, set(PACK))
    assert Counter(lift for lift, _, _ in answers) == dict.fromkeys(LIFTS, 1)
    assert [version for _, version in activations] == [1, 2, 1, 2, 1]
    for _, recorded_us, version in answers:
        assert version == [later for since_us, later in activations if since_us <= recorded_us][-1]


@pytest.mark.parametrize(("module", "times"), [("mainstem.serving.app", {1}), ("tests.fault.careless_serving", {1, 2})])
async def test_who_lets_the_old_version_go_on_answers_twice_and_ours_does_not(
    module: str, times: set[int], tmp_path: Path
) -> None:
    async with beside(module, tmp_path) as platform, taking_over(platform) as story:
        await story.begin(tmp_path)
        await story.decide(CHANGES[0])
        await story.activations(2)
        await story.spring.play(CHANGES[0], END)
        async with asyncio.timeout(LONGEST_WAIT_S):
            # The second answer of the careless one may come behind the end of the first.
            while set(Counter(lift for lift, _, _ in await story.answers()).values()) != times:
                continue


@asynccontextmanager
async def beside(module: str, root: Path) -> AsyncIterator[Platform]:
    """Start a platform whose serving is this module."""
    services, cache = [name for name in SERVICES if name != "serving"], CHECKOUT / ".mainstem" / "cache"
    async with Platform(root, fast=True, services=services, cache=cache) as platform:
        doors = anywhere({"http": 0, "grpc": 0})
        env = {f"MAINSTEM_{name.upper()}_PORT": str(port) for name, port in doors.items()}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, env={**os.environ, **platform.env, **env}, cwd=CHECKOUT
        )
        try:
            yield platform
        finally:
            process.kill()
            await process.wait()
