"""A spring of lifts, replayed, and a model that learns from it which ropes show wear."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import httpx
from aiokafka.structs import ConsumerRecord
from tests.system.world import Sent, World, fact, headers

from mainstem.events.instants import parse, render

START_US = parse("2024-03-01T00:00:00Z")
HOUR_US = 3_600_000_000
DAYS, LIFTS_A_DAY, PARTITIONS = 22, 24, 2
MODEL = "wear"


@dataclass
class Spring:
    """What happens at the cranes, and what people do about the model."""

    world: World

    async def learn(self) -> None:
        """Play the spring, train version 1 on it and put it into production."""
        await self.play(0, DAYS)
        await self.trained(1, DAYS)
        assert (await self.approve(1, by="approver")).status_code == 200
        await self.world.event("evt.serving.deployment", "version 1 answers", version=1)

    async def play(self, first: int, last: int) -> None:
        """Send the lifts of some days and the inspections six hours later, then announce that all are out."""
        lifts = [lift for day in range(first, last) for lift in _lifts(day)]
        for source, records in (("lifted", [a for a, _ in lifts]), ("inspected", [b for _, b in lifts])):
            await self.world.send(f"src.{source}", *records)
            until = render(at_us(last) - 1)
            for partition in range(PARTITIONS):
                await self.world.producer.send_and_wait(
                    f"src.{source}",
                    json.dumps({"until": until}).encode(),
                    partition=partition,
                    headers=[("ce_specversion", b"1.0"), ("ce_type", b"mainstem.data.progress.v1")],
                )

    async def trained(self, version: int, day: int, by: str = "builder") -> dict[str, Any]:
        """Ask for a run on what is known on a day, and return the version that it makes."""
        body = {"model": MODEL, "at": render(at_us(day))}
        assert (await self.world.post("training", "/v1/runs", by=by, json=body)).status_code == 202
        return fact(await self.world.event("evt.registry.model", f"version {version}", version=version))

    async def approve(self, version: int, *, by: str, day: int = DAYS) -> httpx.Response:
        """Approve a version and let it be promoted."""
        return await self.decide(f"versions/{version}/approve", by=by, day=day)

    async def decide(self, what: str, *, by: str, day: int = DAYS, **said: object) -> httpx.Response:
        """Give the registry a command on the model, at the beginning of a day."""
        body = {"command_id": f"{what} by {by} on day {day}", "at": render(at_us(day)), **said}
        return await self.world.post("registry", f"/v1/models/{MODEL}/{what}", by=by, json=body)

    async def ask(self, version: int | None = None, **said: object) -> httpx.Response:
        """Ask the model about a lift over HTTP."""
        path = f"/v2/models/{MODEL}/infer" if version is None else f"/v2/models/{MODEL}/versions/{version}/infer"
        tensor = {"name": "features", "datatype": "FP64", "shape": [1, 3], "data": [90, 20, 50]}
        return await self.world.post("serving", path, json={"inputs": [tensor], **said})

    async def answers(self, version: int) -> None:
        """Return when a version answers direct calls: that it was activated may stand in the log before."""

        async def ready() -> bool:
            told = await self.world.get("serving", f"/v2/models/{MODEL}/versions/{version}/ready")
            return told.status_code == 200

        await self.world.until(ready)

    async def answered_directly(self, count: int) -> list[str]:
        """Return the ids of all published answers to direct calls, when there are so many."""
        follower = await self.world.follow(f"tel.prediction.{MODEL}")
        await follower.until(_is_direct, "answers", count)
        return [headers(record)["ce_id"] for record in await follower.all() if _is_direct(record)]

    async def prediction(self, **wanted: object) -> ConsumerRecord:
        """Return the first published prediction with these fields."""
        return await self.world.event(f"tel.prediction.{MODEL}", "a prediction", **wanted)


def _is_direct(record: ConsumerRecord) -> bool:
    return fact(record).get("channel") in ("http", "grpc")


def at_us(day: float) -> int:
    """Return the recorded time at the beginning of a day of the spring."""
    return START_US + int(day * 24) * HOUR_US


def lift(name: str, recorded_us: int, load: float = 50.0) -> Sent:
    """Return a lift that became known when it happened."""
    value = {"lift": name, "crane": "east", "load": load, "wind": 5.0}
    return Sent(json.dumps(value).encode(), name.encode(), _replayed(f"lift-{name}", recorded_us))


def _lifts(day: int) -> Iterator[tuple[Sent, Sent]]:
    """Yield lifts and their inspections: heavy loads wear the rope, most of the time."""
    random = Random(day)
    for hour in range(LIFTS_A_DAY):
        name, load = f"{day}-{hour}", random.uniform(1, 99)
        known_us = at_us(day) + hour * HOUR_US
        wear = 80 if random.uniform(0, 100) < load else 10
        found = {"lift": name, "wear": wear}
        yield (
            lift(name, known_us, load),
            Sent(json.dumps(found).encode(), name.encode(), _replayed(f"seen-{name}", known_us + 6 * HOUR_US)),
        )


def _replayed(record_id: str, recorded_us: int) -> tuple[tuple[str, bytes], ...]:
    known = render(recorded_us).encode()
    return (
        ("ce_specversion", b"1.0"),
        ("ce_id", record_id.encode()),
        ("ce_time", known),
        ("ce_recordedtime", known),
    )
