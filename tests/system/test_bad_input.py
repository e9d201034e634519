"""Whatever is sent: it is refused in clear words or quarantined by name, its neighbours pass, and nothing is lost."""

import json
import resource
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError, UnknownTopicOrPartitionError
from aiokafka.structs import ConsumerRecord
from tests.system.keeper import (
    declaring,
    good,
    make_topic,
    post,
    posted,
    refused,
    refused_between_good_ones,
    refused_of,
    remember,
)
from tests.system.readings import BAD, DEEP, MB, ODD, PAYLOADS, event, noise, reading
from tests.system.spring import DAYS, Spring
from tests.system.world import HARBOUR, Sent, World, headers, stands_at

from mainstem.cli.local.graph import SERVICES

pytestmark = pytest.mark.real


@pytest.fixture(scope="module", autouse=True)
async def first(world: World) -> None:
    """Send the record whose id comes again."""
    await world.accepted("gauge", await good(world, around=event("the first")))


@pytest.mark.parametrize("it", BAD)
async def test_a_bad_record_on_kafka_is_quarantined_by_name_and_its_neighbours_pass(world: World, it: str) -> None:
    await refused_between_good_ones(world, BAD[it])


@pytest.mark.parametrize("it", sorted(PAYLOADS.keys() - {"is an array"}))
async def test_a_bad_record_over_http_is_quarantined_just_so(world: World, it: str) -> None:
    bad, record_id = PAYLOADS[it], f"http {it}"
    async with world.unharmed():
        before = await posted(world)
        assert (await post(world, bad.sent.value or b"", id=record_id)).status_code == 202
        after = await posted(world)
        verdict = await refused_of(world, record_id=record_id)
        assert (verdict["reason"], verdict["column"]) == (bad.reason, bad.column)
        await world.accepted("gauge", before, after)


@pytest.mark.parametrize("it_has", ODD)
async def test_a_record_with_odd_headers_is_accepted_once(world: World, it_has: str) -> None:
    async with world.unharmed():
        note = await good(world, around=ODD[it_has])
        await world.accepted("gauge", note)


async def test_bad_records_in_an_array_are_quarantined_and_the_good_one_between_them_is_accepted(world: World) -> None:
    note = remember(world, "gauge")
    answer = await post(world, b"[18," + reading(note=note) + b",null]")
    assert (answer.status_code, answer.json()) == (202, {"source": "gauge", "taken": 3})
    found = [await refused_of(world, payload=text) for text in ("MTg=", "bnVsbA==")]
    assert [verdict["reason"] for verdict in found] == ["not_an_object"] * 2
    await world.accepted("gauge", note)


@pytest.mark.parametrize("array", [b'[{"station":', b"[NaN]", b"[1e400]", b'["\xff"]', b"[" * DEEP + b"]" * DEEP])
async def test_an_array_that_is_no_json_is_refused_whole_with_the_place_of_the_fault(
    world: World, array: bytes
) -> None:
    answer = await post(world, array)
    assert (answer.status_code, answer.json()["title"]) == (400, "malformed json")
    assert "line 1 column" in answer.json()["detail"]


async def test_ten_megabytes_are_quarantined_and_not_passed_on(world: World) -> None:
    async with world.unharmed():
        before = await good(world)
        (there,) = await world.send("src.gauge", Sent(noise(10 * MB), headers=event()))
        assert (await post(world, noise(10 * MB), id="10 MB")).status_code == 202
        after = await good(world)
        for verdict in (await refused(world, there), await refused_of(world, record_id="10 MB")):
            assert (verdict["reason"], verdict["payload_bytes"]) == ("too_large", 10 * MB)
            assert verdict["detail"] == "10485760 bytes, at most 1048576"
            assert len(verdict["payload"]) < MB
        await world.accepted("gauge", before, after)


async def test_more_than_sixteen_megabytes_are_refused_at_the_door(world: World) -> None:
    with pytest.raises(MessageSizeTooLargeError):
        await world.send("src.gauge", Sent(noise(18 * MB), headers=event()))
    answer = await post(world, noise(17 * MB))
    assert (answer.status_code, answer.json()["title"]) == (413, "too large")
    assert "more than 16777216 bytes; send it in parts" in answer.json()["detail"]
    await world.accepted("gauge", await good(world))


async def test_a_topic_that_nobody_made_takes_nothing_and_says_so(world: World) -> None:
    async with AIOKafkaProducer(bootstrap_servers=world.env["MAINSTEM_KAFKA"], request_timeout_ms=500) as producer:
        with pytest.raises(UnknownTopicOrPartitionError):
            await producer.send_and_wait("src.nowhere", b"{}")


async def test_a_topic_that_no_project_declares_keeps_its_records_until_one_does(world: World, tmp_path: Path) -> None:
    await make_topic(world, "src.buoy", partitions=2)
    notes = [remember(world, "buoy") for _ in range(5)]
    values = [json.dumps({"station": "north", "high": 1, "note": note}).encode() for note in notes]
    await world.send("src.buoy", *(Sent(value, headers=event()) for value in values))
    async with world.unharmed():
        await world.apply(declaring(tmp_path, "buoy"))
        await world.accepted("buoy", *notes)
        await world.accepted("gauge", await good(world))


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("project apply {nowhere}", "does not exist"),
        ("project apply {empty}", "project.toml:1: cannot be read (No such file or directory)"),
        ("model show nope", "unknown model: no model 'nope'; GET /v1/models lists them"),
        ("model approve wear 99", "unknown version: model 'wear' has no version 99"),
        ("model rollback nope", "no version of 'nope' is in production; promote one"),
        ("training start nope", "unknown model: no applied project declares model 'nope'"),
        ("training show nope", "unknown run: 0 runs begin with 'nope'"),
        ("source send nope {file}", "unknown source: no source 'nope'; known: "),
        ("quarantine show nope", "no single quarantined record begins with 'nope'"),
    ],
)
async def test_a_command_on_what_does_not_exist_fails_in_a_sentence(
    world: World, tmp_path: Path, command: str, says: str
) -> None:
    (tmp_path / "file.ndjson").write_bytes(reading())
    (tmp_path / "empty").mkdir()
    places = {"nowhere": tmp_path / "nowhere", "empty": tmp_path / "empty", "file": tmp_path / "file.ndjson"}
    done = await world.run(*command.format(**places).split())
    assert done.returncode in (1, 2)
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("service", "path", "code"),
    [
        ("ingestion", "/v1/quarantine/nope", "unknown_quarantine_id"),
        ("ingestion", "/v1/quarantine/a%00b", "malformed_address"),
        ("registry", "/v1/projects/nope", "unknown_project"),
        ("registry", "/v1/models/nope", "unknown_model"),
        ("registry", "/v1/models/a%00b", "malformed_address"),
        ("training", "/v1/runs/nope", "unknown_run"),
    ],
)
async def test_an_address_of_nothing_is_answered_by_a_problem(world: World, service: str, path: str, code: str) -> None:
    answer = await world.get(service, path)
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.json()["status"], answer.json()["type"]) == (answer.status_code, f"mainstem:{code}")


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("sources.py", "gauge = source(", "gauge = = source(", "sources.py:{line}: SyntaxError: invalid syntax"),
        (
            "sources.py",
            "lo=-10, hi=10",
            'lo="low", hi=10',
            "sources.py:{line}: lo is 'low': Input should be a valid number",
        ),
        (
            "sources.py",
            'key="station",\n    columns={\n',
            'key="level",\n    columns={\n',
            "key 'level' must name a category",
        ),
        ("sources.py", "replay=True", "replays=True", "source(): it has no replays="),
        ("sources.py", "tide = source", "raise SystemExit(3)\ntide = source", "sources.py:{line}: SystemExit: 3"),
        ("features.py", "water.level", "water.depth", "features.py:{line}: level: gauge has no column depth"),
        (
            "model.py",
            'feature_set="strain"',
            'feature_set="stress"',
            "feature set 'stress', which features.py does not declare",
        ),
        (
            "project.toml",
            "[value]",
            "colour = 1\n[value]",
            "project.toml:{line}: [risk] has no colour; take one of impact",
        ),
        (
            "project.toml",
            "impact = 2",
            'impact = "two"',
            "project.toml:{line}: risk.impact is 'two': Input should be a valid",
        ),
        ("project.toml", "[risk]", "[risk", "project.toml:{line}: Expected ']'"),
        ("project.toml", "crane-team", "crane-t\udce9am", "project.toml:{line}: is not UTF-8"),
        (
            "sources.py",
            "    replay=True,",
            "    replay=True,\n    partitions=3,",
            "keep 2, or give the source a new name",
        ),
    ],
)
async def test_a_broken_project_is_refused_by_file_and_line_and_the_one_in_force_stays(
    world: World, tmp_path: Path, file: str, old: str, new: str, says: str
) -> None:
    before = (await world.get("registry", "/v1/projects")).json()
    folder = Path(shutil.copytree(HARBOUR, tmp_path / "harbour"))
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1), errors="surrogateescape")
    done = await world.run("project", "apply", folder)
    assert done.returncode == 1
    assert says.format(line=text[: text.index(old)].count("\n") + 1) in done.stderr
    assert "Traceback" not in done.stderr
    assert (await world.get("registry", "/v1/projects")).json() == before


@contextmanager
def full_disk(world: World) -> Iterator[None]:
    """Let serving write ten bytes more to its spool and none to a longer file, as a disk does that is all but full."""
    children = psutil.Process(world.platform.pid("serving")).children()
    (pid,) = [child.pid for child in children if "mainstem.serving.worker" in child.cmdline()]
    spool = Path(world.env["MAINSTEM_ARTIFACTS"]).parent / "spool" / "serving" / "0" / "0"
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    written = max(segment.stat().st_size for segment in spool.glob("*.blocks"))
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (written + 10, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_lets_no_answer_out_unrecorded_and_all_is_well_when_there_is_space(
    world: World, spring: Spring
) -> None:
    before = await spring.ask(id="before")
    with full_disk(world):
        async with world.unharmed():
            refusal = await spring.ask(id="with a full disk")
            assert refusal.status_code == 503
            assert "cannot be recorded, so it is not given" in refusal.json()["error"]
            assert "free space on its disk" in refusal.json()["error"]
            await world.accepted("gauge", await good(world))
            await spring.play(DAYS, DAYS + 1)
            await spring.prediction(channel="stream", entity=f"{DAYS}-5")
    after = await spring.ask(id="after")
    answered = [answer.json()["parameters"]["prediction_id"] for answer in (before, after)]
    assert await spring.answered_directly(2) == answered


async def test_in_the_end_every_good_record_was_accepted_once_and_every_bad_one_is_in_quarantine(world: World) -> None:
    for source, notes in world.good.items():
        await world.accepted(source, *notes)
    quarantine = await (await world.follow("evt.data.quarantine")).all()
    assert Counter(stands_at(record) for record in quarantine if stands_at(record)) == dict.fromkeys(world.bad, 1)
    rows = await world.follow("evt.feature.water")
    await rows.until(is_row, "rows", len(world.good["gauge"]))
    # A row may stand twice in the topic when a project was applied, as after a crash: under one id.
    assert len({headers(row)["ce_id"] for row in await rows.all() if is_row(row)}) == len(world.good["gauge"])


async def test_and_every_table_of_the_services_follows_from_the_log(world: World) -> None:
    await world.until(lambda: rebuilt(world))


async def rebuilt(world: World) -> bool:
    """Tell whether the tables equal those that the archive alone gives: what came last is stored within a second."""
    done = await world.run("audit", "replay", "-o", "json")
    tables = json.loads(done.stdout)["tables"]
    return len(tables) > len(SERVICES) and all(table["equal"] for table in tables)


def is_row(record: ConsumerRecord) -> bool:
    return headers(record)["ce_type"] == "mainstem.feature.row_computed.v1"


async def test_whoever_looks_into_the_quarantine_is_told_what_to_do(world: World) -> None:
    (there,) = await world.send("src.gauge", Sent(reading(level="high"), headers=event("sick sensor")))
    verdict = await refused(world, there)
    await world.until(lambda: listed(world, verdict["quarantine_id"]))
    shown = await world.run("quarantine", "show", verdict["quarantine_id"][:12])
    for said in ("sick sensor", "wrong_type", "level: 'high' is not a number", "Send numbers as numbers", '"high"'):
        assert said in shown.stdout


async def listed(world: World, quarantine_id: str) -> bool:
    """Tell whether the quarantine lists it already: it is stored once a second."""
    return quarantine_id in (await world.get("ingestion", "/v1/quarantine?limit=100000")).text
