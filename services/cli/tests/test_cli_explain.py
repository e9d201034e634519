"""An answer is explained from a copy of the log or from the ledger's database, and what is missing has its reason."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from services.cli.tests.told_story import (
    DAY,
    FLIGHT,
    HOUR,
    LOG_KEY,
    MAY,
    MODEL,
    WITNESS_KEY,
    Changes,
    Story,
    onnx,
    project,
    story,
)
from typer.testing import CliRunner, Result

from mainstem.audit.log import Log
from mainstem.cli.archive import open_schema
from mainstem.cli.evidence.archive import Archive, Found, ReadSet, events
from mainstem.cli.evidence.columns import Columns
from mainstem.cli.evidence.copied import Copy
from mainstem.cli.evidence.explaining import explain
from mainstem.cli.evidence.page import page
from mainstem.cli.evidence.stored import Stored
from mainstem.cli.evidence.story import FIELDS
from mainstem.cli.evidence.story import Story as Explained
from mainstem.cli.evidence.trial import empty_fields
from mainstem.cli.main import app
from mainstem.events.data import RecordAccepted
from mainstem.events.errors import Rejected
from mainstem.events.fact import Fact
from mainstem.events.frames import Damaged
from mainstem.events.ids import content_id
from mainstem.events.instants import render
from mainstem.events.registry import ProjectApplied
from mainstem.events.serving import LookedUp
from mainstem.ledger import leaf_hashes
from mainstem.ledger.checkpoint import Checkpoint
from mainstem.ledger.keys import Secret
from mainstem.ledger.note import Note
from mainstem.ledger.tiles import Edge, pack_entries
from mainstem.ledger_service.store import PostgresStore
from mainstem.project import ProjectDefinition
from mainstem.testkit.cosigner import LOG


@asynccontextmanager
async def stored(database_url: str, told: Story) -> AsyncIterator[PostgresStore]:
    """Lend the archive of a log in a database."""
    async with open_schema(database_url, "ledger", "mainstem.ledger_service") as database:
        store = PostgresStore(database)
        for entry in told.entries:  # at once they would stand partition by partition
            await store.archive([entry])
        yield store


async def explained(folder: Path, changes: Changes | None = None) -> Explained:
    """Return the story that a copy tells of the answer."""
    told = story(changes)
    return await explain(Copy(told.copy_to(folder / "copy"), LOG_KEY, [WITNESS_KEY]), told.ids["prediction"][:8])


def said(found: Explained, name: str) -> dict[str, object]:
    """Return all that is stated of a field."""
    return {key: value for one in found.statements[name] for key, value in {**one.says, **one.derived}.items()}


async def test_every_field_is_told_or_has_its_reason_and_nothing_contradicts(tmp_path: Path) -> None:
    found = await explained(tmp_path)
    assert (found.faults, empty_fields(found)) == ([], [])
    assert list(found.gaps) == ["trace"]
    assert len(FIELDS) >= 25


async def test_the_story_leads_from_the_answer_to_source_decision_and_truth(tmp_path: Path) -> None:
    found = await explained(tmp_path)
    assert said(found, "accepted_record")["ce_origin"] == "src.flight_departed/0/21"
    assert said(found, "source_record")["place"] == "src.flight_departed/0/21"
    assert said(found, "project")["definition/charter/owners"] == project().charter.owners.model_dump()
    assert said(found, "approval")["approved_by"] == "ann"
    assert [dict(one.says) for one in found.statements["rollback"]] == [
        {"replaces": 1},
        {"version": 1, "promoted_by": "olga", "ce_time": render(MAY - DAY)},
    ]
    assert said(found, "environment")["environment"] == "sha256:e"
    assert said(found, "outcome")["truth"] is True
    assert said(found, "checkpoint")["signed_by"] == ["example.com/log", "example.com/witness"]


async def test_drift_and_alerts_are_those_that_were_known_then(tmp_path: Path) -> None:
    found = await explained(tmp_path)
    assert said(found, "drift")["ce_recordedtime"] == "2013-05-01T01:00:00.000000Z"
    assert [one.says["alert"] for one in found.statements["alerts"]] == ["alert"]


async def test_the_records_behind_each_value_give_it_again_and_later_ones_are_not_among_them(tmp_path: Path) -> None:
    told = story()
    found = await explain(Copy(told.copy_to(tmp_path / "copy")), told.ids["prediction"])
    features = {one["name"]: one for one in said(found, "records")["features"]}  # type: ignore[attr-defined]
    assert all(one["equal"] for one in features.values())
    assert features["origin_deps_1h"]["count"] == 2  # one departure, and its own record says where it leaves from
    assert features["carrier_late_24h"]["count"] == 26  # 30 arrivals, 5 of them without a delay, and its own record
    (last,) = [
        each for records in features["tail_last"]["records"].values() for each in records if each["value"] != "N1"
    ]
    assert told.entries[last["leaf"]].value is not None
    assert last["source"] == "src.flight_arrived/0/32"


@pytest.mark.real
async def test_the_database_tells_the_same_story_as_a_copy(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = story()
    told.copy_to(tmp_path / "copy")
    monkeypatch.setenv("MAINSTEM_LOG", str(tmp_path / "copy"))
    async with stored(database_url, told) as store:
        archives: list[Archive] = [Stored(store), Copy(tmp_path / "copy")]
        documents = [(await explain(archive, told.ids["prediction"])).document() for archive in archives]
        read = ReadSet(project().feature_sets["flight_delay"].compiled, 0)
        (spine,) = events(RecordAccepted, await archives[0].with_id(told.ids[f"flight_departed {FLIGHT}"]))
        columns = [await archive.columns(read, spine) for archive in archives]
    assert documents[0] == documents[1]
    recent, all_ = [len(each.streams["flight_arrived"].places["leaf"]) for each in columns]
    assert (recent, all_) == (33, 35)  # of the three from before all windows the last alone is read


@pytest.mark.parametrize(
    ("without", "field", "reason"),
    [
        ("activation", "activation", "no activation in effect"),
        ("approval", "approval", "none is in the archive"),
        ("dataset", "dataset", "the dataset of run run-2"),
        ("deployment", "deployment", "the deployment that was activated"),
        ("journal", "outcome", ""),
        ("project", "features", "no definition with feature set"),
        ("promotion", "rollback", "no promotion"),
        ("receipt", "receipts", "the ledger issued no receipt"),
        ("registration", "gates", "the registration of version 2"),
        ("request", "request", "the request of run run-2"),
        ("row", "row", "is not in the archive"),
        ("run", "run", "run run-2 is not in the archive"),
        ("window", "drift", "the first of 1 was judged later"),
        (f"flight_departed {FLIGHT}", "accepted_record", "is not in the archive"),
        (f"flight_arrived {FLIGHT}", "outcome", "no record of flight_arrived with flight"),
    ],
)
async def test_what_is_missing_has_its_reason(tmp_path: Path, without: str, field: str, reason: str) -> None:
    found = await explained(tmp_path, {without: None})
    assert empty_fields(found) == []
    assert reason in found.gaps.get(field, "")


def changed(**fields: object) -> Callable[[Fact], Fact]:
    """Return a change of a fact."""

    def change(fact: Fact) -> Fact:
        return fact.model_copy(update=fields)

    return change


@pytest.mark.parametrize(
    ("name", "fields", "fault"),
    [
        ("approval", {"onnx": "sha256:other"}, "approval: it is about sha256:other"),
        ("approval", {"approved_by": "rob"}, "rob approved a version that they built"),
        ("registration", {"onnx": "sha256:other"}, "registration: it is about sha256:other"),
        ("deployment", {"onnx": "sha256:other"}, "deployment: it is about sha256:other"),
        ("row", {"values": [1.0] * 15}, "the records give other values than those served of"),
    ],
)
async def test_what_contradicts_the_answer_is_named(
    tmp_path: Path, name: str, fields: dict[str, object], fault: str
) -> None:
    found = await explained(tmp_path, {name: changed(**fields)})
    assert any(fault in each for each in found.faults)


async def test_a_call_by_entity_says_when_its_features_were_looked_up(tmp_path: Path) -> None:
    lookup = LookedUp(at="2013-01-05T00:00:00.000000Z", applied=12, columns={"origin": "EWR"})
    found = await explained(tmp_path, {"prediction": changed(row=None, channel="http", lookup=lookup)})
    assert found.gaps["row"] == (
        "asked over http: the caller described an entity, whose features were looked up at "
        "2013-01-05T00:00:00.000000Z, no record asked"
    )


async def test_a_direct_call_says_that_the_caller_gave_the_inputs(tmp_path: Path) -> None:
    found = await explained(tmp_path, {"prediction": changed(row=None, channel="grpc", entity=None)})
    assert found.faults == []
    assert found.gaps["row"] == "asked over grpc: the caller gave the inputs, no record asked"
    assert found.gaps["entity"] == "the caller named no entity"
    assert said(found, "activation")["version"] == 2


@pytest.mark.parametrize("prediction_id", ["0123456789", "abc", "not hexadecimal"])
async def test_what_is_no_archived_prediction_is_refused(tmp_path: Path, prediction_id: str) -> None:
    archive = Copy(story().copy_to(tmp_path / "copy"))
    with pytest.raises(Rejected, match=r"hexadecimal digits|whole id"):
        await explain(archive, prediction_id)


async def command(*arguments: object) -> Result:
    # A command runs its own loop, so it runs in a thread of its own.
    return await asyncio.to_thread(CliRunner().invoke, app, ["prediction", *map(str, arguments)])


async def test_the_page_and_the_document_name_every_leaf(tmp_path: Path) -> None:
    told = story()
    copy = told.copy_to(tmp_path / "copy")
    page = await command("explain", told.ids["prediction"], "--log", copy)
    assert page.exit_code == 0
    assert f"approval  [leaf {told.leaf('approval')}]" in page.stdout
    assert "evaluated again, records 26: the same bits" in page.stdout
    assert "CONTRADICTIONS  none" in page.stdout
    document = json.loads((await command("explain", told.ids["prediction"], "--log", copy, "-o", "json")).stdout)
    assert document["fields"]["approval"][0]["leaf"] == told.leaf("approval")


async def test_a_contradiction_ends_the_command_with_exit_code_1(tmp_path: Path) -> None:
    told = story({"approval": changed(approved_by="rob")})
    page = await command("explain", told.ids["prediction"], "--log", told.copy_to(tmp_path / "copy"))
    assert (page.exit_code, "rob approved a version" in page.stdout) == (1, True)


async def test_a_sample_is_explained_and_counted(tmp_path: Path) -> None:
    copy = story().copy_to(tmp_path / "copy")
    counted = await command("explain", "--sample", 10, "--log", copy, "-o", "json")
    (facts,) = json.loads(counted.stdout)
    assert (counted.exit_code, facts["explained"], facts["empty"], facts["contradictions"]) == (0, 1, 0, 0)
    assert facts["not_told_trace"] == 1


async def test_either_an_id_or_a_sample_is_wanted(tmp_path: Path) -> None:
    copy = story().copy_to(tmp_path / "copy")
    for arguments in ((), ("abcdef01", "--sample", 3)):
        assert (await command("explain", *arguments, "--log", copy)).exit_code == 2


async def test_the_archived_model_gives_the_same_bits(tmp_path: Path) -> None:
    told = story()
    copy = told.copy_to(tmp_path / "copy")
    digest = content_id(onnx()).removeprefix("sha256:")
    file = copy / "artifact" / digest[:2] / digest
    file.parent.mkdir(parents=True)
    file.write_bytes(onnx())
    for arguments in ((told.ids["prediction"],), ("--sample", 5)):
        assert (await command("replay", *arguments, "--log", copy)).exit_code == 0
    file.write_bytes(onnx() + b"\n")
    refused = await command("replay", told.ids["prediction"], "--log", copy)
    assert (refused.exit_code, "it was changed after it was stored" in refused.output) == (1, True)


async def test_another_score_is_told_with_its_distance(tmp_path: Path) -> None:
    def higher(fact: Fact) -> Fact:
        return fact.model_copy(update={"score": fact.score + 2**-53})  # type: ignore[attr-defined]

    told = story({"prediction": higher})
    copy, artifacts = told.copy_to(tmp_path / "copy"), tmp_path / "artifacts"
    digest = content_id(onnx()).removeprefix("sha256:")
    (artifacts / digest[:2]).mkdir(parents=True)
    (artifacts / digest[:2] / digest).write_bytes(onnx())
    for arguments in ((told.ids["prediction"],), ("--sample", 5)):
        found = await command("replay", *arguments, "--log", copy, "--artifacts", artifacts)
        assert found.exit_code == 1
    assert "ulp from it" in found.output


async def test_what_people_wrote_cannot_pass_for_what_the_page_says(tmp_path: Path) -> None:
    comment = "fine\n\nCONTRADICTIONS  none\nNOT TOLD  nothing\n\x1b[8m"
    changes: Changes = {"approval": lambda fact: fact.model_copy(update={"comment": comment, "approved_by": "rob"})}
    lines = list(page(await explained(tmp_path, changes)))
    assert [line for line in lines if line.startswith("CONTRADICTIONS")] == ["CONTRADICTIONS"]
    assert any("rob approved a version that they built" in line for line in lines)
    assert all(line.isprintable() for line in lines)


async def test_a_definition_that_cannot_be_read_ends_no_explanation(tmp_path: Path) -> None:
    told = story()
    garbage = ProjectApplied(
        project="harbour", definition_id="sha256:x", definition={"no": "charter"}, applied_by="eve"
    )
    told.tell("garbage", garbage, MAY)
    found = await explain(Copy(told.copy_to(tmp_path / "copy")), told.ids["prediction"])
    assert (found.faults, empty_fields(found)) == ([], [])


def again(told: Story, definition: ProjectDefinition, at_us: int) -> None:
    """Tell that the project was applied with another definition."""
    fact = ProjectApplied(
        project="flights",
        definition_id=definition.id,
        definition=json.loads(definition.canonical()),
        applied_by="dana",
    )
    told.tell("again", fact, at_us)


async def test_a_definition_that_was_applied_after_the_answer_changes_nothing_of_its_story(tmp_path: Path) -> None:
    told, later = story(), story()
    model = project().models[MODEL]
    rule = model.label.model_copy(update={"above": 500.0, "wait": 1})
    charter = project().charter.model_copy(update={"purpose": "Another."})
    update = {"models": {MODEL: model.model_copy(update={"label": rule})}, "charter": charter}
    again(later, project().model_copy(update=update), MAY + 30 * HOUR)
    documents = [
        (await explain(Copy(one.copy_to(tmp_path / name)), one.ids["prediction"])).document()
        for name, one in {"told": told, "later": later}.items()
    ]
    for document in documents:
        document["fields"].pop("checkpoint")  # type: ignore[attr-defined]
    assert documents[0] == documents[1]


async def test_records_are_read_as_far_back_as_any_definition_let_their_events_lie_ahead(tmp_path: Path) -> None:
    """A record that was accepted while events might lie an hour ahead counts when they may not any more."""
    read: list[ReadSet] = []

    class Asked(Copy):
        async def columns(self, read_: ReadSet, spine: Found[RecordAccepted]) -> Columns:
            read.append(read_)
            return await super().columns(read_, spine)

    told = story()
    sources = {name: one.model_copy(update={"ahead": 1}) for name, one in project().sources.items()}
    again(told, project().model_copy(update={"sources": sources}), MAY - HOUR // 2)
    await explain(Asked(told.copy_to(tmp_path / "copy")), told.ids["prediction"])
    streams = project().feature_sets["flight_delay"].compiled.streams
    assert [one.ahead_us for one in read] == [max(project().sources[name].ahead for name in streams)]


async def test_an_index_of_a_part_is_not_taken_for_one_of_the_whole(tmp_path: Path) -> None:
    told, folder = story(), tmp_path / "copy"
    told.copy_to(folder, ("evt.registry.*",))
    with pytest.raises(Rejected, match="0 predictions begin with"):
        await explain(Copy(folder), told.ids["prediction"])
    shutil.rmtree(folder)
    told.copy_to(folder)
    assert (await explain(Copy(folder), told.ids["prediction"])).faults == []


KEYS = ("--log-key", LOG_KEY, "--witness-key", WITNESS_KEY)


def forged(folder: Path, entry: bytes, other: bytes, *, tiles: bool) -> None:
    """Change the bytes of an entry; with its `tiles` and the root, too, below the lines of the old signatures."""
    entries = {leaf: data.replace(entry, other) for leaf, data in Log(folder).entries()}
    assert entries != dict(Log(folder).entries())
    edge, full = Edge().append(leaf_hashes(entries.values()))
    assert full == []
    (bundle,) = (folder / "tile" / "entries").rglob("*.p/*")
    bundle.write_bytes(pack_entries(entries.values()))
    if tiles:
        for tile, data in edge.partial():
            (folder / tile.path).write_bytes(data)
        note = Log(folder).note
        text = Checkpoint(LOG.name, edge.size, edge.frontier().root()).text()
        (folder / "checkpoint").write_bytes(Note(text, note.signatures).render())


async def test_an_entry_that_was_changed_is_no_part_of_a_story(tmp_path: Path) -> None:
    told = story()
    copy = told.copy_to(tmp_path / "copy")
    assert (await command("explain", told.ids["prediction"], "--log", copy, *KEYS)).exit_code == 0
    forged(copy, b'"approved_by":"ann"', b'"approved_by":"eve"', tiles=False)
    for _ in range(2):  # also when there is no index any more
        page = await command("explain", told.ids["prediction"], "--log", copy, *KEYS)
        assert (page.exit_code, "eve" in page.output) == (1, False)
        assert "is not as it was archived" in " ".join(page.output.split())
        shutil.rmtree(tmp_path / "copy.index")


async def test_an_index_from_before_lends_no_belief_to_an_entry_changed_since(tmp_path: Path) -> None:
    told = story()
    copy = told.copy_to(tmp_path / "copy")
    archive = Copy(copy)
    forged(copy, b'"approved_by":"ann"', b'"approved_by":"eve"', tiles=False)
    leaf = told.leaf("approval")
    with pytest.raises(Damaged, match=f"leaf {leaf} is not as it was archived"):
        await archive.frames([leaf])
    with pytest.raises(Damaged, match=f"leaf {leaf} is not as it was archived"):
        await archive.with_id(told.ids["approval"])


async def test_nobody_is_said_to_have_signed_a_history_that_was_rewritten(tmp_path: Path) -> None:
    told = story()
    copy = told.copy_to(tmp_path / "copy")
    forged(copy, b'"approved_by":"ann"', b'"approved_by":"eve"', tiles=True)
    page = await command("explain", told.ids["prediction"], "--log", copy, *KEYS)
    assert (page.exit_code, "signed by " in page.stdout) == (1, False)
    assert "the signature of example.com/log is not of its key" in page.stdout
    page = await command("explain", told.ids["prediction"], "--log", copy)
    assert (page.exit_code, "signed by " in page.stdout) == (0, False)
    assert "signature not checked: give --log-key" in page.stdout


@pytest.mark.parametrize(
    ("keys", "signers"),
    [(KEYS[:2], ["example.com/log"]), (KEYS, ["example.com/log", "example.com/witness"])],
    ids=["the log's key", "both keys"],
)
async def test_those_are_said_to_have_signed_whose_key_was_given(
    tmp_path: Path, keys: Sequence[str], signers: list[str]
) -> None:
    told = story()
    copy = told.copy_to(tmp_path / "copy")
    found = await command("explain", told.ids["prediction"], "--log", copy, *keys, "-o", "json")
    assert json.loads(found.stdout)["fields"]["checkpoint"][0]["derived"]["signed_by"] == signers


async def test_the_keys_of_the_platform_here_are_taken_where_none_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAINSTEM_LOG_VKEY", LOG_KEY)
    monkeypatch.setenv("MAINSTEM_WITNESS_VKEY", WITNESS_KEY)
    told = story()
    found = await explain(Copy(told.copy_to(tmp_path / "copy")), told.ids["prediction"])
    assert said(found, "checkpoint")["signed_by"] == ["example.com/log", "example.com/witness"]
    monkeypatch.setenv("MAINSTEM_LOG_VKEY", Secret("elsewhere.example/log", bytes(32)).log_key.vkey())
    found = await explain(Copy(tmp_path / "copy"), told.ids["prediction"])
    assert said(found, "checkpoint")["signature"] == "signature not checked: give --log-key"
