"""The registry as a process, on the real Kafka and PostgreSQL."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from mainstem.bus.kafka import KafkaBus
from mainstem.cli.local.platform import Platform
from mainstem.events.catalogue import encode
from mainstem.registry.store import PROJECTIONS, TOPICS, apply
from mainstem.testkit.databases import opened, tables
from mainstem.testkit.logs import events_once

pytestmark = pytest.mark.real

#: The ledger, on a busy machine, takes less until it reads a new topic.
PATIENCE_S = 60
CACHE = Path(__file__).parents[3] / ".mainstem" / "cache"


@pytest.fixture(scope="module")
async def platform(tmp_path_factory):
    root = tmp_path_factory.mktemp("registry")
    async with Platform(root, fast=True, services=["registry", "ledger"], cache=CACHE) as platform:
        yield platform


@pytest.fixture
async def client(platform):
    async with httpx.AsyncClient(base_url=platform.env["MAINSTEM_REGISTRY_URL"], timeout=20) as client:
        yield client


@pytest.fixture
def tokens(platform):
    return {line["name"]: line["token"] for line in json.loads(platform.home.principals.read_text())}


@pytest.fixture
def post(client, tokens):
    async def call(path, by, **body):
        return await client.post(path, json=body, headers={"authorization": f"Bearer {tokens[by]}"})

    return call


async def publish(platform, event):
    async with KafkaBus(platform.env["MAINSTEM_KAFKA"], "registry-test") as bus:
        await bus.publisher.publish([encode(event)])


def of_run(events, run):
    return [event.fact for event in events if getattr(event.fact, "run", None) == run.fact.run]


async def registered(platform, run):
    """Return the version that `run` led to as soon as it is published."""
    kafka, topics = platform.env["MAINSTEM_KAFKA"], ["evt.registry.model"]
    return of_run(await events_once(kafka, topics, lambda events: of_run(events, run)), run)[0]


#: Of two versions, a refusal, an approval, a promotion and a deployment.
RECEIPTS = 6


async def test_a_version_goes_into_production_and_the_log_alone_rebuilds_every_table(
    platform, post, define, run_of, dataset_of
):
    definition = define()
    await publish(platform, dataset_of(definition))
    good, bad = run_of(definition), run_of(definition, 2, auc=0.6, against="sha256:1")
    applied = await post("/v1/projects", "builder", definition=definition.model_dump(mode="json"))
    await publish(platform, good)
    assert (await registered(platform, good)).stage == "candidate"
    refused = await post("/v1/models/storm/versions/1/promote", "operator", command_id="p0")
    approved = await post("/v1/models/storm/versions/1/approve", "approver", command_id="a1")
    await publish(platform, bad)
    assert (await registered(platform, bad)).stage == "refused"
    assert [answer.status_code for answer in (applied, refused, approved)] == [201, 409, 200]
    told = refused.json(), approved.json()
    events = await events_once(platform.env["MAINSTEM_KAFKA"], TOPICS, lambda events: len(events) == 10 + RECEIPTS)
    assert (told[0]["type"], [proved["leaf"] < proved["size"] for proved in told[1]["evidence"]]) == (
        "mainstem:approvals",
        [True] * 3,
    )
    assert await rebuilt(platform, events) == await live(platform)


async def live(platform):
    async with opened(platform.env["MAINSTEM_DATABASE_URL"], "registry", "mainstem.registry") as database:
        found = await tables(database, PROJECTIONS)
    assert all(found.values())
    return found


async def rebuilt(platform, events):
    """Return the tables that an empty schema holds after `events`."""
    async with opened(platform.env["MAINSTEM_DATABASE_URL"], "rebuilt", "mainstem.registry") as database:
        async with database.transaction() as tx:
            for event in sorted(events, key=lambda event: TOPICS.index(event.fact.topic)):
                await apply(tx, event)
        return await tables(database, PROJECTIONS)


async def test_a_killed_registry_goes_on_where_it_was(platform, post, define, run_of):
    definition = define("harbour", mark="h_")
    run, document = run_of(definition), definition.model_dump(mode="json")
    await post("/v1/projects", "builder", definition=document, command_id="h1")
    platform.kill("registry")
    await publish(platform, run)
    assert (await registered(platform, run)).stage == "candidate"
    await platform.ready("registry")
    again = await post("/v1/projects", "builder", definition=document, command_id="h1")
    assert (again.status_code, again.json()["unchanged"]) == (201, False)


async def test_a_run_of_an_unknown_definition_is_parked_and_the_next_one_is_taken(platform, post, define, run_of):
    definition = define("park", mark="p_")
    await post("/v1/projects", "builder", definition=definition.model_dump(mode="json"))
    run = run_of(definition, 2)
    await publish(platform, run_of(define("park", mark="p_", impact=2)))
    await publish(platform, run)
    assert (await registered(platform, run)).version == 1


async def test_who_reads_a_pinned_set_is_named_when_it_would_change(platform, post, define, run_of):
    kafka, definition = platform.env["MAINSTEM_KAFKA"], define("tower", mark="t_")
    await post("/v1/projects", "builder", definition=definition.model_dump(mode="json"))
    run = run_of(definition)
    await publish(platform, run)
    await registered(platform, run)
    for group in ("dashboard", "serving"):
        await committed(kafka, group, "evt.feature.t_gusts")
    edited = define("tower", mark="t_", mean_over="2h")
    named = {}
    async with asyncio.timeout(PATIENCE_S):
        while "ledger" not in named:  # it finds a new topic by itself, in its own time
            answer = await post("/v1/projects", "builder", definition=edited.model_dump(mode="json"))
            assert answer.status_code == 409
            named = {each["group"]: each["platform"] for each in answer.json()["impact"][0]["consumer_groups"]}
    assert named == {"dashboard": False, "ledger": True, "serving": True}


async def committed(kafka, group, topic):
    """Commit an offset in a topic, as a subscriber does."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=group, enable_auto_commit=False)
    await consumer.start()
    place = TopicPartition(topic, 0)
    consumer.assign([place])
    await consumer.commit({place: 0})
    await consumer.stop()
