"""Training as a process on the real broker and database: killed while it builds, and asked on the command line."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from services.training.tests.training_log import CUT, whole
from services.training.tests.training_parts import write

from mainstem.bus.kafka import KafkaBus
from mainstem.bus.reader import LogReader
from mainstem.cli.local.platform import Platform
from mainstem.events.catalogue import decode, encode
from mainstem.events.envelope import Event
from mainstem.events.instants import render
from mainstem.events.topics import fixed
from mainstem.events.training import DatasetBuilt
from mainstem.storage import Artifacts
from mainstem.testkit.clock import DAY
from mainstem.testkit.projects import applied, storms
from mainstem.training.history.datasets import Builder
from mainstem.training.history.reading import Reading

pytestmark = [pytest.mark.real, pytest.mark.fault]

CACHE = Path(__file__).parents[3] / ".mainstem" / "cache"
MAINSTEM = Path(sys.executable).parent / "mainstem"
DEADLINE_S = 60
PROJECT = storms()
CUTS = [CUT - days * DAY for days in range(4)]


@pytest.fixture(scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    """Return a platform with a project in force and a whole log of it."""
    root = tmp_path_factory.mktemp("training")
    async with Platform(root, fast=True, services=["training"], cache=CACHE) as platform:
        async with KafkaBus(platform.env["MAINSTEM_KAFKA"], "test") as bus:
            await bus.create(fixed())
            await write(bus, whole(PROJECT, rows=3_000))
            await bus.publisher.publish([encode(applied(PROJECT))])
        yield platform


async def ask(platform: Platform, cut_us: int) -> str:
    """Ask for the dataset of a cut until the service, which may be on its way back, says that it will be built."""
    (line,) = [line for line in json.loads(platform.home.principals.read_text()) if line["name"] == "builder"]
    body = {"model": "storm", "command_id": f"dataset {cut_us}", "at": render(cut_us)}
    async with asyncio.timeout(DEADLINE_S), httpx.AsyncClient() as client:
        while True:
            await platform.ready("training")
            with suppress(httpx.TransportError):
                url, headers = platform.env["MAINSTEM_TRAINING_URL"], {"authorization": f"Bearer {line['token']}"}
                answer = await client.post(f"{url}/v1/datasets", json=body, headers=headers)
                if answer.status_code == 202:
                    return str(answer.json()["request"])


async def mainstem(platform: Platform, *arguments: object) -> Any:
    """Return what a command prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAINSTEM_")}
    command = (str(MAINSTEM), *map(str, arguments), "-o", "json")
    process = await asyncio.create_subprocess_exec(*command, env=environment | dict(platform.env), stdout=PIPE)
    async with asyncio.timeout(DEADLINE_S):
        told, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(told)


async def built(platform: Platform) -> dict[str, DatasetBuilt]:
    """Return what was published of each dataset asked for, once there is one for each; each must be there once."""
    found: dict[str, Event] = {}
    async with asyncio.timeout(DEADLINE_S), LogReader(platform.env["MAINSTEM_KAFKA"], ["evt.training.run"]) as reader:
        await reader.start()
        while len(found) < len(CUTS):
            for event in map(decode, await reader.poll()):
                if isinstance(event.fact, DatasetBuilt):
                    first = found.setdefault(event.fact.request, event)
                    assert (first.envelope.id, first.fact) == (event.envelope.id, event.fact)
    return {request: event.fact for request, event in found.items() if isinstance(event.fact, DatasetBuilt)}


async def test_a_service_that_is_killed_while_it_builds_makes_the_datasets_that_an_undisturbed_one_would(
    platform: Platform, tmp_path: Path
) -> None:
    requests = []
    for cut in CUTS:
        requests.append(await ask(platform, cut))
        platform.kill("training")
    found = await built(platform)
    calm = Builder(Artifacts(tmp_path), Reading(platform.env["MAINSTEM_KAFKA"]))
    for request, cut in zip(requests, CUTS, strict=True):
        undisturbed = await calm.build(PROJECT, "storm", cut, lambda _read, _there: None)
        fact = found[request]
        assert (fact.dataset, fact.table, fact.cut) == (undisturbed.dataset, undisturbed.table, render(cut))


async def test_a_dataset_whose_files_were_deleted_is_built_again_on_the_command_line(platform: Platform) -> None:
    await platform.ready("training")
    (first,) = await mainstem(platform, "dataset", "build", "storm", "--at", render(CUT), "--wait")
    remove(Path(platform.env["MAINSTEM_ARTIFACTS"]), first["dataset"], first["parquet"])
    (again,) = await mainstem(platform, "dataset", "build", "storm", "--at", render(CUT), "--wait")
    (shown,) = await mainstem(platform, "dataset", "show", first["dataset"][:16])
    assert again == first
    assert shown["check"]["verdict"] == "holds"


def remove(folder: Path, *addresses: str) -> None:
    for address in addresses:
        (file,) = folder.rglob(address.removeprefix("sha256:"))
        file.unlink()
