"""What follows from a history: what went into what, what was known when, and what was never used."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from prov.model import ProvDocument
from tests.contract.golden import HISTORY, read
from typer.testing import CliRunner

from mainstem.audit.copying import Choice, Copy
from mainstem.cli.main import app
from mainstem.events.catalogue import encode
from mainstem.events.envelope import begin
from mainstem.events.frames import Entry, frame
from mainstem.events.record import header
from mainstem.events.registry import ProjectApplied
from mainstem.ledger import Frontier, leaf_hashes
from mainstem.ledger.checkpoint import Checkpoint
from mainstem.ledger.entry import entry_of
from mainstem.ledger.note import Note
from mainstem.testkit.cosigner import LOG, WITNESS

GOLDEN = Path(__file__).parents[3] / "tests" / "contract" / "golden" / "0.1.0" / HISTORY


@pytest.fixture(scope="module")
def history() -> list[Entry]:
    return list(read(GOLDEN))


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory, history: list[Entry]) -> Path:
    """Return a copy of a history in which two versions were trained and one answers; no platform runs."""
    return write(tmp_path_factory.mktemp("copy") / "copy", history)


def write(folder: Path, history: list[Entry]) -> Path:
    """Write a copy of a history."""
    frames = [frame(entry) for entry in history]
    tree = Frontier().append(leaf_hashes(map(entry_of, frames)))
    text = Checkpoint(LOG.name, tree.size, tree.root()).text()
    copy = Copy(folder, Note(text, (LOG.sign(text), WITNESS.cosign(text, 1_700_000_000))), Choice(range(tree.size)))
    for entry, data in zip(history, frames, strict=True):
        copy.take(entry.topic, [data], leaf_hashes([entry_of(data)]))
    copy.finish()
    return folder


async def command(*arguments: object) -> tuple[int, str]:
    # A command runs its own loop, so it runs in a thread of its own.
    result = await asyncio.to_thread(CliRunner().invoke, app, [str(each) for each in arguments])
    return result.exit_code, result.stdout


async def ask(copy: Path, *arguments: object) -> tuple[int, dict[str, Any]]:
    code, said = await command("audit", *arguments, "--log", copy, "-o", "json")
    return code, json.loads(said)


def leaf_of(history: list[Entry], kind: str) -> int:
    return next(leaf for leaf, entry in enumerate(history) if header(entry, "ce_type") == kind.encode())


async def test_what_a_record_went_into_is_followed_to_rows(copy: Path, history: list[Entry]) -> None:
    rows = {header(entry, "ce_causationid") for entry in history if entry.topic == "evt.feature.strain"}
    origins = [header(entry, "ce_origin") for entry in history if header(entry, "ce_id") in rows]
    code, found = await ask(copy, "impact", (origins[0] or b"").decode())
    assert code == 0
    assert found["kinds"]["accepted"]["count"] == 1
    assert found["kinds"]["row"]["count"] > 10  # its own, and those in whose windows it lies
    assert (found["withheld"], found["unread"]) == (0, {})
    assert found["datasets_without_rows"] != []  # the copy has no artifacts
    assert found["windows_not_followed"] == {}


async def test_an_entry_is_named_by_its_leaf_too(copy: Path, history: list[Entry]) -> None:
    leaf = leaf_of(history, "mainstem.registry.version_promoted.v1")
    _, found = await ask(copy, "impact", leaf)
    assert found["kinds"]["deployment"]["count"] == 1


async def test_what_a_version_was_made_of_goes_back_to_dataset_run_and_definition(copy: Path) -> None:
    _, found = await ask(copy, "origins", "wear/1")
    assert {"run", "dataset", "definition", "artifact"} <= found["kinds"].keys()
    assert found["kinds"]["run"]["count"] == found["kinds"]["dataset"]["count"] == 1


async def test_an_approval_leads_to_the_deployment_and_the_answers(copy: Path) -> None:
    _, found = await ask(copy, "impact", "wear/1")
    assert {"approval", "promotion", "deployment", "activation", "prediction"} <= found["kinds"].keys()
    assert found["kinds"]["prediction"]["count"] == 3


async def test_what_is_not_behind_a_version_is_told_and_how_much_that_proves(copy: Path) -> None:
    code, found = await ask(copy, "absent", "wear/1", "src.weather")
    assert (code, found["absent"], found["proven"]) == (1, True, False)  # the tables of its datasets are not here
    code, said = await command("audit", "absent", "wear/1", "sha256:", "--log", copy)
    assert code == 1
    assert "absent" in said


async def test_a_source_that_a_feature_set_reads_or_a_label_comes_from_is_behind_its_versions(copy: Path) -> None:
    for prefix in ("src.inspected", "src.inspected/0/17", "evt.data.lifted", "src."):
        code, found = await ask(copy, "absent", "wear/1", prefix)
        assert (code, found["absent"], found["proven"]) == (1, False, False), prefix
    _, found = await ask(copy, "absent", "wear/1", "src.inspected")
    assert [each.split(" by ")[0] for each in found["read_by"]] == ["inspected"]


async def test_what_was_in_force_is_told_as_it_was_known(copy: Path, history: list[Entry]) -> None:
    promoted = leaf_of(history, "mainstem.registry.version_promoted.v1")
    _, before = await ask(copy, "as-of", "--size", promoted)
    _, after = await ask(copy, "as-of", "--size", promoted + 1)
    assert (before["production"], after["production"]) == ({}, {"wear": "1"})
    _, then = await ask(copy, "as-of", "--at", "2024-03-02T00:00:00Z")
    assert (then["production"], list(then["definitions"])) == ({}, ["harbour"])


async def test_the_difference_of_two_sizes_names_what_came(copy: Path, history: list[Entry]) -> None:
    promoted = leaf_of(history, "mainstem.registry.version_promoted.v1")
    _, found = await ask(copy, "diff", promoted, promoted + 1)
    assert found["nodes"]["promotion"]["count"] == 1
    assert (found["in_force_before"]["production"], found["in_force_after"]["production"]) == ({}, {"wear": "1"})


async def test_lineage_is_written_for_other_programs(copy: Path, tmp_path: Path) -> None:
    for vocabulary in ("openlineage", "prov"):
        assert (await command("audit", "lineage", vocabulary, tmp_path / vocabulary, "--log", copy))[0] == 0
    events = [json.loads(line) for line in (tmp_path / "openlineage").read_text().splitlines()]
    assert {"START", "COMPLETE"} <= {event.get("eventType") for event in events}
    document = ProvDocument.deserialize(tmp_path / "prov", format="json")
    assert len(document.get_records()) > 100


async def test_what_nothing_speaks_of_is_refused_with_what_may_be_named(copy: Path) -> None:
    result = await asyncio.to_thread(CliRunner().invoke, app, ["audit", "impact", "wear/9", "--log", str(copy)])
    assert result.exit_code == 1
    assert "speaks of 'wear/9'; name a leaf, a place" in " ".join(result.output.split())


async def test_lineage_is_written_of_what_is_asked_for_alone(copy: Path, tmp_path: Path) -> None:
    for name, chosen in (("all", ()), ("some", ("--of", "wear/1")), ("both", ("--of", "wear/1", "--of", "wear/2"))):
        code, said = await command("audit", "lineage", "prov", tmp_path / name, *chosen, "--log", copy)
        assert code == 0, said
    found = {name: json.loads((tmp_path / name).read_text()) for name in ("all", "some", "both")}
    versions = {name: {one for one in each["entity"] if "version/" in one} for name, each in found.items()}
    assert versions["some"] == {"mainstem:version/wear/1"}
    assert versions["both"] == versions["all"] == {"mainstem:version/wear/1", "mainstem:version/wear/2"}
    assert len(found["some"]["entity"]) < len(found["all"]["entity"])
    assert ProvDocument.deserialize(tmp_path / "some", format="json").get_records()


async def test_the_absence_of_what_nothing_is_called_proves_nothing(copy: Path) -> None:
    code, said = await command("audit", "absent", "wear/1", "inspected", "--log", copy)
    assert (code, "proven" in said) == (1, False)
    result = await asyncio.to_thread(CliRunner().invoke, app, ["audit", "absent", "wear/1", "x", "--log", str(copy)])
    assert "nothing in the log is called 'x'" in " ".join(result.output.split())


async def test_entries_that_make_another_root_prove_nothing(tmp_path: Path, copy: Path, history: list[Entry]) -> None:
    """Whoever rewrites an entry and all tiles above it still has no checkpoint."""
    folder, leaf = tmp_path / "copy", leaf_of(history, "mainstem.training.dataset_built.v1")
    changed = [*history]
    changed[leaf] = history[leaf]._replace(value=(history[leaf].value or b"").replace(b"wear", b"tear"))
    write(folder, changed)
    (folder / "checkpoint").write_bytes((copy / "checkpoint").read_bytes())
    asked = ["audit", "absent", "wear/1", "src.harbour", "--log", str(folder)]
    result = await asyncio.to_thread(CliRunner().invoke, app, asked)
    assert (result.exit_code, "proven" in result.output) == (1, False)
    assert "make another root than the checkpoint has" in " ".join(result.output.split())


async def test_a_definition_that_cannot_be_read_leaves_absence_unproven(tmp_path: Path, history: list[Entry]) -> None:
    garbage = ProjectApplied(project="harbour", definition_id="x", definition={"no": "charter"}, applied_by="eve")
    message = encode(begin(garbage, command_id="garbage", source="/test", actor="eve", recorded_us=0))
    offset = sum(entry.topic == message.topic for entry in history)
    entry = Entry(message.topic, 0, offset, 0, message.key, message.value, message.headers)
    write(tmp_path / "copy", [*history, entry])
    code, found = await ask(tmp_path / "copy", "absent", "wear/1", "src.harbour")
    assert (code, found["proven"], found["absent"]) == (1, False, True)
    assert found["definitions_unread"] == [f"leaf {len(history)}"]


async def test_origins_name_the_sources_whose_records_rows_count_in_their_windows(copy: Path) -> None:
    _, found = await ask(copy, "origins", "wear/1")
    assert "inspected" in found["windows_of"]
