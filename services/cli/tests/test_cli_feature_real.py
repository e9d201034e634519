"""Values read, traced and computed anew on the command line, on a platform that plays two days of flights."""

import asyncio
import json
import shutil
from dataclasses import replace

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
from projects.flights.data import DAY_US, HOUR_US, honest_events
from projects.flights.demo.player import Player
from services.cli.tests.flights_platform import CHECKOUT, FLIGHTS, START_US, Shell, hollow, reached

from mainstem.bus.kafka import KafkaBus
from mainstem.bus.reader import LogReader
from mainstem.cli.local.platform import Platform
from mainstem.events.catalogue import decode
from mainstem.events.data import RecordAccepted
from mainstem.events.envelope import Message
from mainstem.events.features import OrderJournalled, RowComputed, ValuesRead
from mainstem.events.ids import child_id
from mainstem.events.instants import parse, render
from mainstem.feature_engine.reference import Applied, Reference
from mainstem.features.history import History
from mainstem.project import load_folder
from mainstem.testkit.projects import shop

pytestmark = pytest.mark.real

FIRST_US = START_US + DAY_US
END_US = START_US + 3 * DAY_US
WAIT_US = DAY_US
SPINE = "evt.data.flight_departed"
FIRST = ("--feature-set", "flight_delay")
COMPILED = load_folder(FLIGHTS).feature_sets["flight_delay"].compiled
ENTITIES = [
    {"origin": "JFK", "carrier": "UA", "dest": "LAX", "dep_delay": 4, "distance": 2475, "tail": None},
    {"origin": "EWR", "carrier": "EV", "sched_dep": "2013-01-02T15:30:00-05:00"},
    {"origin": "LGA"},
    {},
]
SECOND = '''

@feature_set("flight_delay", spine=dep, lateness="6h", version=2)
class FlightDelaySecond:
    """Another look at the same flights."""

    dep_delay = dep.dep_delay
    origin_mean_2h = dep.by("origin").mean("dep_delay", "2h")
    much_later = target(arr.arr_delay > 60, on="flight", wait="12h")
'''


@pytest.fixture(scope="module")
async def platform(tmp_path_factory):
    root, cache = tmp_path_factory.mktemp("features"), CHECKOUT / ".mainstem" / "cache"
    async with Platform(root, fast=True, services=["ingestion", "features", "registry"], cache=cache) as platform:
        done = await Shell(platform).run("project", "apply", FLIGHTS, "--at", render(START_US))
        assert done.returncode == 0, done.stderr
        yield platform


@pytest.fixture(scope="module")
def shell(platform):
    return Shell(platform)


def with_late_labels(events):
    """Return the events with the first arrival known at the very end of its wait, and the second a moment later."""
    departed, arrived = events["flight_departed"], events["flight_arrived"]
    happened = dict(zip(departed.keys, departed.event_time_us.tolist(), strict=True))
    at = arrived.arrival_us.copy()
    for row, beyond in ((0, 0), (1, 1)):
        at[row] = happened[arrived.keys[row]] + WAIT_US + beyond
    order = np.argsort(at, kind="stable")
    lists = {name: [getattr(arrived, name)[row] for row in order] for name in ("ids", "keys", "payloads")}
    moved = replace(arrived, event_time_us=arrived.event_time_us[order], arrival_us=at[order], **lists)
    return {**events, "flight_arrived": moved}, arrived.keys[:2]


async def records(platform, topics):
    """Return all records of some topics."""
    async with LogReader(platform.env["MAINSTEM_KAFKA"], topics) as reader:
        await reader.start()
        return [record async for batch in reader.to_end() for record in batch]


async def facts(platform, topic, kind):
    """Return the facts of a kind in a topic."""
    return [fact for fact in (decode(record).fact for record in await records(platform, [topic])) if type(fact) is kind]


async def accepted(platform, record_id):
    """Return when the record that a source knows by an id was accepted."""
    wanted = child_id(record_id, RecordAccepted.TYPE).encode()
    async with asyncio.timeout(60), LogReader(platform.env["MAINSTEM_KAFKA"], [SPINE]) as reader:
        await reader.start()
        seen = set()
        while wanted not in seen:
            seen |= {dict(record.headers)["ce_id"] for record in await reader.poll()}


@pytest.fixture(scope="module")
async def story(platform):
    """Play two days in stretches of six hours, reading values all the while; then a departure that is held back."""
    events, late = with_late_labels(honest_events())
    answers, url = [], f"{platform.env['MAINSTEM_FEATURES_URL']}/v1/feature-sets/flight_delay/read"
    async with KafkaBus(platform.env["MAINSTEM_KAFKA"], "player") as bus, httpx.AsyncClient(timeout=30) as client:
        player = Player(bus.publisher, events, dict.fromkeys(events, 2))
        for start_us in range(START_US, END_US, 6 * HOUR_US):
            await player.play(start_us, start_us + 6 * HOUR_US)
            answers += [(await client.post(url, json={"entities": ENTITIES})).json() for _ in range(5)]
        await reached(platform, END_US - 1)
        departed = first_after(events["flight_departed"], END_US)
        await bus.publisher.publish([departed])
        held_back = dict(departed.headers)["ce_id"].decode()
        await accepted(platform, held_back)
    read = [answer for answer in answers if "values" in answer]
    return {"events": events, "late": late, "answers": read, "held_back": held_back}


def first_after(events, instant_us):
    """Return the first event that became known at an instant or after it, as a source sends it: nobody announces it."""
    row = int(np.searchsorted(events.arrival_us, instant_us))
    times = zip(("ce_time", "ce_recordedtime"), (events.event_time_us[row], events.arrival_us[row]), strict=True)
    told = (("ce_specversion", "1.0"), ("ce_id", events.ids[row]), ("ce_type", events.source), ("ce_source", "/test"))
    headers = [*told, *((name, render(int(at))) for name, at in times)]
    encoded = tuple((name, value.encode()) for name, value in headers)
    return Message(f"src.{events.source}", events.keys[row], events.payloads[row], encoded, 0)


@pytest.fixture(scope="module")
async def published(platform, story):
    """Return the published rows by the id of their spine record."""
    return {row.spine_id: row for row in await facts(platform, "evt.feature.flight_delay", RowComputed)}


@pytest.fixture(scope="module")
async def backfilled(shell, story, tmp_path_factory):
    """Return the file of a backfill."""
    file = tmp_path_factory.mktemp("rows") / "rows.parquet"
    (told,) = await shell.answer("feature", "backfill", "--feature-set", "flight_delay", "--out", file)
    assert told["label"] == "flight_arrived.arr_delay > 15 within 1d, joined by flight"
    return file


async def applied_order(platform):
    """Return the records in the order in which they were applied."""
    history = History(COMPILED)
    history.offer(await records(platform, history.topics))
    return [*history.advance(), *history.rest()]


def bits(values):
    return np.array([[np.nan if value is None else value for value in row] for row in values]).view(np.uint64)


async def test_a_backfill_is_what_was_published_bit_by_bit(backfilled, published):
    rows = {row["spine_id"]: row for row in pq.read_table(backfilled).to_pylist()}
    assert rows.keys() == published.keys()
    again = [[rows[spine_id][name] for name in COMPILED.names] for spine_id in published]
    assert (bits(again) == bits(row.values for row in published.values())).all()


async def test_the_positions_of_a_backfill_are_those_of_the_applied_order(platform, backfilled):
    rows = pq.read_table(backfilled, columns=["spine_id", "position"]).to_pylist()
    order = [one.place for one in await applied_order(platform) if one.stream == COMPILED.spine]
    assert [(row["spine_id"], row["position"]) for row in rows] == [
        (place.event_id, place.position) for place in order[: len(rows)]
    ]


async def test_the_labels_of_a_backfill_are_those_that_came_in_time(story, backfilled):
    arrived, table = story["events"]["flight_arrived"], pq.read_table(backfilled)
    delays = [json.loads(payload)["arr_delay"] for payload in arrived.payloads]
    played = zip(arrived.keys, arrived.arrival_us.tolist(), delays, strict=True)
    came = {key.decode(): (at, delay) for key, at, delay in played if at < END_US and delay is not None}
    labels = dict(zip(table["entity"].to_pylist(), table["label"].to_pylist(), strict=True))
    for flight, happened in zip(labels, table["event_time"].cast("int64").to_pylist(), strict=True):
        at, delay = came.get(flight, (0, 0))
        assert labels[flight] is (delay > 15 if happened < at <= happened + WAIT_US else None)
    assert set(labels.values()) == {True, False, None}
    at_the_end, too_late = (labels[key.decode()] for key in story["late"])
    assert (at_the_end is None, too_late) == (False, None)


async def test_the_file_of_a_backfill_says_what_was_read(platform, backfilled):
    about = pq.read_metadata(backfilled).metadata
    assert about[b"mainstem.definition"] == COMPILED.id.encode()
    async with LogReader(platform.env["MAINSTEM_KAFKA"], [f"evt.data.{name}" for name in COMPILED.streams]) as reader:
        await reader.start()
        ends = await reader.ends()
    positions = json.loads(about[b"mainstem.positions"])
    assert {(topic, int(part)): to for topic, read in positions.items() for part, to in read.items()} == ends
    assert json.loads(about[b"mainstem.label"])["wait"] == WAIT_US


@pytest.mark.parametrize("feature", ["dep_delay", "hour_of_week", "origin_now", "carrier_late_24h", "tail_age", "wind"])
async def test_a_published_value_is_traced_to_its_records(shell, published, feature):
    spine_id, row = sorted(published.items())[77]
    (found,) = await shell.answer("feature", "trace", spine_id[:12], feature, *FIRST)
    assert (found["spine_id"], found["equal"], found["order"]) == (spine_id, True, "journal")
    assert found["served"] == found["recomputed"] == row.values[COMPILED.names.index(feature)]
    assert all(one["position"] <= found["position"] for one in found["records"])


async def test_the_records_behind_a_count_are_as_many_as_it_says(platform, shell, published):
    place = COMPILED.names.index("origin_deps_1h")
    spine_id, row = max(published.items(), key=lambda pair: pair[1].values[place])
    (found,) = await shell.answer("feature", "trace", spine_id, "origin_deps_1h", *FIRST)
    key, *behind = reversed(found["records"])
    assert (key["in"], len(behind)) == ("origin", row.values[place])
    stored = {(one.topic, one.partition, one.offset): one for one in await records(platform, ["src.flight_departed"])}
    for one in behind:
        source = stored[one["topic"], one["partition"], one["offset"]]
        assert json.loads(source.value)["origin"] == key["value"]
        assert parse(dict(source.headers)["ce_time"].decode()) == parse(one["event_time"])
        assert parse(found["event_time"]) - HOUR_US <= parse(one["event_time"]) < parse(found["event_time"])


async def test_a_value_is_traced_by_the_id_that_the_source_gave(shell, story, published):
    source_id = story["events"]["flight_departed"].ids[5]
    done = await shell.run("feature", "trace", source_id, "dep_delay", *FIRST)
    assert done.returncode == 0, done.stderr
    assert child_id(source_id, RecordAccepted.TYPE) in done.stdout
    assert "equal          True" in done.stdout


async def test_ids_that_lead_nowhere_are_refused_with_what_to_do(shell, story):
    for wanted, why in [
        ("nobody", f"records of {SPINE} has an id that begins with 'nobody', neither its own nor its source's"),
        ("", "records of evt.data.flight_departed have an id that begins with ''"),
        (story["held_back"], "has no row of flight_delay yet"),
    ]:
        done = await shell.run("feature", "trace", wanted, "wind", *FIRST)
        assert (done.returncode, why in done.stderr) == (1, True), done.stderr
    done = await shell.run("feature", "trace", "nobody", "winds", *FIRST)
    assert "no feature 'winds'; flight_delay has dep_delay, hour_of_week" in done.stderr


async def test_the_log_gives_every_answer_again(platform, shell, story):
    for hours in (1, 5):
        moment = ("--at", render(END_US - hours * HOUR_US))
        await shell.answer(
            "feature", "read", "flight_delay", "--entity", "origin=JFK", "--entity", "tail=N14228", *moment
        )
    read = await facts(platform, ValuesRead.TOPIC, ValuesRead)
    assert [fact.values for fact in read[:-2]] == [answer["values"] for answer in story["answers"]]
    order, reference, done = await applied_order(platform), Reference(COMPILED.spec), 0
    for fact in sorted(read, key=lambda fact: fact.applied):
        for record in order[done : fact.applied]:
            reference.apply(record)
        done = fact.applied
        assert [reference.row(one) for one in asked(fact, order[done - 1].arrival_us)] == fact.values
    assert len({fact.applied for fact in read}) > 3


def asked(fact, arrival_us):
    """Return the entities of a read as spine records that come next."""
    for number in range(len(fact.values)):
        columns = {name: values[number] for name, values in fact.columns.items()}
        if columns.get("sched_dep") is not None:
            columns["sched_dep"] = parse(columns["sched_dep"])
        yield Applied(COMPILED.spine, parse(fact.at), arrival_us, columns)


async def test_what_cannot_be_read_is_refused(shell, story):
    done = await shell.run("feature", "read", "flight_delay", "--entity", "flight=UA-1")
    assert (done.returncode, "reads no column 'flight' of flight_departed" in done.stderr) == (1, True)
    done = await shell.run("feature", "read", "flight_delay", "--at", render(FIRST_US), "--entity", "origin=JFK")
    assert (done.returncode, "the oldest moment of which everything is kept" in done.stderr) == (1, True)


async def test_a_set_is_listed_with_its_rows_when_it_is_live(shell, published):
    def live(rows):
        return rows[0]["state"] == "live"

    (row, *_) = await shell.until(live, "feature", "list")
    assert (row["feature_set"], row["version"], row["rows"]) == ("flight_delay", 1, len(published))


async def test_a_set_is_backfilled_before_it_is_in_force_and_diffed_after(platform, shell, story, tmp_path):
    folder, file = tmp_path / "flights", tmp_path / "second.parquet"
    shutil.copytree(FLIGHTS, folder, ignore=shutil.ignore_patterns("demo", "__pycache__"))
    (folder / "features.py").write_text((folder / "features.py").read_text() + SECOND)
    label, draft = "flight_delay.v2", load_folder(folder)
    (told,) = await shell.answer("feature", "backfill", "--project", folder, "--feature-set", label, "--out", file)
    compiled = draft.feature_sets[label].compiled
    assert (told["id"], told["label"]) == (compiled.id, "flight_arrived.arr_delay > 60 within 12h, joined by flight")
    done = await shell.run("project", "apply", folder, "--at", render(END_US))
    assert done.returncode == 0, done.stderr
    await reached(platform, END_US - 1, label)
    (found,) = await shell.answer("feature", "diff", "--feature-set", label)
    assert found["differing"] == found["unknown"] == found["missing"] == 0
    rows = {row["spine_id"]: row for row in pq.read_table(file).to_pylist()}
    second = await facts(platform, RowComputed.topic_of(label), RowComputed)
    assert {row.spine_id for row in second} == rows.keys()
    again = [[rows[row.spine_id][name] for name in compiled.names] for row in second]
    assert (bits(again) == bits(row.values for row in second)).all()
    assert {row["label"] for row in rows.values()} == {True, False, None}
    (at,) = await shell.answer("feature", "read", label, "--entity", "origin=JFK")
    assert at["definition"] == compiled.id


async def test_of_live_sources_the_order_is_that_of_the_journal(platform, shell, story):
    definition = shop(replay=False)
    tokens = {line["name"]: line["token"] for line in json.loads(platform.home.principals.read_text())}
    async with httpx.AsyncClient(base_url=platform.env["MAINSTEM_REGISTRY_URL"], timeout=30) as registry:
        headers = {"authorization": f"Bearer {tokens['builder']}"}
        body = {"definition": definition.model_dump(mode="json")}
        assert (await registry.post("/v1/projects", json=body, headers=headers)).status_code == 201
    async with KafkaBus(platform.env["MAINSTEM_KAFKA"], "till") as bus:
        for number in range(40):
            shop_name = f"s{number % 3}"
            for source, column in (("payments", "paid"), ("orders", "amount")):
                value = json.dumps({"shop": shop_name, column: number}).encode()
                await bus.publisher.publish([Message(f"src.{source}", shop_name.encode(), value, (), number % 2)])
    rows = await computed(platform, "evt.feature.buying", 40)
    last = max(rows, key=lambda row: row.values[1])
    await spoil(platform, definition.feature_sets["buying"].id, last.spine_id)
    done = await shell.run("feature", "diff", "--feature-set", "buying", "-o", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "orders, payments announce no progress: what the journal does not name is taken" in done.stderr
    assert "1 of the records read were never accepted by ingestion" in done.stderr
    (compared,) = json.loads(done.stdout)
    assert (compared["rows"], compared["unreadable"]) == (40, 2)
    (parked,) = await shell.until(bool, "feature", "parked", "buying")
    assert (parked["topic"], parked["id"]) == ("evt.data.orders", "junk")
    assert "this is no accepted record" in parked["reason"]
    (found,) = await shell.answer("feature", "trace", last.spine_id, "paid")
    assert (found["equal"], found["order"], found["served"]) == (True, "journal", last.values[2])


async def spoil(platform, definition, spine_id):
    """Write what is called an entry of the journal, rows and an accepted record, and is none of them."""
    headers = [("ce_causationid", spine_id.encode()), ("ce_id", b"junk")]

    def junk(topic, kind, value):
        return Message(topic, b"s0", value, (("ce_type", kind.TYPE.encode()), *headers), 0)

    short = json.dumps({"definition": definition, "spine_id": spine_id, "values": [1.0]}).encode()
    async with KafkaBus(platform.env["MAINSTEM_KAFKA"], "vandal") as bus:
        await bus.publisher.publish(
            [
                junk(OrderJournalled.TOPIC, OrderJournalled, json.dumps({"definition": definition}).encode()),
                junk("evt.feature.buying", RowComputed, b"{"),
                junk("evt.feature.buying", RowComputed, short),
                junk("evt.data.orders", RecordAccepted, b"{"),
            ]
        )


async def computed(platform, topic, count):
    """Return the rows of a topic as soon as there are so many."""
    async with asyncio.timeout(60), LogReader(platform.env["MAINSTEM_KAFKA"], [topic]) as reader:
        await reader.start()
        rows = {}
        while len(rows) < count:
            found = [decode(record).fact for record in await reader.poll()]
            rows |= {row.spine_id: row for row in found if isinstance(row, RowComputed)}
    return list(rows.values())


async def test_a_hole_in_the_log_ends_a_command_with_where_it_is_and_what_to_do(platform, shell, story, tmp_path):
    await hollow(platform, SPINE)
    for command in (["backfill", "--out", tmp_path / "rows.parquet"], ["diff"]):
        done = await shell.run("feature", *command, *FIRST)
        assert done.returncode == 1
        assert f"mainstem: {SPINE}/0 has lost what stood at offset" in done.stderr
        assert ("replay its source on a fresh platform" in done.stderr, "Traceback" in done.stderr) == (True, False)
    assert list(tmp_path.iterdir()) == []
