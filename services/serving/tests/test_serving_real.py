"""Serving as a process, on the real Kafka and PostgreSQL, and through SIGKILL."""

import asyncio
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import pytest

from mainstem.bus.kafka import KafkaBus
from mainstem.bus.reader import LogReader
from mainstem.cli.local.platform import Platform
from mainstem.events.catalogue import decode, encode
from mainstem.events.envelope import Message, begin
from mainstem.events.features import RowComputed
from mainstem.events.fence import Fence
from mainstem.events.registry import DeploymentArm, ProjectApplied
from mainstem.events.serving import DeploymentActivated, DeploymentRefused, Predicted, ShadowScored
from mainstem.events.topics import fixed, member
from mainstem.feature_engine.spec import feature_set
from mainstem.project import (
    Charter,
    Estimator,
    FeatureSetDefinition,
    Gates,
    Label,
    Monitoring,
    Owners,
    ProjectDefinition,
    Risk,
    Serving,
    Value,
    category,
    model,
    source,
)
from mainstem.project import fixed as number
from mainstem.serving.history import Past
from mainstem.serving.store import PROJECTIONS, TOPICS, apply_records
from mainstem.storage import Artifacts, open_database
from mainstem.testkit.waiting import until

pytestmark = [pytest.mark.real, pytest.mark.fault]

CACHE = Path(__file__).parents[3] / ".mainstem" / "cache"
LOG = [topic.replace("*", "storm") for topic in TOPICS]
#: One table as a sorted list of its rows.
ROWS = "select coalesce(array_agg(t::text order by t::text), '{{}}') as rows from {} t"


def definition():
    sensor = category("the sensor")
    wind = {"sensor": sensor, "wind": number("wind", unit="mph", lo=0, hi=200)}
    reading = source("reading", key="sensor", columns=wind)
    damage = source("damage", key="sensor", columns={"sensor": sensor, "loss": number("loss", unit="eur", lo=0, hi=9)})
    spine = reading.stream()
    compiled = feature_set("gusts", spine=spine, lateness="1h")(type("Gusts", (), {"wind": spine.wind})).compile()
    storm = model(
        "storm",
        feature_set="gusts",
        label=Label(source="damage", key="sensor", column="loss", above=1, wait="1s"),
        training_window="10d",
        evaluation_window="1d",
        estimator=Estimator(),
        gates=Gates(min_auc=0.7, max_auc_loss=0.01, confidence=0.95, max_calibration_error=0.05),
        seed=1,
    )
    return ProjectDefinition(
        charter=Charter(
            name="weather",
            purpose="Warn of storms.",
            owners=Owners(technical="weather-team", business="harbour"),
            risk=Risk(impact=1, autonomy=1, reversibility=1, regulatory_exposure=1),
            value=Value(currency="EUR", true_positive=1, false_positive=-1, true_negative=0, false_negative=-1),
        ),
        sources={"reading": reading, "damage": damage},
        feature_sets={"gusts": FeatureSetDefinition(id=compiled.id, spec=compiled.spec)},
        models={"storm": storm},
        serving=Serving(latency_ms=50),
        monitoring=Monitoring(window=1, false_alarms_per_100_windows=1, cooldown=1, min_labelled=1, responses={}),
    )


@pytest.fixture(scope="module")
async def platform(tmp_path_factory):
    root = tmp_path_factory.mktemp("serving")
    async with Platform(root, fast=True, services=["serving"], cache=CACHE) as platform:
        yield platform


@pytest.fixture(scope="module")
async def bus(platform):
    async with KafkaBus(platform.env["MAINSTEM_KAFKA"], "serving-test") as bus:
        names = [(RowComputed.TOPIC, "gusts"), ("tel.prediction.{model}", "storm")]
        await bus.create([*fixed(), *[member(pattern, name, 2) for pattern, name in names]])
        document = definition()
        fact = ProjectApplied(
            project="weather",
            definition_id=document.id,
            definition=document.model_dump(mode="json"),
            applied_by="ann",
        )
        event = begin(fact, command_id="apply", source="/test", actor="ann", recorded_us=1)
        await bus.publisher.publish([encode(event.at_origin("registry@x/0"))])
        yield bus


class World:
    """What a test does to the service from outside, and what it sees of it."""

    def __init__(self, platform, bus, make):
        self.platform, self.bus, self.make = platform, bus, make
        self.artifacts = Artifacts(Path(platform.env["MAINSTEM_ARTIFACTS"]))
        self.artifacts.put(b"{}")

    async def publish(self, *events):
        await self.bus.publisher.publish([encode(event) for event in events])

    async def send_rows(self, *records):
        """Write records into the feature topic; they must come in the order of their offsets."""
        await self.bus.publisher.publish([Message(r.topic, r.key, r.value, r.headers, r.partition) for r in records])

    async def deploy(self, version, **shape):
        """Deploy as the registry would, and return the verdict."""
        digest = self.artifacts.put(self.make.onnx_model(**shape))
        await self.publish(
            self.make.deployment(version, digest),
            self.make.approval(version, digest).at_origin(f"registry@x/{2 * version}"),
            self.make.promotion(version).at_origin(f"registry@x/{2 * version + 1}"),
        )
        return await self.verdict(version)

    async def verdict(self, version):
        wanted = (DeploymentActivated, DeploymentRefused)
        found = await self.facts(
            "evt.serving.deployment",
            lambda events: any(isinstance(e.fact, wanted) and e.fact.version == version for e in events),
        )
        return next(event.fact for event in found if event.fact.version == version)

    async def facts(self, topic, enough, within_s=60):
        """Return the events of a topic, each once as a fenced reader sees them, as soon as there are enough."""
        fence, events = Fence(), []
        async with asyncio.timeout(within_s), LogReader(self.platform.env["MAINSTEM_KAFKA"], [topic]) as reader:
            await reader.start()
            while not enough(events):
                fresh, _ = fence.admit(await reader.poll())
                events += map(decode, fresh)
        return events

    async def predictions(self, enough):
        found = await self.facts("tel.prediction.storm", lambda events: enough(predicted(events)))
        return predicted(found)

    async def ask(self, client, **said):
        """Ask over HTTP until there is an answer."""
        body = {"inputs": [{"name": "features", "datatype": "FP64", "shape": [1, 3], "data": [1, None, 3]}], **said}
        while True:
            try:
                answer = await client.post("/v2/models/storm/infer", json=body)
            except httpx.TransportError:
                await asyncio.sleep(0.02)
                continue
            if answer.status_code == 200:
                return answer.json()
            await asyncio.sleep(0.02)


def predicted(events):
    return [event for event in events if isinstance(event.fact, Predicted)]


@pytest.fixture
def world(platform, bus, make):
    return World(platform, bus, make)


@pytest.fixture
async def client(platform):
    async with httpx.AsyncClient(base_url=platform.env["MAINSTEM_SERVING_URL"], timeout=20) as client:
        yield client


def rows(make, first, count):
    return [
        make.row(offset, (offset % 7, None, 0.5), partition=p) for offset in range(first, first + count) for p in (0, 1)
    ]


async def test_every_row_is_scored_once_by_the_version_in_effect_through_kills(world, platform, make):
    activated = await world.deploy(1)
    assert activated.from_offsets == {"0": 0, "1": 0}
    for first in range(0, 2000, 500):
        await world.send_rows(*rows(make, first, 500))
        if first:
            await world.predictions(lambda found, seen=first: len(found) > 2 * seen - 500)
            platform.kill("serving")
    second = await world.deploy(2, bias=1.0)
    await world.send_rows(*rows(make, 2000, 100))
    found = await world.predictions(lambda found: len(found) >= 4200)
    assert Counter(event.fact.position for event in found).most_common(1)[0][1] == 1
    assert len(found) == 4200
    for event in found:
        _, partition, offset = event.fact.position.split("/")
        assert event.fact.version == (2 if int(offset) >= second.from_offsets[partition] else 1)
        bias = 1.0 if event.fact.version == 2 else 0.0
        assert event.fact.score == pytest.approx(make.expected([int(offset) % 7, 0, 0.5], bias), abs=1e-15)


async def test_the_end_of_the_log_tells_what_an_earlier_process_published(world, platform):
    past = Past(platform.env["MAINSTEM_KAFKA"])
    assert await past.published("tel.prediction.storm", "evt.feature.gusts") == {0: 2099, 1: 2099}


async def test_the_feature_topic_tells_how_late_a_stretch_of_it_was(platform, make):
    past = Past(platform.env["MAINSTEM_KAFKA"])
    spans = {0: range(5, 10), 1: range(7, 8)}
    assert await past.latest("evt.feature.gusts", spans) == make.may + 9_000_000
    assert await past.latest("evt.feature.gusts", {1: range(7, 8)}) == make.may + 7_000_000


async def test_an_unapproved_version_is_refused(world, make):
    await world.publish(make.deployment(3, world.artifacts.put(make.onnx_model(bias=3.0))))
    fact = await world.verdict(3)
    assert (type(fact), fact.rule) == (DeploymentRefused, "not_approved")


async def test_no_answer_is_lost_through_kills_of_service_and_broker(world, platform, client):
    answered = []
    for call in range(60):
        answered.append((await world.ask(client, id=f"call {call}"))["parameters"]["prediction_id"])
        if call == 20:
            platform.kill("serving")
        if call == 40:
            platform.kill("kafka")
    await platform.ready("kafka")
    found = await world.predictions(lambda found: set(answered) <= {event.envelope.id for event in found})
    direct = [event for event in found if event.fact.channel == "http"]
    assert Counter(event.fact.version for event in direct) == {2: len(direct)}
    assert np.allclose([event.fact.score for event in direct], world.make.expected([1, 0, 3], 1.0))


async def test_the_tables_are_what_the_log_says(world, platform):
    kafka, url = platform.env["MAINSTEM_KAFKA"], platform.env["MAINSTEM_DATABASE_URL"]
    live = await open_database(url, "serving", "mainstem.serving")
    replayed = await open_database(url, "replayed", "mainstem.serving")
    fence = Fence()
    async with LogReader(kafka, LOG) as reader, replayed.transaction() as tx:
        await reader.start()
        async for records in reader.to_end():
            await apply_records(tx, fence.admit(records)[0])
    expected = await tables(replayed)
    await settled(live, expected)
    assert [len(rows) for rows in expected.values()] == [1, 2, 2, 3, 2, 1, 5]
    await live.close()
    await replayed.close()


async def test_a_deployment_with_arms_is_answered_by_them_and_seen_by_its_shadow(world, client, make):
    """Version 5 has half of the entities that version 2 had, and version 6 scores behind both."""
    biases = {2: 1.0, 5: -1.0, 6: 2.0}
    files = {version: world.artifacts.put(make.onnx_model(bias=bias)) for version, bias in biases.items()}
    arms = [
        DeploymentArm(version=version, onnx=files[version], profile=make.profile, weight=weight, shadow=not weight)
        for version, weight in ((5, 5_000), (6, 0))
    ]
    approvals = [make.approval(version, files[version]).at_origin(f"registry@x/{20 + version}") for version in (5, 6)]
    await world.publish(
        *approvals,
        make.promotion(5).at_origin("registry@x/27"),
        make.deployment(2, files[2], place=28, arms=arms, salt="spring", led_by=5),
    )
    await listed(client, {"2", "5", "6"})
    answers = [await world.ask(client, parameters={"entity": f"tail {number}"}) for number in range(60)]
    named = Counter(int(answer["model_version"]) for answer in answers)
    assert set(named) == {2, 5}
    assert min(named.values()) > 10
    for answer in answers:
        wanted = make.expected([1, 0, 3], biases[int(answer["model_version"])])
        assert answer["outputs"][0]["data"][1] == pytest.approx(wanted, abs=1e-15)
    ids = {answer["parameters"]["prediction_id"] for answer in answers}
    found = await world.facts("tel.prediction.storm", lambda events: len(shadowed(events)) >= 60)
    assert {event.fact.answer for event in shadowed(found)} == ids
    assert {event.fact.version for event in shadowed(found)} == {6}
    assert np.allclose([event.fact.score for event in shadowed(found)], make.expected([1, 0, 3], 2.0))
    assert ids <= {event.envelope.id for event in predicted(found)}


async def test_a_spool_that_breaks_while_it_is_sent_is_set_aside_and_what_is_answered_then_is_sent(
    world, platform, client
):
    before = (await world.ask(client))["parameters"]["prediction_id"]
    await world.predictions(lambda found: before in {event.envelope.id for event in found})
    (spool,) = Path(platform.env["MAINSTEM_ARTIFACTS"]).parent.glob("spool/serving/*/0")
    with max(spool.glob("*.blocks")).open("ab") as segment:
        segment.write(bytes(24))
    aside = spool.with_name("0.broken-1")
    await until(aside.exists)
    after = [(await world.ask(client))["parameters"]["prediction_id"] for _ in range(20)]
    assert not {before[:16]} & {name[:16] for name in after}
    found = await world.predictions(lambda found: set(after) <= {event.envelope.id for event in found})
    assert Counter(event.envelope.id for event in found).most_common(1)[0][1] == 1


async def listed(client, versions):
    """Return when the index lists just these versions as ready."""
    async with asyncio.timeout(60):
        while True:
            index = (await client.post("/v2/repository/index")).json()
            if {each["version"] for each in index if each["state"] == "READY"} == versions:
                return
            await asyncio.sleep(0.1)


def shadowed(events):
    return [event for event in events if isinstance(event.fact, ShadowScored)]


async def settled(database, expected):
    """Return when the last checkpoint is stored."""
    async with asyncio.timeout(20):
        while True:
            if await tables(database) == expected:
                return
            await asyncio.sleep(0.1)


async def tables(database):
    async with database.transaction() as tx:
        return {table: (await tx.fetch(ROWS.format(table)))[0]["rows"] for table in PROJECTIONS}
