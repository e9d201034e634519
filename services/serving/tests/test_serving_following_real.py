"""Workers that look features up follow the real log, wherever they begin."""

import asyncio
import re
from contextlib import asynccontextmanager
from uuid import uuid4

import httpx
import msgspec
import psutil
import pytest
from libs.bus.tests.bus_expiry import expire
from services.serving.tests.serving_settings import alone

from mainstem.bus.kafka import KafkaBus
from mainstem.bus.reader import LogReader, read_ends
from mainstem.events.catalogue import encode
from mainstem.events.data import ProgressReached, RecordAccepted
from mainstem.events.envelope import Envelope, Event, Message
from mainstem.events.features import OrderJournalled
from mainstem.events.instants import render
from mainstem.events.topics import ConcreteTopic, fixed, member
from mainstem.feature_engine.spec import feature_set
from mainstem.project import FeatureSetDefinition, Serving, category, source
from mainstem.project import fixed as number
from mainstem.project.serving import Lookup
from mainstem.serving import following
from mainstem.serving.crew import Crew, posts
from mainstem.serving.domain import Followed
from mainstem.serving.following import Following
from mainstem.testkit.projects import shop
from mainstem.testkit.waiting import running, until

pytestmark = [pytest.mark.real, pytest.mark.fault]

HOST = "127.0.0.1"
SECOND = 1_000_000
WIND = {"name": "wind", "datatype": "FP64", "shape": [1], "data": [4.0]}


class Readings:
    """A source of its own on the broker of the session, and what is said of it there."""

    def __init__(self, kafka, bus):
        self.kafka, self._bus = kafka, bus
        self.name = f"reading_{uuid4().hex[:8]}"
        columns = {"sensor": category("the sensor"), "wind": number("wind", unit="mph", lo=0, hi=200)}
        contract = source(self.name, key="sensor", columns=columns, replay=True)
        read = contract.stream()
        features = {"wind": read.wind, "mean": read.by("sensor").mean("wind", "1h"), "n": read.by("sensor").count("1h")}
        compiled = feature_set("gusts", spine=read, lateness="1h")(type("Gusts", (), features)).compile()
        self.definition = compiled.id
        parts = {"gusts": FeatureSetDefinition(id=compiled.id, spec=compiled.spec)}
        serving = Serving(latency_ms=50, lookup=Lookup(limits={self.name: 3_600 * SECOND}))
        project = shop().model_copy(
            update={"sources": {self.name: contract}, "feature_sets": parts, "serving": serving}
        )
        self.followed = Followed("gusts", project.canonical())
        self._said = [0, 0]

    async def create(self):
        topic = member(RecordAccepted.TOPIC, self.name, 2)
        await self._bus.create([*fixed(), ConcreteTopic(topic.name, 2, topic.config)])

    async def say(self, *winds):
        """Say of sensor s0 and s1, each a partition, that the wind blew so, second by second; all of it is known."""
        for part in (0, 1):
            messages = [self._reading(part, self._said[part] + i, wind) for i, wind in enumerate(winds)]
            self._said[part] += len(winds) + 1
            await self._bus.publisher.publish([*messages, self._marker(part, self._said[part] - 1)])

    def _reading(self, part, place, wind):
        fact = RecordAccepted(source=self.name, contract="c", record={"sensor": f"s{part}", "wind": wind})
        at = (place + 1) * SECOND
        envelope = Envelope(
            id=f"{self.name}-{part}-{place}",
            type=fact.TYPE,
            source="/test",
            subject=f"s{part}",
            time_us=at,
            recorded_us=at,
            correlation="story",
            causation="record",
            actor="/test",
            origin=f"src.{self.name}/{part}/{place}",
        )
        message = encode(Event(envelope, fact))
        return Message(f"evt.data.{self.name}", b"s", message.value, message.headers, part)

    def _marker(self, part, place):
        origin = f"src.{self.name}/{part}/{place}".encode()
        headers = (("ce_type", ProgressReached.TYPE.encode()), ("ce_origin", origin))
        value = ProgressReached(until=render((place + 1) * SECOND)).model_dump_json().encode()
        return Message(f"evt.data.{self.name}", None, value, headers, part)


@pytest.fixture
async def readings(kafka):
    async with KafkaBus(kafka, "lookup-test") as bus:
        found = Readings(kafka, bus)
        await found.create()
        yield found


@pytest.fixture
def settings(tmp_path, kafka):
    return alone(tmp_path, kafka=kafka)


@asynccontextmanager
async def client_of(settings):
    async with httpx.AsyncClient(base_url=f"http://{HOST}:{settings.http_port}", timeout=20) as client:
        yield client


async def ask(settings, applied):
    """Ask about sensor s0 in a wind of 4, until so many records were applied; return the answer."""
    inputs = [{"name": "sensor", "datatype": "BYTES", "shape": [1], "data": ["s0"]}, WIND]
    async with asyncio.timeout(30), client_of(settings) as client:
        while True:
            try:
                answer = await client.post("/v2/models/storm/infer", json={"inputs": inputs})
            except httpx.TransportError:
                continue
            said = answer.json()
            if answer.status_code == 200 and said["parameters"]["features_applied"] == applied:
                return said
            assert answer.status_code in (200, 503), said


async def test_answers_follow_the_log_through_the_kill_of_a_worker(service, settings, readings, make):
    await service.deploy(1, reads=readings.definition)
    await readings.say(10.0, 20.0, 30.0)
    crew = Crew(posts(settings, 9))
    service.board.follow({readings.definition: readings.followed})
    async with running(crew.run()):
        crew.route(service.board)
        first = await ask(settings, applied=6)
        await readings.say(60.0)
        later = await ask(settings, applied=8)
        (worker,) = await crew.figures()
        age = "mainstem_feature_age_seconds", (("model", "storm"), ("source", readings.name))
        assert worker.metrics.gauges["mainstem_feature_age_seconds"] == {age: 0.0}
        crew._workers[0].kill()
        again = await ask(settings, applied=8)
    assert first["outputs"][0]["data"][1] == pytest.approx(make.expected([[4.0, 15.0, 2.0]])[0])
    assert later["outputs"][0]["data"][1] == pytest.approx(make.expected([[4.0, 20.0, 3.0]])[0])
    assert again["outputs"] == later["outputs"]
    assert later["parameters"][f"age_s.{readings.name}"] == 0


async def test_a_model_that_nobody_calls_by_entity_costs_no_engine(service, settings, readings):
    await service.deploy(1, reads=readings.definition)
    crew = Crew(posts(settings, 9))
    async with running(crew.run()), client_of(settings) as client:
        crew.route(service.board)
        await until(lambda: crew._workers[0].serial)
        answer = await client.post("/v2/models/storm/infer", json={"inputs": [WIND]})
        assert "not called by entity" in answer.json()["error"]
        maps = psutil.Process(crew._workers[0]._process.pid).memory_maps()
        assert not [each.path for each in maps if "llvmlite" in each.path]


async def test_a_fold_goes_on_where_it_was_stored_if_the_topics_are_the_same(readings, tmp_path, monkeypatch):
    monkeypatch.setattr(following, "_STORE_S", 0.0)
    file = tmp_path / "0" / "gusts.fold"
    await readings.say(10.0, 20.0, 30.0)
    one = Following(readings.followed, file)
    async with running(one.run(readings.kafka)):
        await until(file.exists)
        await until(lambda: one.lookup.fault is None and one.lookup.as_of().applied == 6)
        await until(lambda: stored_in(file)["state"] == one.lookup.snapshot())
    stored = stored_in(file)
    for topics, begins in ((stored["topics"], 3), ({f"evt.data.{readings.name}": str(uuid4())}, 0)):
        file.write_bytes(following._sealed(msgspec.msgpack.encode(stored | {"topics": topics})))
        again = Following(readings.followed, file)
        await again._restore(stored["topics"])
        assert set(again.lookup.offsets().values()) == {begins}
    sealed = file.read_bytes()
    damages = [b"", b"torn", sealed[:-1], *(flipped(sealed, place) for place in range(0, len(sealed), 97))]
    for damaged in damages:
        file.write_bytes(damaged)
        again = Following(readings.followed, file)
        await again._restore(stored["topics"])
        assert set(again.lookup.offsets().values()) == {0}


def stored_in(file):
    return msgspec.msgpack.decode(following._opened(file.read_bytes()))


def flipped(content, place):
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


async def test_a_log_that_has_lost_records_is_not_followed_on(readings, tmp_path, monkeypatch):
    await readings.say(10.0)
    one = Following(readings.followed, tmp_path / "gusts.fold")
    place, take = (f"evt.data.{readings.name}", 0), one.lookup.take

    def without_the_first(records):
        take([record for record in records if (record.topic, record.partition, record.offset) != (*place, 0)])

    one.lookup._fold._following[place] = 0
    monkeypatch.setattr(one.lookup, "take", without_the_first)
    async with asyncio.timeout(20):
        await one.run(readings.kafka)
    assert "0 is due: records between are gone" in one.lookup.fault


async def test_a_partition_that_lost_what_was_due_is_not_followed_on_though_nothing_came_behind_it(
    readings, tmp_path, monkeypatch
):
    monkeypatch.setattr(following, "_STORE_S", 0.0)
    file, topic = tmp_path / "gusts.fold", f"evt.data.{readings.name}"
    await readings.say(10.0)
    one = Following(readings.followed, file)
    async with running(one.run(readings.kafka)):
        await until(lambda: file.exists() and one.lookup.fault is None)
        await until(lambda: stored_in(file)["state"] == one.lookup.snapshot())
    await readings.say(20.0)
    ends = await read_ends(readings.kafka, [topic])
    await expire(readings.kafka, ends)
    behind = Following(readings.followed, file)
    async with asyncio.timeout(20):
        await behind.run(readings.kafka)
    assert re.search(rf"goes on at offset {ends[topic, 0]}, \d is due: records between are gone", behind.lookup.fault)


async def test_what_goes_while_it_is_held_off_is_found_out_by_looking(readings, tmp_path, monkeypatch):
    monkeypatch.setattr(following, "_LOOK_S", 0.05)
    place, hold_off = (f"evt.data.{readings.name}", 1), LogReader.hold_off
    held = {place}
    monkeypatch.setattr(LogReader, "hold_off", lambda reader, _: hold_off(reader, held))
    await readings.say(10.0)
    one = Following(readings.followed, tmp_path / "gusts.fold")
    async with running(one.run(readings.kafka)) as task:
        await until(lambda: one.lookup.fault is None)
        await readings.say(20.0)
        await until(lambda: one.lookup._fold._following[place[0], 0] > 2)
        await expire(readings.kafka, {place: (await read_ends(readings.kafka, [place[0]]))[place]})
        held.clear()
        await until(task.done)
    assert "records between are gone" in one.lookup.fault


async def test_topics_that_were_made_anew_meanwhile_are_not_followed_on(readings, tmp_path):
    one = Following(readings.followed, tmp_path / "gusts.fold")
    one._topics = {f"evt.data.{readings.name}": str(uuid4())}
    async with asyncio.timeout(20):
        await one.run(readings.kafka)
    assert "made anew" in one.lookup.fault


def test_the_journal_is_read_where_a_source_is_live(readings):
    assert Following(readings.followed, None).lookup.topics == [f"evt.data.{readings.name}"]
    live = Followed("buying", shop(replay=False).canonical())
    assert OrderJournalled.TOPIC in Following(live, None).lookup.topics
