"""A set of features in production is not edited under its model: a version beside it takes over, record by record, and
the old one takes back over."""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord
from tests.system.sets import harbour
from tests.system.spring import DAYS, LIFTS_A_DAY, MODEL, Spring, at_us
from tests.system.world import HARBOUR, World, fact, headers

from mainstem.events.instants import render

pytestmark = pytest.mark.real

ROWS, SECOND_ROWS = "evt.feature.strain", "evt.feature.strain.v2"
#: The days on which the second set takes over, and on which the first takes back over.
FORTH, BACK, END = DAYS + 1, DAYS + 3, DAYS + 7


async def in_force(world: World) -> str:
    """Return the id of the definition in force."""
    return str((await world.get("registry", "/v1/projects/harbour")).json()["definition_id"])


async def dashboard(world: World) -> None:
    """Read the rows as somebody outside the platform does, with offsets committed."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=world.env["MAINSTEM_KAFKA"], group_id="port-dashboard", enable_auto_commit=False
    )
    await consumer.start()
    consumer.assign([TopicPartition(ROWS, 0)])
    await consumer.commit({TopicPartition(ROWS, 0): 1})
    await consumer.stop()


@pytest.fixture(scope="module")
async def incumbent(world: World, spring: Spring) -> int:
    """Return the version in production."""
    return int((await world.get("registry", f"/v1/models/{MODEL}")).json()["deployment"]["version"])


@pytest.fixture(scope="module")
async def refused(world: World, incumbent: int, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what an edit of the set would break, as the command line says it; the definition in force stays."""
    await dashboard(world)
    before = await in_force(world)
    edited = harbour(tmp_path_factory.mktemp("edited"), window="2d")
    done = await world.run("project", "apply", edited, "-o", "json")
    assert (done.returncode, await in_force(world)) == (1, before)
    assert f"wear version {incumbent} (production)" in done.stderr
    (broken,) = json.loads(done.stdout)
    return dict(broken)


async def test_an_edit_of_the_set_in_production_is_refused_with_who_pins_it(
    refused: dict[str, Any], incumbent: int
) -> None:
    assert refused["feature_set"] == "strain"
    assert {"model": MODEL, "version": incumbent, "stage": "production"} in refused["versions"]
    assert refused["pinned"] != refused["proposed"]
    assert 'declare @feature_set("strain", version=2, ...) beside it' in refused["remedy"]


async def test_the_datasets_that_were_built_on_it_are_named(
    world: World, refused: dict[str, Any], incumbent: int
) -> None:
    shown = await world.get("registry", f"/v1/models/{MODEL}/versions/{incumbent}")
    assert shown.json()["dataset"] in refused["datasets"]


async def test_its_readers_are_named_and_the_platform_s_own_told_apart(refused: dict[str, Any]) -> None:
    groups = {one["group"]: one["platform"] for one in refused["consumer_groups"]}
    assert groups | {"port-dashboard": False, "serving": True} == groups


async def test_the_refusal_is_an_event_in_the_story_of_the_version(
    world: World, refused: dict[str, Any], incumbent: int
) -> None:
    record = await world.event("evt.registry.model", "the refusal", rule="feature_set_pinned", version=incumbent)
    found = fact(record)
    assert (found["request"], found["requested_by"], found["impact"]) == ("apply", "builder", refused)
    assert headers(record)["ce_type"] == "mainstem.registry.change_refused.v1"


@dataclass
class Story:
    """What happened to the model: the version on the second set, and who was in production before and after it."""

    first: int
    second: int


@pytest.fixture(scope="module")
async def story(world: World, spring: Spring, incumbent: int, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Declare the second set beside the first, let its version take over for two days, and roll back."""
    await world.apply(harbour(tmp_path_factory.mktemp("second"), second=True))
    await spring.play(DAYS, FORTH)
    versions = (await world.get("registry", f"/v1/models/{MODEL}")).json()["versions"]
    second = max(version["version"] for version in versions) + 1
    assert (await spring.trained(second, FORTH))["stage"] == "candidate"
    assert (await spring.approve(second, by="approver", day=FORTH)).json()["promoted"] is True
    await activated(world, second, FORTH)
    await spring.play(FORTH, BACK)
    assert (await spring.decide("rollback", by="operator", day=BACK, to=incumbent)).json()["promoted"] is True
    await activated(world, incumbent, BACK)
    await spring.play(BACK, END)
    return Story(incumbent, second)


async def activated(world: World, version: int, day: int) -> None:
    """Return when a version answers from the beginning of a day."""
    await world.event(
        "evt.serving.deployment", f"version {version}", version=version, effective_from=render(at_us(day))
    )


def lift_of(record: ConsumerRecord) -> str | None:
    """Return the lift of a feature row, if it is one of the new days; what is no row has none."""
    entity = fact(record).get("entity")
    new = {f"{day}-{hour}" for day in range(DAYS, END) for hour in range(LIFTS_A_DAY)}
    return entity if isinstance(entity, str) and entity in new else None


async def rows(world: World, topic: str, count: int) -> dict[str, tuple[str, bytes]]:
    """Return id and payload of the row of each new lift, when there are so many; a second copy must be the same."""
    follower = await world.follow(topic)
    found: dict[str, tuple[str, bytes]] = {}
    for record in await follower.until(lambda record: lift_of(record) is not None, f"rows of {topic}", count):
        row = headers(record)["ce_id"], record.value or b""
        assert found.setdefault(lift_of(record) or "", row) == row
    return found


async def answers(world: World, count: int) -> dict[str, dict[str, Any]]:
    """Return the predictions on the lifts of the new days by their ids, when there are so many."""
    follower = await world.follow(f"tel.prediction.{MODEL}")

    def new(payload: dict[str, Any]) -> bool:
        day, _, _ = (payload.get("entity") or "-").partition("-")
        return payload.get("channel") == "stream" and day.isdecimal() and int(day) >= DAYS

    await follower.until(lambda record: new(fact(record)), "predictions", count)
    return {headers(record)["ce_id"]: fact(record) for record in await follower.all() if new(fact(record))}


async def test_both_versions_of_the_set_have_a_row_for_every_lift(world: World, story: Story) -> None:
    lifts = (END - DAYS) * LIFTS_A_DAY
    first, second = await rows(world, ROWS, lifts), await rows(world, SECOND_ROWS, lifts)
    assert (len(first), first.keys()) == (lifts, second.keys())
    assert set(first.values()).isdisjoint(second.values())


async def test_the_second_set_begins_with_the_first_lift_of_all(world: World, story: Story) -> None:
    assert fact(await world.event(SECOND_ROWS, "the first lift", entity="0-0"))["feature_set"] == "strain.v2"


async def test_the_rows_of_the_second_are_what_the_log_gives(world: World, story: Story) -> None:
    done = await world.run("feature", "diff", "--feature-set", "strain.v2", "-o", "json")
    (found,) = json.loads(done.stdout)
    assert (done.returncode, found["differing"], found["unknown"], found["missing"]) == (0, 0, 0, 0)


async def test_every_lift_is_answered_once_by_the_version_in_effect(world: World, story: Story) -> None:
    found = await answers(world, (END - DAYS) * LIFTS_A_DAY)
    counts = Counter((one["entity"], one["version"]) for one in found.values())
    assert counts == {
        (f"{day}-{hour}", story.second if FORTH <= day < BACK else story.first): 1
        for day in range(DAYS, END)
        for hour in range(LIFTS_A_DAY)
    }


async def test_every_answer_comes_from_the_set_that_its_version_was_trained_on(world: World, story: Story) -> None:
    found = await answers(world, (END - DAYS) * LIFTS_A_DAY)
    read = {(one["version"], one["position"].partition("/")[0], len(one["features"])) for one in found.values()}
    assert read == {(story.first, ROWS, 3), (story.second, SECOND_ROWS, 4)}


async def test_each_version_is_watched_by_its_own_answers(world: World, story: Story) -> None:
    end = render(at_us(DAYS + 5))
    found = fact(await world.event("evt.monitoring.window", "the verdict", version=story.second, end=end))
    assert found["predictions"] == (BACK - FORTH) * LIFTS_A_DAY
    assert len(found["figures"]["psi"]) == 4


async def test_a_set_that_only_an_archived_version_reads_may_go_and_the_version_then_stays_archived(
    world: World, spring: Spring, story: Story
) -> None:
    await world.apply(HARBOUR)
    answer = await spring.decide("rollback", by="operator", day=END, to=story.second)
    assert (answer.status_code, answer.json()["type"]) == (409, "mainstem:feature_set_gone")
