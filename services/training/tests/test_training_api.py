"""Training over HTTP: datasets asked for, listed, shown and checked."""

import asyncio
import shutil
from collections.abc import AsyncIterator

import httpx
import pytest
from services.training.tests.imported_models import classifier
from services.training.tests.training_log import CUT
from services.training.tests.training_parts import Parts

from mainstem.events.ids import content_id
from mainstem.events.instants import render
from mainstem.events.training import RunCompleted
from mainstem.feature_engine import feature_set
from mainstem.project import ProjectDefinition
from mainstem.testkit.callers import Caller, bearer, calling, principals
from mainstem.testkit.clock import DAY
from mainstem.training.api import Api
from mainstem.training.handlers import Performer

pytestmark = pytest.mark.real

PEOPLE = {"dana": ["builder"], "rita": ["builder", "replay"], "olga": ["operator"]}


@pytest.fixture
def performer(parts: Parts) -> Performer:
    return parts.performer()


@pytest.fixture
async def training(parts: Parts, performer: Performer) -> AsyncIterator[Caller]:
    async with calling(Api(parts.store, principals(PEOPLE), parts.artifacts, performer).routes()) as caller:
        yield caller


async def asked(training: Caller, parts: Parts, command: str = "c", at_us: int = CUT) -> str:
    """Return the id of a request for the dataset of the model."""
    body = {"model": parts.model, "command_id": command, "at": render(at_us)}
    return str((await training.post("/v1/datasets", "rita", **body)).json()["request"])


async def test_a_dataset_is_asked_for_built_listed_and_shown(training: Caller, parts: Parts, performer: Performer):
    request = await asked(training, parts)
    row = {
        "request": request, "model": parts.model, "project": "weather", "definition": parts.definition.id,
        "cut": render(CUT), "requested_by": "rita", "status": "requested", "dataset": None, "reason": None,
        "waiting": None, "read": None, "of": None,
    }  # fmt: skip
    assert (await training.get("/v1/datasets")).json() == {"datasets": [], "requests": [row]}
    assert (await training.get(f"/v1/datasets/{request[:4]}")).json() == {
        "dataset": None, "request": row, "manifest": None
    }  # fmt: skip
    assert await performer.advance()
    listed = (await training.get("/v1/datasets")).json()
    (built,) = listed["datasets"]
    assert listed["requests"] == []
    shown = (await training.get(f"/v1/datasets/{request}")).json()
    assert (shown["dataset"], shown["request"]["status"]) == (built, "built")
    assert {name: shown["manifest"][name] for name in ("cut", "rows", "content")} == {
        name: built[name] for name in ("cut", "rows", "content")
    }


async def test_a_dataset_is_found_by_the_beginning_of_its_address(training: Caller, parts: Parts, performer: Performer):
    address = str((await parts.build("one"))["dataset"])
    for wanted in (address, address[:15], address.removeprefix("sha256:")[:8]):
        shown = (await training.get(f"/v1/datasets/{wanted}")).json()
        assert (shown["dataset"]["dataset"], shown["request"]) == (address, None)


async def test_an_id_that_is_none_or_of_several_is_refused_with_what_to_do(training: Caller, parts: Parts):
    first, second = await parts.build("one"), await parts.build("two", CUT - DAY)
    none = await training.get("/v1/datasets/zzz")
    assert (none.status_code, none.json()["detail"]) == (
        404, "no dataset and no request begins with 'zzz'; list them with `mainstem dataset list`"
    )  # fmt: skip
    several = await training.get("/v1/datasets/sha256:")
    addresses = sorted([str(second["dataset"]), str(first["dataset"])], key=[second["dataset"], first["dataset"]].index)
    assert several.json()["detail"] == (
        f"2 datasets and requests begin with 'sha256:': {', '.join(addresses)}; give more of the id"
    )


async def test_a_dataset_is_checked_against_its_manifest(training: Caller, parts: Parts):
    row = await parts.build("one")
    address = row["dataset"]
    answer = (await training.get(f"/v1/datasets/{address}/check")).json()
    assert answer == {
        "dataset": address,
        "verdict": "holds",
        "found": f"the rows in {row['parquet']} hash to {row['content']}, as the manifest says",
    }
    shutil.rmtree(parts.folder)
    assert (await training.get(f"/v1/datasets/{address}/check")).json()["verdict"] == "missing"
    shown = (await training.get(f"/v1/datasets/{address}")).json()
    assert (shown["dataset"], shown["manifest"]) == (row, None)


def second(definition: ProjectDefinition) -> ProjectDefinition:
    """Return the definition with a second version of the set beside the first, and the model reading that one."""
    document = definition.model_dump(mode="json")
    ((name, first),) = definition.feature_sets.items()
    spine = definition.sources[first.compiled.spine].stream()
    declared = {"wind": spine.wind, "twice": spine.wind * 2}
    compiled = feature_set(name, spine=spine, lateness="1h", version=2)(type("Gusts", (), declared)).compile()
    document["feature_sets"][compiled.label] = {"id": compiled.id, "spec": compiled.spec}
    document["models"][next(iter(definition.models))]["feature_set"] = compiled.label
    return ProjectDefinition.model_validate(document)


@pytest.mark.parametrize("lost", [False, True], ids=["damaged", "lost"])
async def test_a_dataset_is_built_again_though_its_model_reads_another_set_by_now(
    training: Caller, parts: Parts, performer: Performer, lost: bool
):
    row = await parts.build("one")
    await parts.apply(second(parts.definition))
    for address in (row["dataset"], row["parquet"]):
        (file,) = parts.folder.rglob(str(address).removeprefix("sha256:"))
        file.unlink() if lost else file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert (await training.get(f"/v1/datasets/{row['dataset']}/check")).json()["verdict"] != "holds"
    answer = await training.post("/v1/datasets", "dana", again=str(row["dataset"])[:20])
    asked = answer.json()
    assert (answer.status_code, asked["again"], asked["cut"]) == (202, row["dataset"], render(CUT))
    assert await performer.advance()
    assert await parts.built(asked["request"]) == row
    assert (await training.get(f"/v1/datasets/{row['dataset']}/check")).json()["verdict"] == "holds"


async def test_only_a_builder_has_a_dataset_built_again(training: Caller, parts: Parts):
    row = await parts.build("one")
    answers = [await training.post("/v1/datasets", by, again=row["dataset"]) for by in (None, "olga")]
    assert [answer.status_code for answer in answers] == [401, 403]


async def test_what_is_no_dataset_is_not_built_again(training: Caller, parts: Parts):
    request = await asked(training, parts)
    answers = [await training.post("/v1/datasets", "dana", again=wanted) for wanted in ("zzz", request)]
    assert [(answer.status_code, answer.json()["detail"]) for answer in answers] == [
        (404, "no dataset and no request begins with 'zzz'; list them with `mainstem dataset list`"),
        (404, f"request {request!r} has led to no dataset; ask for its model anew"),
    ]


async def test_a_request_without_a_dataset_cannot_be_checked(training: Caller, parts: Parts):
    request = await asked(training, parts)
    answer = await training.get(f"/v1/datasets/{request}/check")
    assert (answer.status_code, answer.json()["detail"]) == (
        404, f"request {request!r} has led to no dataset; see /v1/datasets/{request}"
    )  # fmt: skip


async def test_a_command_that_is_repeated_is_one_request(training: Caller, parts: Parts):
    assert await asked(training, parts) == await asked(training, parts)
    assert len((await training.get("/v1/datasets")).json()["requests"]) == 1


async def test_whoever_waits_is_told_what_for(training: Caller, parts: Parts, performer: Performer):
    request = await asked(training, parts, at_us=CUT + 5 * DAY)
    assert await performer.advance()
    waiting = (await training.get(f"/v1/datasets/{request}")).json()["request"]["waiting"]
    assert "has announced all before 2013-05-11T23:59:59.999999Z" in waiting


async def test_whoever_waits_is_told_how_far_it_is(training: Caller, parts: Parts):
    reading, go_on = asyncio.Event(), asyncio.Event()

    async def read(definition, model, ranges, told):
        told(3, 7)
        reading.set()
        await go_on.wait()
        raise ValueError("no rows")

    performer = Performer(parts.store, parts.artifacts, read)
    request = await asked(training, parts)
    async with calling(Api(parts.store, principals({}), parts.artifacts, performer).routes()) as caller:
        building = asyncio.create_task(performer.advance())
        await reading.wait()
        found = (await caller.get(f"/v1/datasets/{request}")).json()["request"]
        go_on.set()
        await building
        after = (await caller.get(f"/v1/datasets/{request}")).json()["request"]
    assert (found["read"], found["of"], found["status"]) == (3, 7, "requested")
    assert (after["read"], after["status"], after["reason"]) == (None, "failed", "no rows")


@pytest.mark.parametrize(("by", "status"), [(None, 401), ("olga", 403), ("dana", 202)])
async def test_only_a_builder_asks_for_datasets(training: Caller, parts: Parts, by: str | None, status: int):
    assert (await training.post("/v1/datasets", by, model=parts.model)).status_code == status


async def test_only_who_may_replay_history_says_when(training: Caller, parts: Parts):
    answer = await training.post("/v1/datasets", "dana", model=parts.model, at=render(CUT))
    assert (answer.status_code, answer.json()["detail"][:27]) == (403, "dana has not the right 'rep")


REFUSED = {
    "no model": ({"at": None}, 400, 'send {"model": "<name>"}'),
    "an unknown model": ({"model": "tides"}, 404, "no applied project declares model 'tides'"),
    "no instant": ({"at": "noon"}, 400, "at: Invalid isoformat string: 'noon'"),
    "again, and otherwise": (
        {"again": "abc"},
        400,
        'send {"again": "<dataset>"} alone: the dataset says of which model it is, and its cut',
    ),
    "a long id": ({"command_id": "c" * 201}, 400, "command_id has 201 characters, at most 200"),
}


@pytest.mark.parametrize(("body", "status", "detail"), REFUSED.values(), ids=list(REFUSED))
async def test_a_request_that_makes_no_sense_is_refused(training, parts, body, status, detail):
    given = body if "at" in body and body["at"] is None else {"model": parts.model} | body
    answer = await training.post("/v1/datasets", "rita", **given)
    assert (answer.status_code, answer.json()["detail"]) == (status, detail)


async def sent(training: Caller, path: str, by: str, content: bytes) -> httpx.Response:
    """Send a file."""
    return await training.client.post(path, content=content, headers=bearer(by))


async def test_a_model_made_elsewhere_is_brought_in_by_a_run(training: Caller, parts: Parts, performer: Performer):
    content = classifier()
    path = f"/v1/models/{parts.model}/imports?command_id=one&at={render(CUT)}"
    answers = [await sent(training, path, "rita", content) for _ in "ab"]
    assert [answer.status_code for answer in answers] == [202, 202]
    (said, again) = (answer.json() for answer in answers)
    assert said == again == {"run": said["run"], "cut": render(CUT), "imported": content_id(content)}
    while await performer.advance():
        pass
    run = (await training.get(f"/v1/runs/{said['run']}")).json()
    assert (run["status"], run["cause"], run["requested_by"]) == ("completed", "import", "rita"), run["reason"]
    (completed,) = await parts.facts(RunCompleted)
    assert isinstance(completed, RunCompleted)
    assert completed.evidence["imported"]["onnx"] == content_id(content)
    assert parts.artifacts.get(content_id(content)) == content
    assert completed.onnx == run["steps"][1]["outputs"]["onnx"]


async def test_a_file_that_may_not_come_in_is_refused_and_nothing_is_recorded(training: Caller, parts: Parts):
    path = f"/v1/models/{parts.model}/imports"
    for content, reason in ((b"PK\x03\x04", "zip archive"), (classifier(2), "takes one FLOAT or DOUBLE [rows, 1]")):
        answer = await sent(training, path, "dana", content)
        assert (answer.status_code, reason in answer.json()["detail"]) == (422, True), answer.text
        assert not parts.artifacts.has(content_id(content))
    assert (await sent(training, path, "olga", classifier())).status_code == 403
    assert (await sent(training, "/v1/models/nobody/imports", "dana", classifier())).status_code == 404
    assert (await training.get("/v1/runs")).json() == {"runs": []}
