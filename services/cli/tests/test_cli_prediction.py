"""A prediction is explained from the archive alone, and what is missing is named."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mainstem.cli.archive import open_schema
from mainstem.cli.main import app
from mainstem.cli.prediction import explain
from mainstem.events.catalogue import encode
from mainstem.events.data import RecordAccepted
from mainstem.events.envelope import Event, Fact, begin
from mainstem.events.errors import Rejected
from mainstem.events.features import RowComputed
from mainstem.events.frames import Entry
from mainstem.events.instants import render
from mainstem.events.registry import (
    DeploymentSet,
    GateResult,
    ProjectApplied,
    VersionApproved,
    VersionPromoted,
    VersionRegistered,
)
from mainstem.events.serving import DeploymentActivated, Predicted
from mainstem.events.training import RunCompleted
from mainstem.ledger_service.store import PostgresStore
from mainstem.project import ProjectDefinition, load_folder

pytestmark = pytest.mark.real

FLIGHTS = Path(__file__).parents[3] / "projects" / "flights"
MAY = 1_367_366_400_000_000
MODEL, ONNX = "arrival_delay", "sha256:onnx"
FLIGHT = "2013-05-01-UA-1545-EWR"

CHAIN = ["prediction", "feature row", "accepted record", "source record", "training run", "registration", "approval"]
CHAIN += ["promotion", "deployment in force", "activation", "label"]


@pytest.fixture(scope="module")
def project() -> ProjectDefinition:
    return load_folder(FLIGHTS)


def event(fact: Fact, origin: str = "x/1") -> Event:
    return begin(fact, command_id=fact.TYPE, source="/test", actor="test", recorded_us=MAY).at_origin(origin)


def history(project: ProjectDefinition) -> dict[str, Event]:
    """Return how version 2 came into force."""
    made = {"model": MODEL, "version": 2, "onnx": ONNX}
    run = {
        **{
            "model": MODEL,
            "run": "run-2",
            "project": "flights",
            "cause": "request",
            "onnx": ONNX,
            "profile": "sha256:p",
        },
        **{"definition": project.id, "feature_set": "sha256:f", "dataset": "sha256:d", "profile": "sha256:p"},
        "evidence": {"auc": 0.9},
    }
    gate = GateResult(name="min_auc", passed=True, figure=0.9, limit=0.85, detail="0.9 >= 0.85")
    facts: dict[str, Fact] = {
        "project": ProjectApplied(
            project="flights", definition_id=project.id, definition=json.loads(project.canonical()), applied_by="dana"
        ),
        "run": RunCompleted(**run, requested_by="rob"),
        "registration": VersionRegistered(**run, version=2, builders=["rob"], gates=[gate], stage="candidate"),
        "approval": VersionApproved(**made, approved_by="ann"),
        "promotion": VersionPromoted(model=MODEL, version=2, replaces=1, promoted_by="olga"),
        "deployment": DeploymentSet(
            **{**made, "project": "flights", "profile": "sha256:p", "feature_set": "flight_delay"},
            **{"feature_definition": "sha256:f", "features": [], "approved_by": "ann", "effective_from": render(MAY)},
        ),
        "activation": DeploymentActivated(**made, effective_from=render(MAY), from_offsets={}),
    }
    return {name: event(fact) for name, fact in facts.items()}


def answer(project: ProjectDefinition) -> dict[str, Event]:
    """Return a prediction, what led to it, and its label."""
    flights = project.feature_sets["flight_delay"]
    values = [float(number) for number in range(len(flights.compiled.names))]
    left = RecordAccepted(source="flight_departed", contract="sha256:c", record={"flight": FLIGHT, "dep_delay": 9})
    landed = RecordAccepted(source="flight_arrived", contract="sha256:c", record={"flight": FLIGHT, "arr_delay": 40})
    spine = event(left, "src.flight_departed/0/0")
    row = event(
        RowComputed(
            feature_set="flight_delay", definition=flights.id, entity=FLIGHT, spine_id=spine.envelope.id, values=values
        )
    )
    scored = Predicted(
        **{"model": MODEL, "version": 2, "onnx": ONNX, "feature_definition": flights.id, "channel": "stream"},
        **{"entity": FLIGHT, "row": row.envelope.id, "position": "evt.feature.flight_delay/0/0"},
        **{"features": values, "score": 0.75},
    )
    label = begin(landed, command_id="landed", source="/test", actor="test", recorded_us=MAY + 1)
    return {"spine": spine, "row": row, "prediction": event(scored), "label": label}


@pytest.fixture
async def store(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PostgresStore]:
    monkeypatch.setenv("MAINSTEM_DATABASE_URL", database_url)
    async with open_schema(database_url, "ledger", "mainstem.ledger_service") as database:
        yield PostgresStore(database)


async def told(store: PostgresStore, events: dict[str, Event], *, without: str = "") -> str:
    """Archive a source record and the events but one; return the id of the prediction."""
    messages = [encode(each) for name, each in events.items() if name != without]
    offsets: dict[str, int] = {}
    entries = [Entry("src.flight_departed", 0, 0, 7, FLIGHT.encode(), b"{}", (("ce_id", b"ua-1545"),))]
    for m in messages:
        offset = offsets[m.topic] = offsets.get(m.topic, -1) + 1
        unfenced = tuple(pair for pair in m.headers if pair[0] != "ce_origin" or pair[1] != b"x/1")
        entries.append(Entry(m.topic, 0, offset, 0, m.key, m.value, unfenced))
    await store.archive(entries)
    return events["prediction"].envelope.id


async def test_every_link_from_the_answer_to_its_label_is_found(
    store: PostgresStore, project: ProjectDefinition
) -> None:
    prediction_id = await told(store, {**history(project), **answer(project)})
    story = await explain(store, prediction_id[:8])
    assert [link.name for link in story.links] == CHAIN
    assert story.gaps == []
    says = {link.name: link.says for link in story.links}
    assert says["feature row"]["values"]["hour_of_week"] == 1.0
    assert says["label"] == {"arr_delay": 40, "above": 15.0, "truth": True}
    assert says["registration"]["gates"][0]["name"] == "min_auc"


@pytest.mark.parametrize(
    ("without", "gap"),
    [
        *[("row", "feature row:"), ("spine", "accepted record:"), ("label", "label: no record of flight_arrived")],
        *[("registration", "registration: version 2"), ("run", "training run: run-2"), ("approval", "approval: none")],
        *[("promotion", "promotion:"), ("deployment", "deployment in force:"), ("activation", "activation:")],
        ("project", "project: no definition"),
    ],
)
async def test_a_missing_link_is_named(
    store: PostgresStore, project: ProjectDefinition, without: str, gap: str
) -> None:
    prediction_id = await told(store, {**history(project), **answer(project)}, without=without)
    assert any(found.startswith(gap) for found in (await explain(store, prediction_id)).gaps)


async def test_a_direct_call_says_that_the_caller_gave_the_inputs(
    store: PostgresStore, project: ProjectDefinition
) -> None:
    events = {**history(project), **answer(project)}
    events["prediction"] = event(events["prediction"].fact.model_copy(update={"row": None, "channel": "grpc"}))
    story = await explain(store, await told(store, events))
    assert story.gaps[0].startswith("feature row: asked over grpc, the caller gave the inputs: [0.0, 1.0")


async def test_a_version_that_was_told_to_take_over_and_had_not_yet_is_not_the_one_in_force(
    store: PostgresStore, project: ProjectDefinition
) -> None:
    events = {**history(project), **answer(project)}
    later = events["deployment"].fact.model_copy(update={"version": 3, "onnx": "sha256:next"})
    started = DeploymentActivated(
        model=MODEL, version=3, onnx="sha256:next", effective_from=render(MAY + 1), from_offsets={}
    )
    events |= {"told": event(later), "started": event(started)}
    story = await explain(store, await told(store, events))
    assert story.gaps == []
    assert {link.name: link.says for link in story.links}["deployment in force"]["version"] == 2


async def test_a_version_approved_for_other_bytes_is_a_gap(store: PostgresStore, project: ProjectDefinition) -> None:
    events = {**history(project), **answer(project)}
    events["approval"] = event(events["approval"].fact.model_copy(update={"onnx": "sha256:other"}))
    story = await explain(store, await told(store, events))
    assert story.gaps == [f"approval: it is about sha256:other, {ONNX} answered"]


@pytest.mark.parametrize("prediction_id", ["abc", "not hexadecimal", "0123456789"])
async def test_what_is_no_archived_prediction_is_refused(store: PostgresStore, prediction_id: str) -> None:
    with pytest.raises(Rejected, match=r"hexadecimal digits|whole id"):
        await explain(store, prediction_id)


async def test_the_page_names_each_link_with_its_place(store: PostgresStore, project: ProjectDefinition) -> None:
    prediction_id = await told(store, {**history(project), **answer(project)})
    result = await asyncio.to_thread(CliRunner().invoke, app, ["prediction", "explain", prediction_id])
    assert result.exit_code == 0
    assert "SOURCE RECORD  src.flight_departed/0/0  leaf 0" in result.stdout
    assert "GAPS  none" in result.stdout
