"""The checker and the explainer hold the same rules, each in its own code: what breaks one of them, both find."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from services.cli.tests.test_cli_bundle import (
    CHECK,
    CHECKER,
    RULES,
    Bundle,
    changed,
    derived,
    leaf_of,
    packed,
    placed,
    quiet,
    refused,
    tell,
)
from services.cli.tests.test_cli_bundle_forged import again, with_another
from services.cli.tests.told_story import (
    DAY,
    EVIDENCE,
    GATES,
    HOUR,
    LOG_KEY,
    MAY,
    WITNESS_KEY,
    Changes,
    Story,
    project,
    story,
)  # fmt: skip
from tests.contract.golden import read

from mainstem.cli.evidence import coherence
from mainstem.cli.evidence.bundle import bundle
from mainstem.cli.evidence.copied import Copy
from mainstem.cli.evidence.explaining import explain
from mainstem.cli.evidence.rollout import ROUTES
from mainstem.cli.evidence.story import FIELDS
from mainstem.cli.evidence.story import Story as Explained
from mainstem.events.fact import Fact
from mainstem.events.ids import content_id
from mainstem.events.instants import render

GOLDEN = CHECKER.parents[1] / "tests" / "contract" / "golden"


def test_the_rules_of_the_checker_are_those_of_the_explainer() -> None:
    assert RULES["same"] == coherence.SAME
    assert RULES["same_if_said"] == coherence.SAME_IF_SAID
    assert RULES["not_after"] == coherence.NOT_AFTER
    assert RULES["before"] == coherence.BEFORE
    assert RULES["rollout"] == ROUTES
    assert {name: tuple(rule.values()) for name, rule in RULES["gates"].items()} == coherence.GATES


def test_the_fields_of_the_checker_are_those_of_the_explainer() -> None:
    assert {field for part in RULES["parts"].values() for field in part["tells"]} == set(FIELDS) - {"checkpoint"}


def test_each_rule_is_about_parts_that_there_are() -> None:
    others = [one for some in RULES["same"].values() for one in ([some] if isinstance(some, str) else some)]
    named = [*RULES["same"], *others, *RULES["not_after"], *RULES["before"], *RULES["before"].values()]
    assert {name.partition(".")[0] for name in named} <= set(RULES["parts"])


def gate(name: str, **fields: object) -> Callable[[Fact], Fact]:
    """Return a registration of which one gate is another."""
    return changed(gates=[one.model_copy(update=fields if one.name == name else {}) for one in GATES])


def evidence(part: str, **figures: float) -> Callable[[Fact], Fact]:
    return changed(evidence={**EVIDENCE, part: {**EVIDENCE[part], **figures}})  # type: ignore[dict-item]


def weak(fact: Fact) -> Fact:
    """Return a registration that passed with less than the project asks for."""
    gates = [one.model_copy(update={"figure": 0.6} if one.name == "min_auc" else {}) for one in GATES]
    return evidence("evaluation", auc=0.6)(fact).model_copy(update={"gates": gates})


def looser(fact: Fact) -> Fact:
    """Return a definition whose label lies higher, under the name of the one that was applied."""
    return fact.model_copy(update={"definition": _above(60.0)})


def _above(above: float) -> dict[str, Any]:
    definition: dict[str, Any] = json.loads(project().canonical())
    definition["models"]["arrival_delay"]["label"]["above"] = above
    return definition


ELSEWHERE = "evt.feature.flight_delay/0/7"
#: What entries say that others contradict, and what the checker says of it.
APART: dict[str, tuple[Changes, str]] = {
    "a definition is not what it is called": ({"project": looser}, "project: its definition_id is not its content's"),
    "the answer is to another place": (
        {"prediction": changed(position=ELSEWHERE)},
        "its position is not the row.place",
    ),
    "the answer is to another topic": (
        {"prediction": changed(position="evt.feature.other/0/0")},
        "its position is not the row.place",
    ),
    "the answer is of another entity": ({"prediction": changed(entity="another")}, "its entity is not the row.entity"),
    "the row stands among those of another set": (
        {"row": changed(feature_set="other")},
        "prediction: its position is not the row.place",
    ),
    "it was deployed for later": (
        {"deployment": changed(effective_from=render(MAY + 400 * DAY))},
        "deployment: its effective_from is after the activation.effective_from",
    ),
    "it replaced what was not there": (
        {"promotion": changed(replaces=77)},
        "promotion: its replaces is not the replaced.version",
    ),
    "it is told to be the first": ({"promotion": changed(replaces=None)}, "promotion: it replaces none"),
    "the run has other evidence": ({"run": evidence("evaluation", auc=0.99)}, "run: its evidence is not"),
    "one gate of a name that nobody set": (
        {"registration": changed(gates=[GATES[0].model_copy(update={"name": "anything", "figure": 0.1})])},
        "gates: others judged it",
    ),
    "a gate is left out": ({"registration": changed(gates=GATES[:3])}, "gates: others judged it"),
    "a gate judged twice": ({"registration": changed(gates=[*GATES, GATES[0]])}, "gates: others judged it"),
    "a gate has another limit": ({"registration": gate("min_auc", limit=0.1)}, "gates: min_auc was held against 0.1"),
    "a gate has another figure": ({"registration": gate("calibration", figure=0.01)}, "gates: calibration judged 0.01"),
    "a gate judged nothing": (
        {"registration": gate("not_worse_than_incumbent", figure=None)},
        "gates: not_worse_than_incumbent judged None",
    ),
    "a gate passed with too little": (
        {"registration": weak, "run": evidence("evaluation", auc=0.6)},
        "gates: min_auc did not pass",
    ),
    "the comparison is not sure": (
        dict.fromkeys(("registration", "run"), evidence("incumbent", confidence=0.5)),
        "gates: the comparison is less sure",
    ),
    "the version was refused": (
        {"registration": changed(stage="rejected")},
        "registration: its stage is 'rejected', and not 'candidate'",
    ),
}


@pytest.mark.parametrize("kind", sorted(APART))
async def test_what_does_not_hold_together_is_told_and_refused(tmp_path: Path, kind: str) -> None:
    changes, said = APART[kind]
    told = story(changes)
    found = await explain(Copy(told.copy_to(tmp_path / "copy")), told.ids["prediction"])
    assert found.faults
    assert said in refused(await packed(tmp_path / "bundle", told, quiet))


SAID_IN_ENTRIES = [
    path
    for path in coherence.SAME
    if not path.startswith(("replaced.", "receipt.", "prediction.", "accepted_record.")) and "ce_" not in path
]


SAID_OF_AN_ARM = ["deployment.profile", "deployment.approved_by"]


@pytest.mark.parametrize("path", [*SAID_IN_ENTRIES, *SAID_OF_AN_ARM])
async def test_whatever_entry_says_otherwise_is_told_of_or_left_out_and_refused(tmp_path: Path, path: str) -> None:
    part, _, name = path.partition(".")
    part = "step fit" if part == "step" else part
    value = getattr(story().facts[part], name)
    other = (
        value + 7 if isinstance(value, int) else [1.0] * 15 if name == "values" else {} if name == "evidence" else "x"
    )
    told = story({part: changed(**{name: other})})
    found = await explain(Copy(told.copy_to(tmp_path / "copy")), told.ids["prediction"])
    left_out = part not in {link.name for link in found.links}
    assert found.faults or list(found.gaps) != ["trace"] or left_out

    def named(told: Story, found: Explained) -> None:
        quiet(told, found)
        if left_out:
            found.link(part, placed(told)[told.leaf(part)])

    forged = await packed(tmp_path / "bundle", told, named)
    if left_out:
        tell(forged, part)
    assert refused(forged)


async def test_the_label_of_a_definition_that_was_replaced_before_turns_no_outcome(tmp_path: Path) -> None:
    told, other = story(), _above(60.0)
    canonical = json.dumps(other, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    leaf = again(told, "project", MAY - 2 * HOUR, definition=other, definition_id=content_id(canonical))
    found = await explain(Copy(told.copy_to(tmp_path / "copy")), told.ids["prediction"])
    assert (found.faults, found.statements["outcome"][0].derived["truth"]) == ([], True)
    forged = await with_another(tmp_path / "bundle", told, "project", leaf)
    derived(forged, "outcome").update(above=60.0, truth=False)
    forged["explanation"]["fields"]["project"][0]["says"]["definition_id"] = content_id(canonical)
    assert "project: its definition_id is not the registration.definition" in refused(forged)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"from_offsets": {"0": 500}}, "activation: it begins at offset 500 of partition 0, not 0"),
        ({"effective_from": render(MAY + 40 * DAY)}, "activation: its effective_from is after the prediction"),
    ],
)
async def test_what_had_not_begun_to_answer_did_not(tmp_path: Path, fields: dict[str, object], said: str) -> None:
    told = story({"activation": changed(**fields)})

    def named(told: Story, found: Explained) -> None:
        assert "no activation in effect by then" in found.gaps["activation"]
        for part in ("activation", "deployment"):
            found.link(part, placed(told)[told.leaf(part)])
        assert any(fault.startswith("activation: it") for fault in coherence.contradictions(found))

    forged = await packed(tmp_path, told, named)
    for part in ("activation", "deployment"):
        tell(forged, part)
    forged["explanation"]["fields"]["rollout"][0]["derived"] = {
        "arms": 1,
        "share": 1.0,
        "route": RULES["rollout"]["alone"],
    }
    assert said in refused(forged)


async def test_direct_answers_of_an_earlier_release_contradict_nothing_and_are_accepted(tmp_path: Path) -> None:
    told = Story(entries=list(read(GOLDEN / "0.1.0" / "history.ndjson")))
    archive = Copy(told.copy_to(tmp_path / "copy"), LOG_KEY, [WITNESS_KEY])
    answers = [dict(entry.headers) for entry in told.entries if entry.topic.startswith("tel.prediction.")]
    ids = [(each["ce_id"] or b"").decode() for each in answers if b"predicted" in (each["ce_type"] or b"")]
    for answer in ids:
        found = await explain(archive, answer)
        assert found.faults == []
        CHECK(json.loads(json.dumps(await bundle(archive, found))), LOG_KEY, WITNESS_KEY)
    assert len(ids) == 3


async def test_a_part_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    def named(told: Story, found: Explained) -> None:
        found.link("audit", placed(told)[told.leaf("approval")])

    forged: Bundle = await packed(tmp_path, story(), named)
    assert leaf_of(forged, "audit") == leaf_of(forged, "approval")
    assert "audit: there is no such part" in refused(forged)


def test_the_rules_can_be_read_beside_the_program() -> None:
    lines = CHECKER.with_suffix(".toml").read_text().splitlines()
    assert len(lines) <= 300
    assert [line for line in lines if len(line) > 120] == []
