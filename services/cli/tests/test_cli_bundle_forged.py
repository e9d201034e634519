"""What an insider, or a source, could put into a log and a bundle to be believed; and what the checker says of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from services.cli.tests.test_cli_bundle import (
    CHECK,
    Bundle,
    changed,
    derived,
    leaf_of,
    packed,
    placed,
    quiet,
    refused,
    run,
)
from services.cli.tests.told_story import LOG_KEY, MAY, WITNESS_KEY, Story, story

from mainstem.cli.evidence.copied import Copy as CopiedLog
from mainstem.cli.evidence.explaining import explain
from mainstem.cli.evidence.story import Story as Explained
from mainstem.testkit.clock import DAY, HOUR

ARRIVED = "flight_arrived 2013-05-01-UA-60-EWR"


def planted(told: Story, name: str, topic: str, **headers: bytes) -> int:
    """Append the entry of an event to another topic as well; return its leaf."""
    entry = told.entries[told.leaf(name)]
    kept = tuple(pair for pair in entry.headers if pair[0] not in headers)
    told.append(topic, entry.key, entry.value, (*kept, *headers.items()))
    return len(told.entries) - 1


def again(told: Story, name: str, at_us: int, **fields: object) -> int:
    """Tell an event once more, later or otherwise; return its leaf."""
    told.tell(f"{name} again", told.facts[name].model_copy(update=fields), at_us, time_us=MAY - HOUR)
    return told.leaf(f"{name} again")


async def with_another(folder: Path, told: Story, part: str, leaf: int) -> Bundle:
    """Return the bundle in which another entry plays a part, and says what is told of it."""
    old = told.leaf(part)

    def named(told: Story, found: Explained) -> None:
        quiet(told, found)
        found.links[:] = [link for link in found.links if link.name != part]
        found.link(part, placed(told)[leaf])

    bundle = await packed(folder, told, named)
    for statements in bundle["explanation"]["fields"].values():
        for one in statements:
            one["leaf"] = leaf if one["leaf"] == old else one["leaf"]
    return bundle


DECIDED = ["approval", "promotion", "registration", "deployment", "activation", "project"]


@pytest.mark.parametrize("part", [*DECIDED, "row"])
async def test_what_a_source_wrote_plays_no_part_but_its_own(tmp_path: Path, part: str) -> None:
    told = story()
    leaf = planted(told, part, "src.weather_observed")
    assert f"{part}: it is of another type" in refused(await with_another(tmp_path, told, part, leaf))


async def test_an_answer_that_a_source_wrote_is_none(tmp_path: Path) -> None:
    told = story()
    leaf = planted(told, "prediction", "src.weather_observed")
    bundle = await with_another(tmp_path, told, "prediction", leaf)
    assert "prediction: it is of another type" in refused(bundle)


async def test_an_id_that_a_source_planted_before_does_not_mislead_the_explainer(tmp_path: Path) -> None:
    honest = story()
    told = story()
    name = next(name for name in told.ids if name.startswith("flight_departed 2013-05-01-UA-60"))
    entry = told.entries[told.leaf(name)]
    forged = json.dumps({"source": "weather_observed", "contract": "c", "record": {"flight": "another"}}).encode()
    told.entries.insert(0, entry._replace(topic="src.harbour", value=forged))
    found = await explain(CopiedLog(told.copy_to(tmp_path / "copy")), told.ids["prediction"])
    assert found.statements["accepted_record"][0].says["record"] == honest.facts[name].record  # type: ignore[attr-defined]
    assert found.faults == []


@pytest.mark.parametrize("part", [*DECIDED, "run"])
async def test_what_was_decided_after_the_answer_did_not_allow_it(tmp_path: Path, part: str) -> None:
    told = story()
    leaf = again(told, part, MAY + 40 * DAY)
    found = refused(await with_another(tmp_path, told, part, leaf))
    assert "its ce_recordedtime is after the" in found or "came before the approval" in found


#: Entries that say of the chain what others do not say.
APART: dict[str, tuple[str, dict[str, object]]] = {
    "deployment: its feature_definition": ("deployment", {"feature_definition": "sha256:other"}),
    "deployment: its profile": ("deployment", {"profile": "sha256:other"}),
    "deployment: its project": ("deployment", {"project": "other"}),
    "run: its feature_set": ("run", {"feature_set": "sha256:other"}),
    "run: its profile": ("run", {"profile": "sha256:other"}),
    "run: its definition": ("run", {"definition": "sha256:other"}),
    "dataset: its feature_set": ("dataset", {"feature_set": "sha256:other"}),
    "project: its project": ("project", {"project": "other"}),
}


@pytest.mark.parametrize("said", sorted(APART))
async def test_a_chain_that_does_not_hold_together_is_refused_and_told(tmp_path: Path, said: str) -> None:
    part, fields = APART[said]
    told = story({part: changed(**fields)})
    found = await explain(CopiedLog(told.copy_to(tmp_path / "copy")), told.ids["prediction"])
    assert any(fault.startswith(said) for fault in found.faults)
    assert said in refused(await packed(tmp_path / "bundle", told, quiet))


async def test_a_version_that_no_gate_judged_is_refused_and_told(tmp_path: Path) -> None:
    told = story({"registration": changed(gates=[])})
    found = await explain(CopiedLog(told.copy_to(tmp_path / "copy")), told.ids["prediction"])
    assert "registration: no gate judged the version" in found.faults
    assert "gates: others judged it" in refused(await packed(tmp_path / "bundle", told, quiet))


async def test_a_direct_answer_is_given_no_record_and_no_outcome(tmp_path: Path) -> None:
    told = story({"prediction": changed(row=None, channel="http")})
    name = next(name for name in told.ids if name.startswith("flight_departed 2013-05-01-UA-60"))

    def asked(told: Story, found: Explained) -> None:
        found.link("accepted_record", placed(told)[told.leaf(name)])

    assert "accepted_record" in refused(await packed(tmp_path, told, asked))


async def test_what_is_no_alert_plays_none(tmp_path: Path) -> None:
    told = story()

    def alarmed(told: Story, found: Explained) -> None:
        found.link("alert storm", placed(told)[told.leaf(ARRIVED)])

    assert "alert storm: it is of another type" in refused(await packed(tmp_path, told, alarmed))


async def test_a_record_that_was_refused_is_behind_no_value(tmp_path: Path) -> None:
    told = story()
    bundle = await packed(tmp_path / "honest", told)
    records = next(one for one in derived(bundle, "records")["features"] if one["records"])["records"]
    record = next(iter(records.values()))[0]
    name = next(name for name in told.facts if told.leaf(name) == record["leaf"])
    leaf = planted(told, name, "evt.data.quarantine", ce_type=b"mainstem.data.record_quarantined.v1")

    def listed(told: Story, found: Explained) -> None:
        found.leaves.add(leaf)

    forged = await packed(tmp_path / "forged", told, listed)
    records = next(one for one in derived(forged, "records")["features"] if one["records"])["records"]
    next(iter(records.values()))[0]["leaf"] = leaf
    assert "is not the one that is named" in refused(forged)


async def test_a_record_that_came_after_the_question_is_behind_no_value(tmp_path: Path) -> None:
    told = story()
    bundle = await packed(tmp_path, told)
    arrived = next(one for one in bundle["explanation"]["links"] if one["name"] == "label")
    entry = placed(told)[arrived["leaf"]].entry
    headers = {name: (value or b"").decode() for name, value in entry.headers}
    late = {"leaf": arrived["leaf"], "source": headers["ce_origin"], "event_time": headers["ce_time"], "value": 1.0}
    first = derived(bundle, "records")["features"][0]
    first["records"]["late"], first["count"] = [late], first["count"] + 1
    assert "came too late" in refused(bundle)


#: How a story can be told twice, or beside the point.
TWICE: dict[str, Callable[[dict[str, Any]], object]] = {
    "features twice": lambda f: f["features"].append(json.loads(json.dumps(f["features"][0]))),
    "the outcome twice": lambda f: f["outcome"].append(json.loads(json.dumps(f["outcome"][0]))),
    "the checkpoint twice": lambda f: f["checkpoint"].append(f["checkpoint"][0]),
    "the checkpoint signed by others": lambda f: f["checkpoint"][0]["derived"].update(signed_by=["example.com/log"]),
    "the checkpoint says more": lambda f: f["checkpoint"][0]["says"].update(size=1),
    "a feature twice": lambda f: f["features"][0]["derived"]["features"].insert(0, {"name": "wind", "value": 99.0}),
    "zero with a sign": lambda f: _first_zero(f).update(value=-0.0),
    "zero as false": lambda f: _first_zero(f).update(value=False),
    "values that differ": lambda f: f["records"][0]["derived"].update(differing=["wind"]),
    "a value that is not equal": lambda f: f["records"][0]["derived"]["features"][0].update(equal=False),
    "a leaf between two": lambda f: f["approval"][0].update(leaf=f["approval"][0]["leaf"] + 0.5),
}


def _first_zero(fields: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(
        one for one in fields["features"][0]["derived"]["features"] if one["value"] == 0 and one["value"] is not False
    )
    return found


@pytest.mark.parametrize("kind", sorted(TWICE))
async def test_what_is_told_twice_or_beside_the_point_is_refused(tmp_path: Path, kind: str) -> None:
    bundle = await packed(tmp_path, story())
    TWICE[kind](bundle["explanation"]["fields"])
    assert refused(bundle)


async def test_a_name_that_stands_twice_in_the_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "bundle.json"
    text = json.dumps(await packed(tmp_path, story()), separators=(",", ":"))
    file.write_text(text)
    assert run(file, LOG_KEY, WITNESS_KEY)[0] == 0
    file.write_text(text.replace('"approved_by":"ann"', '"approved_by":"eve","approved_by":"ann"', 1))
    code, said = run(file, LOG_KEY, WITNESS_KEY)
    assert (code, "it was not written by" in said) == (1, True)
    file.write_text(text)
    assert run(file, tmp_path / "no.vkey", WITNESS_KEY)[1].startswith("FAILS  FileNotFoundError")
    file.write_text("[" * 100_000)
    assert run(file, LOG_KEY, WITNESS_KEY)[1].startswith("FAILS  RecursionError")


async def test_what_a_source_calls_its_headers_moves_nothing(tmp_path: Path) -> None:
    told = story()
    name = next(name for name in told.ids if name.startswith("flight_departed 2013-05-01-UA-60"))
    place = dict(told.entries[told.leaf(name)].headers)["ce_origin"].decode()  # type: ignore[union-attr]
    (leaf,) = [at for at, one in enumerate(told.entries) if f"{one.topic}/{one.partition}/{one.offset}" == place]
    more = (("place", b"src.other/0/7"), ("", b"nothing"), ("record", b"another"))
    told.entries[leaf] = told.entries[leaf]._replace(headers=(*told.entries[leaf].headers, *more))
    bundle = await packed(tmp_path, told)
    assert leaf_of(bundle, "source_record") == leaf
    CHECK(bundle, LOG_KEY, WITNESS_KEY)
