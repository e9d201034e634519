"""What the keeper of the gauges does: sends readings on both ways, and looks what became of them."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from tests.system.readings import NUMBERS, Bad, event, reading
from tests.system.world import HARBOUR, Headers, Sent, World, fact, stands_at

from mainstem.events.topics import member


def remember(world: World, source: str) -> str:
    """Return the note of a good record that is about to be sent."""
    note = f"{source} {next(NUMBERS)}"
    world.good.setdefault(source, []).append(note)
    return note


async def good(world: World, source: str = "gauge", around: Headers | None = None) -> str:
    """Send a good record and return its note."""
    note = remember(world, source)
    value = {"station": "north", "note": note, "level" if source == "gauge" else "high": 1.5}
    await world.send(f"src.{source}", Sent(json.dumps(value).encode(), headers=event() if around is None else around))
    return note


async def refused(world: World, there: str) -> dict[str, Any]:
    """Return the verdict on the record that stands there."""
    world.bad.append(there)
    return await world.quarantined(there)


async def refused_between_good_ones(world: World, bad: Bad) -> None:
    """Send a bad record between good ones: it is quarantined by name and they pass, and no process is started anew."""
    async with world.unharmed():
        before, beside = await good(world), await good(world, "tide")
        (there,) = await world.send("src.gauge", bad.sent)
        after = await good(world)
        verdict = await refused(world, there)
        assert (verdict["reason"], verdict["column"]) == (bad.reason, bad.column)
        assert bad.says in verdict["detail"]
        await world.accepted("gauge", before, after)
        await world.accepted("tide", beside)


async def refused_of(world: World, **wanted: object) -> dict[str, Any]:
    """Return the verdict on the record with these fields."""
    found = await world.event("evt.data.quarantine", f"a verdict on {wanted}", **wanted)
    world.bad.append(stands_at(found) or "")
    return fact(found)


async def make_topic(world: World, name: str, partitions: int, settings: Mapping[str, str] | None = None) -> None:
    """Make a topic by hand, as the platform would but for these settings."""
    admin = AIOKafkaAdminClient(bootstrap_servers=world.env["MAINSTEM_KAFKA"])
    await admin.start()
    asked = {**member("src.{source}", "any", partitions).config, **(settings or {})}
    await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=asked)])
    await admin.close()


def declaring(folder: Path, source: str) -> Path:
    """Return the project with one more source, like the tide."""
    project = Path(shutil.copytree(HARBOUR, folder / "harbour"))
    file = project / "sources.py"
    file.write_text(f'{file.read_text()}\n\n{source} = source("{source}", key="station", columns=dict(tide.columns))\n')
    return project


async def post(world: World, content: bytes, **given: str) -> httpx.Response:
    """Post records of the gauge."""
    found = {f"ce-{name}": value for name, value in given.items()}
    return await world.post("ingestion", "/v1/sources/gauge/records", content=content, headers=found)


async def posted(world: World) -> str:
    """Post a good record and return its note."""
    note = remember(world, "gauge")
    assert (await post(world, reading(note=note))).status_code == 202
    return note
