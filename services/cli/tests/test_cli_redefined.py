"""Answers about what was made by one definition do not change when the project is applied with another."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from libs.lineage.tests.lineage_story import DATASET, MODEL, TABLE, Story, at, told
from services.cli.tests.test_cli_ancestry import ask, command, write

from mainstem.audit.log import Log
from mainstem.cli.copies import ARTIFACTS
from mainstem.cli.evidence.index import beside
from mainstem.events.frames import Entry
from mainstem.events.ids import content_id
from mainstem.project import ProjectDefinition
from mainstem.storage.artifacts import Artifacts
from mainstem.testkit.cosigner import LOG
from mainstem.testkit.projects import applied

#: In the order of `told`: the truth that a dataset learnt from, and the one that a window judged by.
LEARNT, JUDGED = "src.outcome/0/0", "src.outcome/0/1"
SIZE = len(told().entries)
KEYS = ("--log-key", LOG.log_key.vkey())


def redefined(**label: object) -> ProjectDefinition:
    """Return the project of the story with another rule for labels, which a source `report` may bring now."""
    definition = told().definition
    model = definition.models[MODEL]
    other = model.model_copy(update={"label": model.label.model_copy(update=label)})
    report = definition.sources["outcome"].model_copy(update={"name": "report"})
    update = {"models": {MODEL: other}, "sources": {**definition.sources, "report": report}}
    return definition.model_copy(update=update)


def table(story: Story) -> bytes:
    """Return a table with the rows of the first two readings."""
    names = [(name, f"s{number}", at(number)) for number, name in enumerate(("r0", "r1"))]
    columns = {
        "spine_id": [story.ids[name] for name, _, _ in names],
        "entity": [entity for _, entity, _ in names],
        "event_time": pa.array([time_us for *_, time_us in names], pa.timestamp("us", "UTC")),
    }
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


def copied(folder: Path, *definitions: ProjectDefinition) -> Path:
    """Write a copy of the story, its table included, behind which a project was applied with these definitions."""
    story = told()
    for number, definition in enumerate(definitions):
        story.say(f"applied {number}", applied(definition, f"again {number}"))
    content = table(story)
    address = content_id(content).encode()

    def held(entry: Entry) -> Entry:
        return entry._replace(value=(entry.value or b"").replace(TABLE.encode(), address))

    write(folder, [held(entry) for entry in story.entries])
    Artifacts(folder / ARTIFACTS).put(content)
    return folder


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(tmp_path_factory.mktemp("before") / "copy")


async def kinds(copy: Path, *arguments: object) -> dict[str, Any]:
    _, found = await ask(copy, "impact", *arguments)
    return {kind: said["count"] for kind, said in found["kinds"].items()}


@pytest.mark.parametrize("record", [LEARNT, JUDGED])
async def test_a_label_stays_behind_what_it_counted_in_when_labels_are_joined_otherwise(
    before: Path, tmp_path: Path, record: str
) -> None:
    expected = await kinds(before, record)
    assert {LEARNT: "dataset", JUDGED: "window"}[record] in expected
    for number, change in enumerate(({"wait": 60_000_000}, {"source": "report"}, {"above": 500.0})):
        after = copied(tmp_path / str(number), redefined(**change))
        assert await kinds(after, record) == expected
        assert await kinds(after, record, "--size", SIZE) == expected


async def test_a_source_that_a_later_definition_reads_is_not_behind_an_earlier_version(
    before: Path, tmp_path: Path
) -> None:
    asked = ("absent", f"{MODEL}/1", "src.report", *KEYS)
    code, found = await ask(before, *asked)
    assert (code, found["proven"]) == (0, True), found
    after = copied(tmp_path / "after", redefined(source="report"))
    for size in ((), ("--size", SIZE)):
        code, found = await ask(after, *asked, *size)
        assert (code, found["proven"], found["read_by"]) == (0, True, []), found
    for source in ("outcome", "reading"):
        code, found = await ask(after, "absent", f"{MODEL}/1", f"src.{source}")
        assert (code, found["absent"]) == (1, False), source
    _, found = await ask(after, "absent", DATASET, "src.outcome")
    assert not found["absent"]


async def test_origins_name_the_sources_that_were_read_and_no_later_ones(before: Path, tmp_path: Path) -> None:
    after = copied(tmp_path / "after", redefined(source="report"))
    for copy in (before, after):
        _, found = await ask(copy, "origins", f"{MODEL}/1")
        assert found["windows_of"] == ["outcome", "reading"]


async def test_what_is_not_known_below_a_size_is_no_gap_of_it(tmp_path: Path) -> None:
    """Neither a definition that nobody can read nor a dataset without its table, if they came later."""
    after = copied(tmp_path / "after", redefined())
    built = next(leaf for leaf, entry in enumerate(told().entries) if TABLE.encode() in (entry.value or b""))
    (table_file,) = [path for path in (after / ARTIFACTS).rglob("*") if path.is_file()]
    table_file.unlink()
    _, whole = await ask(after, "absent", DATASET, "src.report")
    _, early = await ask(after, "impact", "src.reading/0/0", "--size", built)
    assert (len(whole["datasets_without_rows"]), early["datasets_without_rows"]) == (1, [])


async def test_what_is_called_so_later_is_not_known_below_a_size(before: Path) -> None:
    """So that nothing of it is behind something says nothing there."""
    story = told()
    asked = next(leaf for leaf, entry in enumerate(story.entries) if b"run2" in (entry.value or b""))
    code, found = await ask(before, "absent", f"{MODEL}/1", "run2", "--size", asked + 1, *KEYS)
    assert (code, found["proven"]) == (0, True)
    code, said = await command("audit", "absent", f"{MODEL}/1", "run2", "--size", asked, "--log", before)
    assert (code, said) == (1, "")


async def test_what_an_earlier_release_kept_beside_a_copy_is_made_anew(tmp_path: Path) -> None:
    after = copied(tmp_path / "copy", redefined(source="report"))
    expected = await kinds(after, LEARNT)
    kept = beside(Log(after)).with_suffix(".lineage.npz")
    with np.load(kept) as arrays:
        np.savez(kept, **{name: arrays[name] for name in arrays.files if name != "declared"})
    assert await kinds(after, LEARNT) == expected
    with np.load(kept) as arrays:
        assert "declared" in arrays.files
