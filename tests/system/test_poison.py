"""What no topic takes, and what nobody could read, is refused where it comes in: nothing stops behind it."""

import os
from pathlib import Path
from typing import Any

import pytest
from tests.system.keeper import (
    declaring,
    good,
    make_topic,
    post,
    posted,
    refused_between_good_ones,
    refused_of,
)
from tests.system.readings import MB, NUMBERS, Bad, event, header, noise, reading
from tests.system.spring import DAYS, MODEL, Spring, at_us
from tests.system.world import Sent, World

from mainstem.events.instants import render

pytestmark = pytest.mark.real

PROGRESS = b"mainstem.data.progress.v1"
#: Does not get smaller by compression.
LONG = os.urandom(2 * MB).hex()
TOO_LARGE = "key and headers take"
POISON = {
    "carries a correlation of megabytes": header("too_large", TOO_LARGE, event(ce_correlationid=LONG.encode())),
    "carries an id of megabytes": header("too_large", TOO_LARGE, event(LONG)),
    "carries a time of megabytes": header("too_large", TOO_LARGE, event(ce_time=LONG.encode())),
    "claims to be progress and announces none": Bad(
        Sent(b'{"until":"soon"}', headers=event(ce_type=PROGRESS)), "missing_field", "level", "absent"
    ),
}


@pytest.mark.parametrize("it", POISON)
async def test_a_poisonous_record_is_quarantined_and_its_neighbours_pass(world: World, it: str) -> None:
    await refused_between_good_ones(world, POISON[it])


async def test_a_record_of_the_type_of_progress_is_not_lost(world: World) -> None:
    await world.accepted("gauge", await good(world, around=event(ce_type=PROGRESS)))


async def test_a_record_as_large_as_a_body_may_be_is_quarantined_whatever_stands_around_it(world: World) -> None:
    named = reading(station=LONG[:MB]).ljust(16 * MB)
    for body, record_id in ((noise(16 * MB), "16 MB"), (named, "a long name")):
        assert (await post(world, body, id=record_id)).status_code == 202
        assert (await refused_of(world, record_id=record_id))["reason"] == "too_large"
    await world.accepted("gauge", await posted(world))


async def test_an_array_that_grows_beyond_it_when_written_out_is_refused_whole(world: World) -> None:
    answer = await post(world, b'[{"station":"north","level":[' + b",".join([b"1e15"] * 1_000_000) + b"]}]")
    assert (answer.status_code, "more than 16777216 bytes when written out" in answer.json()["detail"]) == (413, True)
    await world.accepted("gauge", await posted(world))


@pytest.mark.parametrize(
    ("partitions", "settings", "says"),
    [
        (4, {}, "exists with 4 partitions, 2 are asked for; declare partitions=4"),
        (2, {"max.message.bytes": "1048588"}, "exists with max.message.bytes=1048588, 17825792 is asked for; alter it"),
        (2, {"message.timestamp.type": "CreateTime"}, "exists with message.timestamp.type=CreateTime, LogAppendTime"),
    ],
)
async def test_a_topic_that_exists_otherwise_than_declared_is_refused_and_harms_nobody(
    world: World, tmp_path: Path, partitions: int, settings: dict[str, str], says: str
) -> None:
    name = f"raft_{next(NUMBERS)}"
    await make_topic(world, f"src.{name}", partitions, settings)
    before = (await world.get("registry", "/v1/projects")).json()
    async with world.unharmed():
        done = await world.run("project", "apply", declaring(tmp_path, name))
        assert done.returncode == 1
        assert f"topic src.{name} {says}" in done.stderr
        assert (await world.get("registry", "/v1/projects")).json() == before
        await world.accepted("gauge", await good(world))


@pytest.mark.parametrize("said", [{"id": LONG}, {"parameters": {"entity": LONG}}])
async def test_a_question_whose_answer_could_not_be_recorded_gets_none(
    world: World, spring: Spring, said: dict[str, Any]
) -> None:
    async with world.unharmed():
        answer = await spring.ask(**said)
        assert (answer.status_code, "at most 1024" in answer.json()["error"]) == (413, True)
        await spring.ask(id=f"after {sorted(said)}", parameters={"entity": f"after {sorted(said)}"})
        await spring.prediction(channel="http", entity=f"after {sorted(said)}")


async def test_a_command_with_an_id_that_no_topic_takes_is_refused_and_the_next_one_goes_through(
    world: World, spring: Spring
) -> None:
    # The log will not reach it: no version comes of the run.
    body = {"model": MODEL, "at": render(at_us(DAYS + 99)), "command_id": LONG}
    answer = await world.post("training", "/v1/runs", by="builder", json=body)
    assert (answer.status_code, "at most 200" in answer.json()["detail"]) == (400, True)
    asked = await world.post("training", "/v1/runs", by="builder", json={**body, "command_id": "short"})
    await world.event("evt.training.run", "the run", run=asked.json()["run"])


async def test_a_project_that_no_topic_takes_is_refused_and_the_one_in_force_stays(world: World) -> None:
    before = (await world.get("registry", "/v1/projects")).json()
    definition = (await world.get("registry", "/v1/projects/harbour")).json()["definition"]
    definition["charter"]["purpose"] = LONG
    answer = await world.post("registry", "/v1/projects", by="builder", json={"definition": definition})
    assert (answer.status_code, "at most 1048576; say less" in answer.json()["detail"]) == (422, True)
    assert (await world.get("registry", "/v1/projects")).json() == before
