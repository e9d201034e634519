"""Datasets from a real log into a real store: the same address whoever asks, however often, and whatever dies."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from services.training.tests.training_log import CUT, RANGES, Gusts, dataset, said, whole
from services.training.tests.training_parts import PACKAGE, Parts, write

from mainstem.bus.admin import cluster_id
from mainstem.bus.identity import log_identity
from mainstem.bus.kafka import KafkaBus
from mainstem.events.envelope import Event
from mainstem.events.errors import Unavailable
from mainstem.events.ids import content_id
from mainstem.events.training import DatasetBuilt, DatasetFailed, RunCompleted, StepCompleted
from mainstem.project import ProjectDefinition
from mainstem.testkit.clock import DAY, MAY
from mainstem.testkit.databases import opened, tables
from mainstem.training.domain import canonical
from mainstem.training.history.datasets import check, read_manifest
from mainstem.training.history.log import History
from mainstem.training.history.reading import read_until
from mainstem.training.store import PROJECTIONS, PostgresStore, apply

pytestmark = pytest.mark.real


def otherwise(definition: ProjectDefinition, **label: object) -> ProjectDefinition:
    """Return the definition with another label of its model."""
    document: dict[str, Any] = json.loads(definition.canonical())
    (model,) = document["models"].values()
    model["label"] |= label
    return ProjectDefinition.model_validate(document)


async def test_the_log_on_a_broker_is_read_as_it_was_written(kafka: str, parts: Parts) -> None:
    gusts = whole(parts.definition)
    history, heard = History(gusts.subject), list[tuple[int, int]]()
    await read_until(history, kafka, CUT, lambda read, there: heard.append((read, there)))
    positions = {"positions": None}
    assert said(history.dataset(RANGES)) | positions == said(dataset(gusts)) | positions
    assert heard[0] == (0, len(gusts.messages))


async def test_a_dataset_is_its_manifest(kafka: str, parts: Parts) -> None:
    row = await parts.build("one")
    manifest = read_manifest(parts.artifacts, str(row["dataset"]))
    model, identity = parts.definition.models[parts.model], await log_identity(kafka, whole(parts.definition).topics)
    assert row["dataset"] == content_id(canonical(manifest))
    assert manifest["positions"]["cluster"] == await cluster_id(kafka)
    assert {name: topic["id"] for name, topic in manifest["positions"]["topics"].items()} == identity.topics
    assert manifest | {"positions": 0, "content": 0, "code": 0} == {
        "format": "mainstem.dataset.v1",
        "project": "weather",
        "definition": parts.definition.id,
        "model": parts.model,
        "feature_set": {"id": parts.definition.feature_sets[model.feature_set].id, "label": model.feature_set},
        "label": {
            "source": model.label.source, "key": "sensor", "column": "loss", "above": 10.0, "wait": 21_600_000_000
        },
        "cut": "2013-05-11T00:00:00.000000Z",
        "fit": ["2013-05-01T00:00:00.000000Z", "2013-05-10T00:00:00.000000Z"],
        "evaluation": ["2013-05-10T00:00:00.000000Z", "2013-05-11T00:00:00.000000Z"],
        "rows": 48,
        "held_out": 5,
        "unlabelled": 12,
        "positions": 0,
        "content": 0,
        "code": 0,
    }  # fmt: skip


async def test_building_twice_gives_the_same_address(parts: Parts) -> None:
    first, second = await parts.build("one"), await parts.build("two")
    assert first == second
    assert [fact.model_dump()["request"] for fact in await parts.facts(DatasetBuilt)] == ["one", "two"]


async def test_what_was_deleted_is_built_again_from_the_log_under_the_same_address(parts: Parts) -> None:
    first = await parts.build("one")
    shutil.rmtree(parts.folder)
    assert check(parts.artifacts, str(first["dataset"]), str(first["parquet"]))[0] == "missing"
    second = await parts.build("two")
    assert second["dataset"] == first["dataset"]
    verdict, found = check(parts.artifacts, str(second["dataset"]), str(second["parquet"]))
    assert (verdict, found) == (
        "holds",
        f"the rows in {first['parquet']} hash to {first['content']}, as the manifest says",
    )


@pytest.mark.parametrize("what", ["dataset", "parquet"])
async def test_what_was_damaged_is_whole_when_it_is_built_again(parts: Parts, what: str) -> None:
    first = await parts.build("one")
    file = _file(parts.folder, str(first[what]))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert check(parts.artifacts, str(first["dataset"]), str(first["parquet"]))[0] == "changed"
    assert await parts.build("two") == first
    assert check(parts.artifacts, str(first["dataset"]), str(first["parquet"]))[0] == "holds"


async def test_another_cut_gives_another_address(parts: Parts) -> None:
    assert (await parts.build("one"))["dataset"] != (await parts.build("two", CUT - DAY))["dataset"]


@pytest.mark.parametrize("label", [{"above": 5.0}, {"wait": 7}])
async def test_another_label_gives_another_address(parts: Parts, label: dict[str, object]) -> None:
    first = await parts.build("one")
    await parts.apply(otherwise(parts.definition, **label))
    assert (await parts.build("two"))["dataset"] != first["dataset"]


async def test_a_run_freezes_the_dataset_that_anybody_else_would_be_given(parts: Parts) -> None:
    await parts.ask_for_run("run")
    assert await parts.performer().advance()
    asked = await parts.build("one")
    (step,) = await parts.store.steps("run")
    assert step["outputs"] == {"dataset": asked["dataset"], "table": asked["parquet"]}
    assert step["figures"] == {name: asked[name] for name in ("rows", "held_out", "unlabelled")}
    of_run, of_request = (fact.model_dump() for fact in await parts.facts(DatasetBuilt))
    assert of_run | {"request": "one", "requested_by": "ann"} == of_request
    assert (of_run["request"], of_run["requested_by"]) == ("run", "bob")
    assert asked["request"] == "run"  # it was there first


async def test_a_request_that_is_delivered_twice_leads_to_one_dataset(parts: Parts) -> None:
    await parts.ask("one")
    await parts.ask("one")
    assert [await parts.performer().advance() for _ in range(2)] == [True, False]
    await parts.ask("one")
    assert not await parts.performer().advance()
    assert len(await parts.facts(DatasetBuilt)) == 1


async def test_a_request_waits_for_its_cut_and_lets_others_pass(bus: KafkaBus, parts: Parts) -> None:
    late_us = CUT + 5 * DAY
    await parts.ask("late", late_us)
    await parts.ask_for_run("run")
    performer = parts.performer()
    assert [await performer.advance() for _ in range(2)] == [True, True]
    assert (list(performer.waiting), len(await parts.store.steps("run"))) == (["late"], 1)
    assert "has announced all before 2013-05-11T23:59:59.999999Z" in performer.waiting["late"]
    await write(bus, Gusts(parts.definition, numbers=iter(range(10_000, 20_000))).passed(late_us - 1))
    await parts.performer().advance()
    first = await parts.built("late")
    assert (await parts.build("one more", late_us)) == first


async def test_a_dataset_is_built_by_the_definition_in_force_when_it_was_asked_for(parts: Parts) -> None:
    first = await parts.build("one")
    await parts.ask("two")
    await parts.apply(otherwise(parts.definition, above=5.0))
    await parts.performer().advance()
    assert (await parts.built("two"))["dataset"] == first["dataset"]


async def test_a_run_goes_by_the_definition_that_its_dataset_was_built_by(parts: Parts) -> None:
    first = parts.definition
    await parts.ask_for_run("run")
    assert await parts.performer().advance()
    await parts.apply(otherwise(first, above=5.0))
    while await parts.performer().advance():
        pass
    (fact,) = await parts.facts(RunCompleted)
    assert isinstance(fact, RunCompleted)
    assert fact.definition == first.id


async def test_a_request_that_cannot_be_met_fails_with_the_reason(parts: Parts) -> None:
    await parts.ask("one", definition="sha256:none")
    assert [await parts.performer().advance() for _ in range(2)] == [True, False]
    (row,) = await parts.store.requests()
    assert (row["status"], row["dataset"]) == ("failed", None)
    assert row["reason"] == "no definition sha256:none was ever applied; ask for another dataset"
    (fact,) = await parts.facts(DatasetFailed)
    assert fact.model_dump()["reason"] == row["reason"]


class Dying(PostgresStore):
    """Is killed the first time that it is to record a dataset, before it does or after it did."""

    dead = False
    after = False

    async def record(self, events: Sequence[Event]) -> None:
        """Record, or die."""
        if self.dead or not any(isinstance(event.fact, DatasetBuilt) for event in events):
            await super().record(events)
            return
        self.dead = True
        if self.after:
            await super().record(events)
        raise Unavailable("the process was killed")


@pytest.mark.parametrize("after", [False, True])
async def test_a_process_that_dies_around_the_recording_changes_nothing(parts: Parts, after: bool) -> None:
    dying = Dying(parts.database)
    dying.after = after
    for request in ("run", "one"):
        await (parts.ask_for_run(request) if request == "run" else parts.ask(request))
        dying.dead = False
        with pytest.raises(Unavailable):
            await parts.performer(dying).advance()
        if not after:
            assert await parts.performer().advance()
    assert len(await parts.facts(StepCompleted)) == 1
    built = [fact.model_dump() for fact in await parts.facts(DatasetBuilt)]
    assert [fact["request"] for fact in built] == ["run", "one"]
    assert built[0]["dataset"] == built[1]["dataset"]


async def test_the_tables_follow_from_what_was_published_however_often_it_is_read(
    parts: Parts, database_url: str
) -> None:
    await parts.build("one")
    await parts.build("two")
    await parts.ask("three", definition="sha256:none")
    await parts.ask("four", MAY)
    await parts.ask_for_run("run")
    performer = parts.performer()
    while not await parts.store.steps("run"):
        await performer.advance()
    async with opened(database_url, "replayed", PACKAGE) as replayed:
        async with replayed.transaction() as tx:
            for event in [*await parts.published()] * 2:
                await apply(tx, event)
        assert await tables(replayed, PROJECTIONS) == await tables(parts.database, PROJECTIONS)


async def test_a_table_that_was_changed_or_exchanged_is_told(parts: Parts) -> None:
    one, other = await parts.build("one"), await parts.build("two", CUT - DAY)
    assert check(parts.artifacts, str(one["dataset"]), str(other["parquet"])) == (
        "differs",
        f"the rows in {other['parquet']} hash to {other['content']}, the manifest says {one['content']}",
    )
    stored = _file(parts.folder, str(one["parquet"]))
    stored.write_bytes(b"forged")
    verdict, found = check(parts.artifacts, str(one["dataset"]), str(one["parquet"]))
    assert (verdict, "was changed after it was stored" in found) == ("changed", True)
    plain = parts.artifacts.put(b"no table")
    assert check(parts.artifacts, str(one["dataset"]), plain)[0] == "differs"
    _file(parts.folder, str(one["dataset"])).unlink()
    assert check(parts.artifacts, str(one["dataset"]), plain) == (
        "missing", f"no artifact {one['dataset']}; put it back from a copy, or make it anew"
    )  # fmt: skip


def _file(folder: Path, address: str) -> Path:
    (found,) = folder.rglob(address.removeprefix("sha256:"))
    return found
