"""A copy of the log and its artifacts are enough: from them the platform comes back, and goes on where it was."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from projects.flights.data import Events
from tests.fault.scenario import CHECKOUT, Outcome, Run

from mainstem.cli.local.home import Home
from mainstem.cli.local.platform import Platform

pytestmark = [pytest.mark.real, pytest.mark.fault]

CACHE = CHECKOUT / ".mainstem" / "cache"
#: After so many of the days everything is lost.
LOST_AFTER = 13


async def mainstem(platform: Platform, *arguments: object) -> str:
    command = [str(Path(sys.executable).parent / "mainstem"), *map(str, arguments)]
    env = {**os.environ, **platform.env}
    done = await asyncio.to_thread(
        subprocess.run, command, env=env, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def test_the_platform_comes_back_from_a_copy_alone_and_goes_on(
    undisturbed: Outcome, flights: Mapping[str, Events], tmp_path: Path
) -> None:
    lost, restored, copy = tmp_path / "lost", tmp_path / "restored", tmp_path / "copy"
    async with Platform(lost, fast=True, cache=CACHE) as platform:
        run = Run(platform, flights)
        await run.play(LOST_AFTER)
        before = await run.settled()
        await mainstem(platform, "audit", "export", copy, "--artifacts")
    shutil.copytree(Home.at(lost).keys, Home.at(restored).keys)
    shutil.rmtree(lost)
    async with Platform(restored, fast=True, cache=CACHE, services=()) as platform:
        await mainstem(platform, "audit", "restore", copy)
    async with Platform(restored, fast=True, cache=CACHE) as platform:
        run = Run(platform, flights)
        after = await run.settled(before)
        assert after.tables == before.tables
        assert after.entries == before.entries
        assert after.ids == before.ids
        await mainstem(platform, "audit", "verify")
        await mainstem(platform, "audit", "replay")
        await run.go_on(LOST_AFTER)
        found = await run.settled(undisturbed)
    assert found.tables == undisturbed.tables
    assert found.entries == undisturbed.entries
    assert found.ids == undisturbed.ids
