"""A model that somebody made elsewhere is brought in, judged, approved, and answers as its author's file does."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from services.training.tests.imported_models import converted
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from tests.system.spring import DAYS, MODEL, Spring, at_us
from tests.system.world import World, fact, headers

from mainstem.events.ids import content_id
from mainstem.events.instants import render
from mainstem.storage import Artifacts
from mainstem.training.history.table import features, from_parquet

pytestmark = pytest.mark.real

CUT = ("--at", render(at_us(DAYS)))
#: Later than whatever else is decided on the model.
DECIDED = DAYS + 20


@pytest.fixture(scope="module")
async def file(world: World, spring: Spring, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model that somebody fitted to the data of the first run, on their own machine."""
    dataset = (await world.get("training", "/v1/datasets")).json()["datasets"][0]
    table = from_parquet(Artifacts(Path(world.env["MAINSTEM_ARTIFACTS"])).get(dataset["parquet"]))
    estimator = make_pipeline(SimpleImputer(), LogisticRegression()).fit(features(table), table["y"].to_numpy())
    written = tmp_path_factory.mktemp("elsewhere") / "model.onnx"
    await asyncio.to_thread(written.write_bytes, converted(estimator, 3))
    return written


@pytest.fixture
def content(file: Path) -> bytes:
    """Return what is in the file."""
    return file.read_bytes()


@pytest.fixture(scope="module")
async def version(world: World, file: Path) -> dict[str, Any]:
    """Return the version that the file became."""
    done = await world.run("model", "import", MODEL, file, *CUT, "--wait", "-o", "ndjson")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    return dict((await world.get("registry", f"/v1/models/{MODEL}/versions/{said['version']}")).json())


async def test_a_file_that_may_not_come_in_is_refused_in_words(world: World, content: bytes, tmp_path: Path) -> None:
    part = tmp_path / "part.onnx"
    part.write_bytes(content[:-20])
    async with world.unharmed():
        done = await world.run("model", "import", MODEL, part, *CUT)
    assert (done.returncode, done.stdout) == (1, "")
    assert "it is no ONNX model, or only a part of one" in done.stderr


async def test_it_is_judged_as_any_other_and_known_by_its_file_and_who_brought_it(
    world: World, content: bytes, version: dict[str, Any]
) -> None:
    digest = content_id(content)
    assert (version["stage"], version["cause"]) == ("candidate", "import")
    assert version["evidence"]["imported"]["onnx"] == digest
    assert {gate["name"]: gate["passed"] for gate in version["gates"]}["parity"] is True
    assert "builder" in version["builders"]
    shown = await world.run("model", "show", MODEL, version["version"])
    assert f"imported    {digest}" in shown.stdout
    requested = fact(await world.event("evt.training.run", "the request", imported=digest))
    assert (requested["requested_by"], requested["run"]) == ("builder", version["run"])


async def test_it_answers_as_the_file_does(
    world: World, spring: Spring, content: bytes, version: dict[str, Any]
) -> None:
    number = version["version"]
    assert (await spring.approve(number, by="approver", day=DECIDED)).json()["promoted"] is True
    await world.event("evt.serving.deployment", "the import answers", version=number, onnx=version["onnx"])
    await spring.answers(number)
    answer = (await spring.ask(number)).json()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    expected = session.run(["probabilities"], {"X": np.array([[90, 20, 50]], np.float32)})[0]
    assert answer["outputs"][0]["data"] == expected.astype(np.float64).ravel().tolist()


async def test_its_answers_are_explained_and_run_again_as_any(
    world: World, spring: Spring, content: bytes, version: dict[str, Any]
) -> None:
    follower = await world.follow(f"tel.prediction.{MODEL}")
    (record, *_) = await follower.until(lambda each: fact(each).get("onnx") == version["onnx"], "an answer of it")
    told = ""

    async def explained() -> bool:
        nonlocal told
        done = await world.run("prediction", "explain", headers(record)["ce_id"], "-o", "json")
        told = done.stdout
        return done.returncode == 0

    await world.until(explained)
    assert content_id(content) in told
    replayed = await world.run("prediction", "replay", headers(record)["ce_id"])
    assert replayed.returncode == 0, replayed.stderr
    assert "equal" in replayed.stdout
    assert "True" in replayed.stdout
