"""A bundle is checked by a program that knows nothing of the platform; whatever is changed in it, it says what."""

import asyncio
import copy
import json
import runpy
import subprocess
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from services.cli.tests.told_story import LOG_KEY, MAY, WITNESS_KEY, Story, project, story
from typer.testing import CliRunner

from mainstem.cli.evidence.bundle import bundle
from mainstem.cli.evidence.copied import Copy
from mainstem.cli.evidence.explaining import explain
from mainstem.cli.evidence.story import Story as Explained
from mainstem.cli.main import app
from mainstem.events.data import RecordAccepted
from mainstem.events.fact import Fact
from mainstem.events.ids import content_id
from mainstem.events.instants import render
from mainstem.ledger.checkpoint import Checkpoint
from mainstem.ledger.keys import Secret
from mainstem.ledger.note import Note
from mainstem.ledger_service.domain import Placed
from mainstem.testkit.cosigner import LOG, WITNESS

CHECKER = Path(__file__).parents[3] / "tools" / "check_explanation.py"
STRANGER = Secret("example.com/log", bytes(range(2, 34)))

#: As long as nobody would write it.
PURPOSE = "because " * 10_000

Bundle = dict[str, Any]


#: The check itself, so that not every change needs a process of its own.
_CHECKER = runpy.run_path(str(CHECKER))
CHECK: Callable[..., None] = _CHECKER["check"]
RULES: dict[str, Any] = _CHECKER["RULES"]


async def packed(
    folder: Path, told: Story, change: Callable[[Story, Explained], None] = lambda _told, _story: None
) -> Bundle:
    """Return the bundle of the answer of a log; `change` is what an insider does to the story before it is packed."""
    archive = Copy(told.copy_to(folder / "copy"), LOG_KEY, [WITNESS_KEY])
    found = await explain(archive, told.ids["prediction"])
    change(told, found)
    done: Bundle = json.loads(json.dumps(await bundle(archive, found)))
    return done


@pytest.fixture(scope="module")
async def honest(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return await packed(tmp_path_factory.mktemp("honest"), story())


def refused(changed: Bundle, *keys: str) -> str:
    """Return why a bundle is refused."""
    with pytest.raises((ValueError, LookupError, InvalidSignature)) as why:
        CHECK(changed, *(keys or (LOG_KEY, WITNESS_KEY)))
    return repr(why.value)


def run(*arguments: object) -> tuple[int, str]:
    """Run the checker as an auditor does: a process that finds nothing of ours but by its own path."""
    done = subprocess.run(
        [sys.executable, "-I", CHECKER, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


async def test_the_checker_accepts_what_the_command_wrote_and_names_keys_that_are_not_its_own(tmp_path: Path) -> None:
    told, file = story(), tmp_path / "bundle.json"
    arguments = ["prediction", "explain", told.ids["prediction"], "--log", str(told.copy_to(tmp_path / "copy"))]
    keys = ["--log-key", LOG_KEY, "--witness-key", WITNESS_KEY]
    unheld = await asyncio.to_thread(CliRunner().invoke, app, [*arguments, *keys[:2], "--bundle", str(file)])
    assert (unheld.exit_code, file.exists()) == (1, False)
    assert "not all were held against a key" in " ".join(unheld.output.split())
    done = await asyncio.to_thread(CliRunner().invoke, app, [*arguments, *keys, "--bundle", str(file)])
    assert done.exit_code == 0
    (tmp_path / "log.vkey").write_text(f"{LOG_KEY}\n")
    code, said = run(file, tmp_path / "log.vkey", WITNESS_KEY)
    assert (code, said.count("holds  ")) == (0, 4)
    code, said = run(file, WITNESS_KEY, LOG_KEY)
    assert (code, "FAILS  checkpoint:" in said) == (1, True)


async def test_an_entry_that_stands_for_a_longer_frame_is_accepted(tmp_path: Path) -> None:
    def longer(fact: Fact) -> Fact:
        definition = copy.deepcopy(fact.definition)  # type: ignore[attr-defined]
        definition["charter"]["purpose"] = PURPOSE
        return fact.model_copy(update={"definition": definition, "definition_id": named})

    charter = project().charter.model_copy(update={"purpose": PURPOSE})
    named = content_id(project().model_copy(update={"charter": charter}).canonical())
    renamed = dict.fromkeys(("dataset", "run", "registration"), changed(definition=named))
    CHECK(await packed(tmp_path, story({"project": longer, **renamed})), LOG_KEY, WITNESS_KEY)


async def test_a_direct_answer_is_accepted_without_a_row(tmp_path: Path) -> None:
    changed = {"prediction": lambda fact: fact.model_copy(update={"row": None, "channel": "http"})}
    CHECK(await packed(tmp_path, story(changed)), LOG_KEY, WITNESS_KEY)


def leaf_of(changed: Bundle, name: str) -> int:
    return int(next(one["leaf"] for one in changed["explanation"]["links"] if one["name"] == name))


def entry_of(changed: Bundle, name: str) -> dict[str, Any]:
    """Return the entry that plays a part."""
    found: dict[str, Any] = next(one for one in changed["entries"] if one["leaf"] == leaf_of(changed, name))
    return found


def says(changed: Bundle, field: str) -> dict[str, Any]:
    found: dict[str, Any] = changed["explanation"]["fields"][field][0]["says"]
    return found


def derived(changed: Bundle, field: str) -> dict[str, Any]:
    found: dict[str, Any] = changed["explanation"]["fields"][field][0]["derived"]
    return found


def rewrite(changed: Bundle, name: str, old: bytes, new: bytes) -> None:
    """Change what an entry says, in a frame that is a frame still."""
    entry = entry_of(changed, name)
    frame = b64decode(entry["frame"])
    assert old in frame
    assert len(old) == len(new)
    entry["frame"] = b64encode(frame.replace(old, new)).decode()


def first_record(changed: Bundle) -> dict[str, Any]:
    """Return a record behind a value."""
    feature = next(one for one in derived(changed, "records")["features"] if one["name"] == "wind")
    found: dict[str, Any] = next(iter(feature["records"].values()))[0]
    return found


def resigned(changed: Bundle, log: Secret, witness: Secret | None) -> None:
    """Sign the checkpoint anew."""
    text = Note.parse(changed["checkpoint"].encode()).text
    signatures = [log.sign(text), *([] if witness is None else [witness.cosign(text, 1)])]
    changed["checkpoint"] = Note(text, tuple(signatures)).render().decode()


def of_another_tree(changed: Bundle) -> None:
    """Put a checkpoint of another tree, signed and cosigned, in the place of the log's."""
    text = Checkpoint(LOG.name, 131, bytes(32)).text()
    changed["checkpoint"] = Note(text, (LOG.sign(text), WITNESS.cosign(text, 1))).render().decode()


def grown(checkpoint: str) -> str:
    """Return a checkpoint over one entry more."""
    origin, size, rest = checkpoint.split("\n", 2)
    return f"{origin}\n{int(size) + 1}\n{rest}"


def swap(changed: Bundle) -> None:
    one, other = entry_of(changed, "approval"), entry_of(changed, "promotion")
    one["frame"], other["frame"] = other["frame"], one["frame"]


def withhold(changed: Bundle, field: str) -> None:
    """Take a field out of the story."""
    del changed["explanation"]["fields"][field]
    changed["explanation"]["gaps"][field] = "none of your business"


def relink(changed: Bundle, name: str, other: str) -> None:
    """Let another entry play a part."""
    links = {one["name"]: one for one in changed["explanation"]["links"]}
    links[name].update({**links[other], "name": name})


def names(changed: Bundle) -> list[str]:
    return [one["name"] for one in changed["explanation"]["links"]]


def unlink(changed: Bundle, name: str) -> None:
    changed["explanation"]["links"] = [one for one in changed["explanation"]["links"] if one["name"] != name]


def rename(changed: Bundle, name: str, other: str) -> None:
    """Call an entry otherwise."""
    next(one for one in changed["explanation"]["links"] if one["name"] == name)["name"] = other


def drop(changed: Bundle, field: str) -> None:
    """Let a field be lacking."""
    del changed["explanation"]["fields"][field]
    changed["explanation"]["gaps"][field] = "there is none"


def records_of(changed: Bundle, name: str) -> dict[str, Any]:
    """Return what is told of the records behind a value."""
    found: dict[str, Any] = next(one for one in derived(changed, "records")["features"] if one["name"] == name)
    return found


def asking(changed: Bundle) -> list[dict[str, Any]]:
    """Return the record that asked, as it is listed behind a value."""
    leaf = leaf_of(changed, "accepted_record")
    return next(some for some in records_of(changed, "wind")["records"].values() if some[0]["leaf"] == leaf)


def all_behind_each(changed: Bundle) -> None:
    """List every record behind every value."""
    told = derived(changed, "records")["features"]
    listed = {one["leaf"]: one for each in told for some in each["records"].values() for one in some}
    for each in told:
        each.update(records={"all": list(listed.values())}, count=len(listed))


def fewer(changed: Bundle) -> None:
    """Take the record away that is counted."""
    told = records_of(changed, "origin_deps_1h")
    told.update(records={"origin": asking(changed)}, count=1)


def swap_records(changed: Bundle, name: str, other: str) -> None:
    """Put the records of another value behind one."""
    told, others = records_of(changed, name), records_of(changed, other)["records"]
    kept = {words: some for words, some in told["records"].items() if some == [*asking(changed)] or len(words) < 8}
    kept |= {words: some for words, some in others.items() if some != asking(changed)}
    told.update(records=kept, count=sum(map(len, kept.values())))


#: What is done to an honest bundle, and what the checker says of it.
CHANGES: dict[str, tuple[Callable[[Bundle], object], str]] = {
    "a frame is changed": (
        lambda b: rewrite(b, "approval", b"as it should be", b"it should not b"),
        "is not in the log",
    ),
    "a header is changed": (lambda b: rewrite(b, "prediction", b"2013-05-01", b"2013-05-02"), "is not in the log"),
    "frames are swapped": (swap, "is not in the log"),
    "an entry is dropped": (lambda b: b["entries"].remove(entry_of(b, "approval")), "approval: the bundle lacks"),
    "an entry has another leaf": (lambda b: entry_of(b, "row").update(leaf=0), "not in the log|another length"),
    "an entry lies behind the end": (lambda b: entry_of(b, "row").update(leaf=10**6), "another length"),
    "a path is cut": (lambda b: entry_of(b, "row")["path"].pop(), ""),
    "a path is longer": (lambda b: entry_of(b, "row")["path"].append(entry_of(b, "row")["path"][0]), "another length"),
    "a path is another's": (lambda b: entry_of(b, "row").update(path=entry_of(b, "run")["path"]), "not in|length"),
    "the size is changed": (lambda b: b.update(checkpoint=grown(b["checkpoint"])), "InvalidSignature"),
    "the checkpoint is another's": (lambda b: resigned(b, STRANGER, WITNESS), "no key of example.com/log"),
    "the witness did not sign": (lambda b: resigned(b, LOG, None), "no key of example.com/witness"),
    "the witness signed another time": (lambda b: resigned(b, LOG, STRANGER), "no key of example.com/witness"),
    "the checkpoint is of another tree": (of_another_tree, "is not in the log"),
    "the score is said otherwise": (lambda b: says(b, "score").update(score=0.5), "has another score"),
    "the approver is said otherwise": (
        lambda b: says(b, "approval").update(approved_by="eve"),
        "has another approved_by",
    ),
    "a gate is said otherwise": (lambda b: says(b, "gates")["gates"][0].update(figure=0.99), "has another gates"),
    "an owner is said otherwise": (
        lambda b: says(b, "project")["definition/charter/owners"].update(technical="eve"),
        "has another definition/charter/owners",
    ),
    "drift is said otherwise": (lambda b: says(b, "drift")["figures"].update(auc=0.99), "has another figures"),
    "the story is of another answer": (lambda b: b["explanation"].update(prediction="0" * 32), "another id"),
    "the gates are withheld": (lambda b: withhold(b, "gates"), "gates: it is withheld"),
    "the builders are not quoted": (lambda b: says(b, "builders").clear(), "does not quote builders"),
    "a reason is missing": (lambda b: b["explanation"]["gaps"].clear(), "trace"),
    "the entity is withheld": (lambda b: withhold(b, "entity"), "entity: it is withheld"),
    "the features are withheld": (lambda b: withhold(b, "features"), "features"),
    "a field that there is not is told": (
        lambda b: b["explanation"]["fields"].update(verdict=[{"leaf": 0, "says": {}}]),
        "verdict: ",
    ),
    "a field is told and lacking": (lambda b: b["explanation"]["gaps"].update(gates="who knows"), "told or lacking"),
    "another entry plays a part beside the first": (
        lambda b: b["explanation"]["links"].append(
            {
                **next(one for one in b["explanation"]["links"] if one["name"] == "registration"),
                "name": "registration x",
            }
        ),
        "registration x: ",
    ),
    "two entries play one part": (
        lambda b: b["explanation"]["links"].insert(0, dict(b["explanation"]["links"][-1])),
        "two entries play one part",
    ),
    "a version is true": (lambda b: says(b, "version").update(version=True), "has another version"),
    "a link has another event id": (lambda b: b["explanation"]["links"][0].update(event_id="x"), "stands elsewhere"),
    "a link has another time": (lambda b: b["explanation"]["links"][0].update(recorded="x"), "stands elsewhere"),
    "the checkpoint is told otherwise": (lambda b: derived(b, "checkpoint").update(size=1), "told otherwise"),
    "the root is told otherwise": (lambda b: derived(b, "checkpoint").update(root="00"), "told otherwise"),
    "the rule of the label is told otherwise": (
        lambda b: derived(b, "outcome").update(above=1e9),
        "outcome: it is not",
    ),
    "a receipt is of another decision": (
        lambda b: relink(b, next(n for n in names(b) if n.startswith("receipt ")), "run"),
        "of another type",
    ),
    "a field speaks of another entry": (
        lambda b: b["explanation"]["fields"]["approval"][0].update(leaf=leaf_of(b, "promotion")),
        "other leaves play a part",
    ),
    "the approval is left out": (lambda b: unlink(b, "approval"), "approval"),
    "the source is left out": (lambda b: unlink(b, "source_record"), "source_record"),
    "the approval is another event": (lambda b: relink(b, "approval", "promotion"), "of another type"),
    "an event stands elsewhere": (lambda b: b["explanation"]["links"][3].update(offset=77), "stands elsewhere"),
    "a feature has another value": (
        lambda b: derived(b, "features")["features"][0].update(value=1.5),
        "not the inputs that were scored",
    ),
    "a feature has another name": (
        lambda b: derived(b, "features")["features"][0].update(name="other"),
        "not the inputs that were scored",
    ),
    "a value is computed otherwise": (
        lambda b: derived(b, "records")["features"][0].update(recomputed=1.5),
        "they give other values",
    ),
    "a record is another": (lambda b: first_record(b).update(source="src.weather_observed/0/7"), "not the one"),
    "a record happened at another time": (lambda b: first_record(b).update(event_time=render(MAY - 1)), "not the one"),
    "a record is no record": (lambda b: first_record(b).update(leaf=leaf_of(b, "run")), "not the one"),
    "a record is not in the bundle": (lambda b: first_record(b).update(leaf=9_999), "lacks the entry of leaf 9999"),
    "the outcome is turned round": (lambda b: derived(b, "outcome").update(truth=False), "not what the label says"),
    "the bundle says more": (lambda b: b.update(verdict="it was right"), "the bundle: its names are not"),
    "the story says more": (lambda b: b["explanation"].update(summary="well"), "the explanation: its names are not"),
    "an entry says more": (lambda b: entry_of(b, "row").update(seen="yes"), "entries: its names are not"),
    "a link says more": (lambda b: b["explanation"]["links"][0].update(by="the board"), "links: its names are not"),
    "a statement says more": (
        lambda b: b["explanation"]["fields"]["score"][0].update(corrected=0.01),
        "score: its names are not leaf says",
    ),
    "the approver is derived": (
        lambda b: b["explanation"]["fields"]["approval"][0].update(derived={"approved_by": "the board"}),
        "approval: its names are not leaf says",
    ),
    "the score is derived": (
        lambda b: b["explanation"]["fields"]["score"][0].update(derived={"score": 0.01}),
        "score: its names are not leaf says",
    ),
    "more is derived": (lambda b: derived(b, "outcome").update(verdict="right"), "outcome, derived: its names are not"),
    "less is derived": (lambda b: derived(b, "project").clear(), "project, derived: its names are not"),
    "the tier is told otherwise": (lambda b: derived(b, "project").update(risk_tier="low"), "the tier of its risk"),
    "the label of the set is told otherwise": (
        lambda b: derived(b, "feature_set").update(label="other"),
        "feature_set: it is another's",
    ),
    "the rollout is told otherwise": (
        lambda b: derived(b, "rollout").update(share=0.5),
        "rollout: it is told otherwise",
    ),
    "the source's record is of another size": (
        lambda b: derived(b, "source_record").update(bytes=1),
        "source_record: its place, key or size is another",
    ),
    "the bundle is of another format": (lambda b: b.update(format="mainstem.evidence.v2"), "it has the formats"),
    "the story is of another format": (lambda b: b["explanation"].update(format="a promise"), "it has the formats"),
    "what it contradicts is a word": (lambda b: b["explanation"].update(faults=""), "it contradicts"),
    "a step is called otherwise": (
        lambda b: rename(b, "step fit", "step audited by the regulator fit"),
        "step audited by the regulator fit: it is told by this name, and is step fit",
    ),
    "a receipt is called otherwise": (
        lambda b: rename(b, next(n for n in names(b) if n.startswith("receipt ")), "receipt of leaf 999999"),
        "receipt of leaf 999999: it is told by this name",
    ),
    "a name is quoted that the entry has not": (
        lambda b: says(b, "approval").update(ce_revoked=None),
        "approval: it may not quote ce_revoked",
    ),
    "a reason is no text": (lambda b: b["explanation"]["gaps"].update(trace=True), "trace: it is withheld"),
    "a statement has a broken leaf": (
        lambda b: b["explanation"]["fields"]["approval"][0].update(leaf=float(leaf_of(b, "approval"))),
        "approval: its leaf is no whole number",
    ),
    "a link has a broken leaf": (
        lambda b: b["explanation"]["links"][0].update(leaf=float(b["explanation"]["links"][0]["leaf"])),
        "links: its leaf is no whole number",
    ),
    "an entry has a broken leaf": (
        lambda b: entry_of(b, "row").update(leaf=float(leaf_of(b, "row"))),
        "entries: its leaf is no whole number",
    ),
    "an entry is there twice": (lambda b: b["entries"].append(dict(entry_of(b, "row"))), "its entry is there twice"),
    "an entry is there for nothing": (lambda b: unlink(b, "window") or drop(b, "drift"), "nothing names these entries"),
    "a record says more": (lambda b: first_record(b).update(seen="yes"), "records: wind: its names are not"),
    "a value says more": (
        lambda b: derived(b, "records")["features"][0].update(sure=True),
        "records: its names are not",
    ),
    "a feature says more": (
        lambda b: derived(b, "features")["features"][0].update(corrected=1.0),
        "features: its names are not",
    ),
    "all records are listed behind every value": (all_behind_each, "records: dep_delay: "),
    "no record is listed behind a value": (
        lambda b: records_of(b, "wind").update(records={}, count=0),
        "records: wind: the record that asked is told 0 times",
    ),
    "the question alone is listed behind a value": (
        lambda b: records_of(b, "wind").update(records={"origin": asking(b)}, count=1),
        "records: wind: 6.0 does not come of 0 records",
    ),
    "a count counts less": (fewer, "records: origin_deps_1h: 1.0 does not come of 0 records"),
    "records are counted otherwise": (
        lambda b: records_of(b, "wind").update(count=7),
        "records: wind: its count is not",
    ),
    "a record is of another stream": (
        lambda b: swap_records(b, "tail_last", "wind"),
        "records: tail_last: it does not rest on evt.data.weather_observed",
    ),
    "a contradiction is told": (lambda b: b["explanation"]["faults"].append("the row is forged"), "the row is forged"),
}


def test_the_honest_bundle_is_accepted(honest: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    CHECK(honest, LOG_KEY, WITNESS_KEY)
    assert "the outcome was True" in capsys.readouterr().out


@pytest.mark.parametrize("kind", sorted(CHANGES))
def test_a_changed_bundle_is_refused_for_what_was_changed(honest: Bundle, kind: str) -> None:
    changed = copy.deepcopy(honest)
    change, said = CHANGES[kind]
    change(changed)
    assert json.dumps(changed) != json.dumps(honest)
    found = refused(changed)
    assert any(one in found for one in said.split("|")), found


def test_another_key_of_the_same_name_is_refused(honest: Bundle) -> None:
    assert "no key of example.com/log" in refused(honest, STRANGER.log_key.vkey(), WITNESS_KEY)


def quiet(_told: Story, found: Explained) -> None:
    """Keep silent about what contradicts."""
    found.faults.clear()


def changed(**fields: object) -> Callable[[Fact], Fact]:
    return lambda fact: fact.model_copy(update=fields)


def failed(fact: Fact) -> Fact:
    first, *others = fact.gates  # type: ignore[attr-defined]
    return fact.model_copy(update={"gates": [first.model_copy(update={"passed": False}), *others]})


def diverted(fact: Fact) -> Fact:
    assert isinstance(fact, RecordAccepted)
    return fact.model_copy(update={"record": {**fact.record, "dep_delay": 1}})


#: What the log itself holds that must not be, and what the checker says although the story keeps silent about it. The
#: explainer tells each of them, too.
FORGED: dict[str, tuple[str, Callable[[Fact], Fact], str]] = {
    "a builder approved": (
        "approval",
        changed(approved_by="rob"),
        "who built the version|its approved_by",
    ),
    "other bytes were approved": ("approval", changed(onnx="sha256:other"), "approval: its onnx is not"),
    "other bytes were deployed": ("deployment", changed(onnx="sha256:other"), "deployment: its onnx is not"),
    "another approver is named": ("deployment", changed(approved_by="eve"), "approved_by"),
    "a gate failed": ("registration", failed, "gates: not all passed"),
    "another dataset was learnt from": ("run", changed(dataset="sha256:x"), "its dataset is not"),
    "the run made other bytes": ("run", changed(onnx="sha256:x"), "run: its onnx is not"),
    "the row is another": ("row", changed(values=[1.0] * 15), "its features is not the row.values"),
    "the accepted record is another": ("flight_departed 2013-05-01-UA-60-EWR", diverted, "its record is not"),
    "another definition counts": ("row", changed(definition="sha256:x"), "its definition is not"),
}


@pytest.mark.parametrize("kind", sorted(FORGED))
async def test_what_must_not_be_is_refused_though_the_log_has_it(tmp_path: Path, kind: str) -> None:
    name, change, said = FORGED[kind]
    told = story({name: change})
    assert (await explain(Copy(told.copy_to(tmp_path / "told")), told.ids["prediction"])).faults
    found = refused(await packed(tmp_path, told, quiet))
    assert any(one in found for one in said.split("|")), found


#: An entry of another answer, its part, how it is another's, and what the checker says.
STRANGE: dict[str, tuple[str, Callable[[Fact], Fact], str]] = {
    "step fit": ("step fit", changed(run="run-9"), "its run is not the registration.run"),
    "receipt": (
        f"receipt {'0' * 32}",
        changed(event_id="0" * 32),
        "its event_id is not the approval.ce_id or promotion.ce_id",
    ),
    "alert": ("alert alert", changed(model="another"), "its model is not the prediction.model"),
    "window": ("window", changed(version=1), "its version is not the prediction.version"),
    "later window": ("window", lambda same: same, "its ce_recordedtime is after the prediction.ce_recordedtime"),
    "later alert": ("alert later alert", lambda same: same, "its ce_recordedtime is after the prediction"),
}


def tell(bundle: Bundle, part: str) -> None:
    """State what the entry says that plays a part."""
    entry, leaf = _CHECKER["Entry"](b64decode(entry_of(bundle, part)["frame"])), leaf_of(bundle, part)
    for field, names in RULES["parts"][part.partition(" ")[0]]["tells"].items():
        statement = {"leaf": leaf, "says": {name: entry[name] for name in names}}
        statement |= {"derived": {"windows_before": 0}} if field == "drift" else {}
        bundle["explanation"]["gaps"].pop(field, None)
        bundle["explanation"]["fields"].setdefault(field, []).append(statement)


@pytest.mark.parametrize("name", sorted(STRANGE))
async def test_what_belongs_to_another_answer_is_refused(tmp_path: Path, name: str) -> None:
    """The explainer would not name it: a forger of the story does."""
    part, change, said = STRANGE[name]

    def named(told: Story, found: Explained) -> None:
        if any(link.name == part for link in found.links):
            found.links[:] = [link for link in found.links if link.name != part]
            found.statements.pop("drift")
        found.link(part, placed(told)[told.leaf(name)])

    bundle = await packed(tmp_path, story({name: change}), named)
    tell(bundle, part)
    assert f"{part}: {said}" in refused(bundle)


async def test_a_window_that_is_told_of_is_not_withheld(honest: Bundle) -> None:
    changed_bundle = copy.deepcopy(honest)
    withhold(changed_bundle, "drift")
    assert "drift: it is withheld" in refused(changed_bundle)


def placed(told: Story) -> list[Any]:
    return [Placed(leaf, entry) for leaf, entry in enumerate(told.entries)]
