"""Runs are performed in the order of their cuts; one that has to wait holds up no other."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mainstem.events.envelope import begin
from mainstem.events.instants import render
from mainstem.events.registry import ProjectApplied
from mainstem.events.training import TrainingRequested
from mainstem.project import load_folder
from mainstem.storage import Artifacts, open_database
from mainstem.training.handlers import Performer
from mainstem.training.ports import NotReached
from mainstem.training.store import PostgresStore

pytestmark = pytest.mark.real

HARBOUR = Path(__file__).parents[3] / "tests" / "system" / "harbour"
MARCH_US, HOUR_US = 1_709_251_200_000_000, 3_600_000_000


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[PostgresStore]:
    database = await open_database(database_url, "training", "mainstem.training")
    store = PostgresStore(database)
    await apply(store, "first")
    yield store
    await database.close()


async def apply(store: PostgresStore, command: str, **changed: object) -> None:
    definition = load_folder(HARBOUR)
    content = definition.model_dump(mode="json") | changed
    fact = ProjectApplied(project="harbour", definition_id=definition.id, definition=content, applied_by="ann")
    await store.record([begin(fact, command_id=command, source="/test", actor="ann", recorded_us=MARCH_US)])


async def ask(store: PostgresStore, run: str, hours: int) -> None:
    fact = TrainingRequested(
        run=run, model="wear", project="harbour", cut=render(MARCH_US + hours * HOUR_US), cause="request",
        requested_by="ann",
    )  # fmt: skip
    await store.record([begin(fact, command_id=run, source="/test", actor="ann", recorded_us=MARCH_US)])


async def status(store: PostgresStore) -> dict[str, str]:
    return {str(run["run"]): str(run["status"]) for run in await store.runs()}


async def test_runs_that_have_to_wait_let_the_others_pass_and_are_tried_again(
    store: PostgresStore, tmp_path: Path
) -> None:
    reached, tried = {"failing"}, []
    names = {MARCH_US + hours * HOUR_US: run for run, hours in (("later", 3), ("failing", 2), ("early", 1))}

    async def read(definition, model, ranges, told):
        run = names[ranges.evaluation.end_us]
        tried.append(run)
        if run in reached:
            raise ValueError("no rows")
        raise NotReached("announced nothing")

    performer = Performer(store, Artifacts(tmp_path), read)
    for at, run in names.items():
        await ask(store, run, (at - MARCH_US) // HOUR_US)
    assert [await performer.advance() for _ in range(4)] == [True, True, True, False]
    assert tried == ["early", "failing", "later"]
    assert await status(store) == {"early": "requested", "failing": "failed", "later": "requested"}
    assert performer.waiting == dict.fromkeys(("early", "later"), "announced nothing")
    reached.add("early")
    assert [await performer.advance() for _ in range(3)] == [True, True, False]
    assert performer.waiting == {"later": "announced nothing"}
    assert (await status(store))["early"] == "failed"


async def test_a_run_whose_model_is_declared_no_more_fails_with_that_reason(
    store: PostgresStore, tmp_path: Path
) -> None:
    async def read(definition, model, ranges, told):
        raise NotReached("announced nothing")

    performer = Performer(store, Artifacts(tmp_path), read)
    await ask(store, "waiting", 1)
    assert await performer.advance()
    await apply(store, "without models", models={})
    assert [await performer.advance() for _ in range(2)] == [False, True]
    (run,) = await store.runs()
    assert run["reason"] == "snapshot: project 'harbour' declares no model 'wear' any more; ask for another run"
