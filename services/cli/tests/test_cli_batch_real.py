"""A batch on a platform that plays two days of flights: answered and recorded row by row, through kills."""

import asyncio
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from projects.flights.data import DAY_US, HOUR_US, honest_events
from projects.flights.demo.player import Player
from services.cli.tests.flights_platform import CHECKOUT, FLIGHTS, START_US, Shell, reached
from services.serving.tests.conftest import approval, deployment, expected, onnx_model, promotion

from mainstem.bus.kafka import KafkaBus
from mainstem.bus.reader import LogReader
from mainstem.cli.local.platform import Platform
from mainstem.events.catalogue import decode, encode
from mainstem.events.instants import render
from mainstem.events.serving import Predicted
from mainstem.project import load_folder
from mainstem.storage import Artifacts
from mainstem.testkit.waiting import until

pytestmark = [pytest.mark.real, pytest.mark.fault]

MODEL = "arrival_delay"
COMPILED = load_folder(FLIGHTS).feature_sets["flight_delay"].compiled
END_US = START_US + 2 * DAY_US
SERVICES = ["ingestion", "features", "registry", "training", "serving"]
#: So many that the batch is still under way when its server is killed.
MANY = 150_000


@pytest.fixture(scope="module")
async def platform(tmp_path_factory):
    root, cache = tmp_path_factory.mktemp("batch"), CHECKOUT / ".mainstem" / "cache"
    async with Platform(root, fast=True, services=SERVICES, cache=cache) as platform:
        done = await Shell(platform).run("project", "apply", FLIGHTS, "--at", render(START_US))
        assert done.returncode == 0, done.stderr
        async with KafkaBus(platform.env["MAINSTEM_KAFKA"], "batch-test") as bus:
            events = honest_events()
            await Player(bus.publisher, events, dict.fromkeys(events, 2)).play(START_US, END_US)
            await reached(platform, END_US - 1)
            await bus.publisher.publish([encode(event) for event in version_one(platform)])
        yield platform


def version_one(platform):
    """Return what the registry says when a version of the model goes into production."""
    artifacts = Artifacts(Path(platform.env["MAINSTEM_ARTIFACTS"]))
    artifacts.put(b"{}")
    digest = artifacts.put(onnx_model(len(COMPILED.names), most=1.0))
    reads = {"features": list(COMPILED.names), "reads": COMPILED.id, "model": MODEL}
    return [
        deployment(1, digest, at=START_US, **reads),
        approval(1, digest, MODEL).at_origin("registry@x/2"),
        promotion(1, MODEL).at_origin("registry@x/3"),
    ]


@pytest.fixture(scope="module")
def shell(platform):
    return Shell(platform)


async def scored(shell, folder, *rows):
    """Score as soon as the model answers; return the file and what was told."""
    out = folder / "scored.parquet"
    asked = ("prediction", "batch", MODEL, *rows, "--out", out, "-o", "json")
    done = await shell.run(*asked)
    async with asyncio.timeout(60):
        while done.returncode and "no model" in done.stderr:
            done = await shell.run(*asked)
    assert done.returncode == 0, done.stderr
    return pq.read_table(out), json.loads(done.stdout)[0]


async def recorded(platform, batch, enough):
    """Return the predictions of a batch by their ids, once there are enough of them in the log."""
    found, topic = {}, f"tel.prediction.{MODEL}"
    async with asyncio.timeout(240), LogReader(platform.env["MAINSTEM_KAFKA"], [topic]) as reader:
        await reader.start()
        while not enough <= found.keys():
            events = [
                decode(record)
                for record in await reader.poll()
                if batch.encode() in dict(record.headers).get("ce_correlationid", b"")
            ]
            for event in events:
                assert isinstance(event.fact, Predicted)
                assert event.envelope.id not in found
                found[event.envelope.id] = event
    return found


def scores(rows):
    """Return what the model gives, computed without it."""
    return expected(np.clip(np.array(rows, np.float64), -1, 1))


def bits(values):
    return np.array([[np.nan if value is None else value for value in row] for row in values]).view(np.uint64)


async def test_the_rows_of_a_backfill_are_answered_and_each_is_on_record(platform, shell, tmp_path):
    rows = tmp_path / "rows.parquet"
    await shell.answer("feature", "backfill", "--feature-set", "flight_delay", "--out", rows)
    table, told = await scored(shell, tmp_path, "--file", rows)
    given = pq.read_table(rows)
    features = list(map(list, zip(*(given[name].to_pylist() for name in COMPILED.names), strict=True)))
    assert len(table) == len(given) == told["rows"] > 500
    assert table["spine_id"] == given["spine_id"]
    assert table["score"].to_numpy() == pytest.approx(scores(features), abs=1e-12)
    ids = table["prediction_id"].to_pylist()
    events = await recorded(platform, told["batch"], set(ids))
    assert len(events) == len(set(ids)) == len(given)
    assert [events[name].fact.score for name in ids] == table["score"].to_pylist()
    assert (bits(events[name].fact.features for name in ids) == bits(features)).all()


async def test_a_dataset_is_scored_by_its_address(platform, shell, tmp_path):
    (built,) = await shell.answer("dataset", "build", MODEL, "--at", render(END_US - HOUR_US), "--wait")
    table, told = await scored(shell, tmp_path, "--dataset", built["dataset"].removeprefix("sha256:")[:12])
    assert (told["source"], told["by"], len(table)) == (built["dataset"], "features", built["rows"])
    assert table.column_names[:5] == ["id", "spine_id", "entity", "recorded_time", "event_time"]
    assert built["rows"] > 100
    assert not table["score"].null_count


async def test_rows_that_describe_entities_are_answered_as_of_what_is_known(platform, shell, tmp_path):
    entities = tmp_path / "flights.csv"
    entities.write_text(
        "flight,origin,carrier,dep_delay,sched_dep\nf1,EWR,UA,12,2013-01-02T10:00:00Z\nf2,JFK,,-3,\nf3,,,,\n"
    )
    table, told = await scored(shell, tmp_path, "--file", entities, "--entity", "flight")
    assert (told["by"], table["flight"].to_pylist()) == ("entity", ["f1", "f2", "f3"])
    ids = table["prediction_id"].to_pylist()
    events = await recorded(platform, told["batch"], set(ids))
    said = [{k: v for k, v in events[name].fact.lookup.columns.items() if v is not None} for name in ids]
    assert [events[name].fact.entity for name in ids] == ["f1", "f2", "f3"]
    assert said[1] == {"origin": "JFK", "dep_delay": -3}
    assert [events[name].fact.lookup.applied for name in ids] == table["features_applied"].to_pylist()
    assert events[ids[0]].fact.features[COMPILED.names.index("dep_delay")] == 12.0


async def test_a_batch_goes_on_through_a_kill_of_its_server_and_loses_no_record(platform, shell, tmp_path):
    rows = np.random.default_rng(1).normal(size=(MANY, len(COMPILED.names)))
    pq.write_table(pa.table(dict(zip(COMPILED.names, rows.T, strict=True))), tmp_path / "many.parquet")
    batch = asyncio.create_task(scored(shell, tmp_path, "--file", tmp_path / "many.parquet"))
    await until(lambda: list(tmp_path.glob("*.partial")))
    platform.kill("serving")
    table, told = await batch
    assert table["score"].to_numpy() == pytest.approx(scores(rows), abs=1e-12)
    ids = table["prediction_id"].to_pylist()
    assert len(set(ids)) == MANY
    events = await recorded(platform, told["batch"], set(ids))
    # What was asked again may be on record twice, and nothing else.
    assert told["again"] > 0
    assert MANY <= len(events) <= MANY + 256 * told["unsure"]
    assert Counter(event.fact.version for event in events.values()) == {1: len(events)}
