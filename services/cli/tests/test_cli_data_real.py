"""Records, their corrections and their features on the command line, on a platform that plays three days of flights."""

import asyncio
import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from projects.flights.data import DAY_US, honest_events
from projects.flights.demo.player import Player
from services.cli.tests.flights_platform import CHECKOUT, FLIGHTS, START_US, Shell, reached

from mainstem.bus.kafka import KafkaBus
from mainstem.bus.reader import LogReader
from mainstem.cli.local.platform import Platform
from mainstem.events.envelope import Message
from mainstem.events.instants import parse, render

pytestmark = pytest.mark.real

ROWS_TOPIC = "evt.feature.flight_delay"


@pytest.fixture(scope="module")
async def platform(tmp_path_factory):
    root, cache = tmp_path_factory.mktemp("data"), CHECKOUT / ".mainstem" / "cache"
    async with Platform(root, fast=True, services=["ingestion", "features", "registry"], cache=cache) as platform:
        done = await Shell(platform).run("project", "apply", FLIGHTS, "--at", render(START_US))
        assert done.returncode == 0, done.stderr
        yield platform


@pytest.fixture(scope="module")
def shell(platform):
    return Shell(platform)


def first_departure_spoilt(events):
    """Return the events with a delay in the first departure that no contract allows, and that record as it was."""
    departed = events["flight_departed"]
    good = json.loads(departed.payloads[0])
    bad = json.dumps(good | {"dep_delay": 99_999}).encode()
    return {**events, "flight_departed": replace(departed, payloads=[bad, *departed.payloads[1:]])}, good


@pytest.fixture(scope="module")
async def story(platform, shell, tmp_path_factory):
    """Play two days, correct what was refused, play the third; return what was seen on the way."""
    events, good = first_departure_spoilt(honest_events())
    async with KafkaBus(platform.env["MAINSTEM_KAFKA"], "player") as bus:
        player = Player(bus.publisher, events, dict.fromkeys(events, 2))
        await player.play(START_US, START_US + 2 * DAY_US)
        (refused,) = await shell.until(len, "quarantine", "list", "--status", "open")
        short = refused["quarantine_id"][:8]
        (shown,) = await shell.answer("quarantine", "show", short)
        (sent,) = await shell.answer("quarantine", "redrive", short, "--record", "-", given=json.dumps(good))
        (redriven,) = await shell.answer(
            "event", "tail", "evt.data.quarantine", "--from-beginning", "--type", "record_redriven", "--limit", "1"
        )
        await player.play(START_US + 2 * DAY_US, START_US + 3 * DAY_US)
    await reached(platform, START_US + 3 * DAY_US - 1)
    return {"refused": shown, "sent": sent, "redriven": redriven, "good": good, "rows": player.sent["flight_departed"]}


async def test_a_refused_record_is_shown_as_it_came_with_what_to_do(story):
    refused = story["refused"]
    assert (refused["reason"], refused["column_name"]) == ("out_of_range", "dep_delay")
    assert json.loads(refused["payload"]) == story["good"] | {"dep_delay": 99_999}
    assert refused["advice"].startswith("Check unit and sensor")


async def test_a_correction_is_accepted_in_place_of_the_refused_record(shell, story):
    fact = story["redriven"]["data"]
    (accepted,) = await shell.answer("event", "show", fact["accepted_id"][:12], "--topic", "evt.data.flight_departed")
    assert fact["quarantine_id"] == accepted["data"]["replaces"] == story["refused"]["quarantine_id"]
    assert accepted["data"]["record"] == story["good"]
    assert (accepted["time"], accepted["recordedtime"]) == (
        story["refused"]["event_time"], story["refused"]["recorded_time"],
    )  # fmt: skip


async def test_a_corrected_record_cannot_be_corrected_again(shell, story):
    short = story["refused"]["quarantine_id"][:8]
    await shell.until(len, "quarantine", "list", "--status", "redriven")
    done = await shell.run("quarantine", "redrive", short, "--record", "-", given="{}")
    assert done.returncode == 1
    assert "already redriven" in done.stderr


async def test_the_published_rows_are_what_the_log_gives(shell, story):
    (found,) = await shell.answer("feature", "diff", "--feature-set", "flight_delay")
    rows = story["rows"]
    assert (found["rows"], found["cells"]) == (rows, rows * 15)
    assert found["differing"] == found["unknown"] == found["missing"] == 0


async def test_a_backfill_writes_the_rows_recorded_in_a_span(shell, story, tmp_path):
    files = tmp_path / "all.parquet", tmp_path / "day.parquet"
    span = ("--from", "2013-01-02T00:00:00Z", "--to", "2013-01-03T00:00:00Z")
    for file, options in zip(files, ((), span), strict=True):
        await shell.answer("feature", "backfill", "--feature-set", "flight_delay", "--out", file, *options)
    every, day = map(pq.read_table, files)
    assert every.num_rows == story["rows"]
    assert story["redriven"]["data"]["accepted_id"] in every["spine_id"].to_pylist()
    inside = [parse("2013-01-02T00:00:00Z") <= at < parse("2013-01-03T00:00:00Z") for at in micros(every)]
    assert day.equals(every.filter(inside))


def micros(table):
    return table["recorded_time"].cast("int64").to_pylist()


async def test_one_row_that_is_off_by_its_last_bit_is_found(platform, shell, story):
    kafka = platform.env["MAINSTEM_KAFKA"]
    async with LogReader(kafka, [ROWS_TOPIC]) as reader:
        await reader.start()
        records = [record async for batch in reader.to_end() for record in batch]
    record = next(r for r in records if b'"values"' in r.value and json.loads(r.value)["values"][5] is not None)
    row = json.loads(record.value)
    row["values"][5] = np.nextafter(row["values"][5], np.inf)
    copy = Message(ROWS_TOPIC, record.key, json.dumps(row).encode(), tuple(record.headers), record.partition)
    async with KafkaBus(kafka, "forger") as bus:
        await bus.publisher.publish([copy])
    done = await shell.run("feature", "diff", "--feature-set", "flight_delay")
    assert done.returncode == 1
    assert f"origin_now of {row['spine_id']}" in done.stdout


def scheduled(number):
    """Return a record of flight_scheduled that no played day has."""
    return {
        "flight": f"sent-{number}", "carrier": "UA", "origin": "EWR", "dest": "IAH",
        "sched_dep": "2013-01-01T10:15:00Z", "distance": 1400,
    }  # fmt: skip


async def judged(platform, topic, what):
    """Return the first record of a topic that holds some bytes."""
    async with asyncio.timeout(30), LogReader(platform.env["MAINSTEM_KAFKA"], [topic]) as reader:
        await reader.start()
        while True:
            for record in await reader.poll():
                if what in record.value:
                    return record


async def test_records_of_a_file_are_sent_through_the_intake(platform, shell, tmp_path):
    file = tmp_path / "plan.ndjson"
    file.write_text("".join(json.dumps(scheduled(number)) + "\n" for number in range(1_500)))
    (sent,) = await shell.answer("source", "send", "flight_scheduled", file)
    assert sent["taken"] == 1_500
    accepted = await judged(platform, "evt.data.flight_scheduled", b"sent-1499")
    assert json.loads(accepted.value)["record"] == scheduled(1_499)


async def test_records_with_ids_and_times_of_their_own_keep_them(platform, shell, tmp_path):
    file = tmp_path / "plan.csv"
    row = scheduled(9_999) | {"id": "row-7", "happened": "2013-01-01T00:00:00Z"}
    file.write_text(f"{','.join(row)}\n{','.join(map(str, row.values()))}\n")
    columns = ("--id-column", "id", "--time-column", "happened")
    await shell.answer("source", "send", "flight_scheduled", file, *columns)
    fact = json.loads((await judged(platform, "evt.data.quarantine", b"row-7")).value)
    assert (fact["reason"], fact["event_time"]) == ("too_old", "2013-01-01T00:00:00Z")
