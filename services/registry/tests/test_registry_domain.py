from dataclasses import replace

import pytest

from mainstem.auth import Principal, Role
from mainstem.project.model import Gates
from mainstem.registry.domain import (
    Comparison,
    Evidence,
    Lineage,
    Promotion,
    Refusal,
    Stage,
    Version,
    approve,
    judge,
    may_approve,
    promote,
    roll_back,
    stage_after,
)

GATES = Gates(min_auc=0.7, max_auc_loss=0.01, confidence=0.95, max_calibration_error=0.05)
LINEAGE = Lineage(data=frozenset({"loader"}), definition=frozenset({"dana"}), run=frozenset({"dana", "rob"}))
INTERVAL = {"difference": 0.01, "low": -0.005, "high": 0.025, "confidence": 0.95}
DOCUMENT = {
    "evaluation": {"n": 5000, "auc": 0.75, "ece": 0.02},
    "parity": {"rows": 9000, "flips": 0},
    "incumbent": {
        "onnx": "sha256:old",
        "rows": 5000,
        "difference": 0.01,
        "low": -0.005,
        "high": 0.025,
        "confidence": 0.95,
    },
}
EVIDENCE = Evidence.parse(DOCUMENT)
GOOD = tuple(judge(EVIDENCE, None, GATES))
OLD = Version("late", 1, "sha256:old", Stage.PRODUCTION, LINEAGE, GOOD, None, ("ann",))
NEW = Version("late", 2, "sha256:new", Stage.CANDIDATE, LINEAGE, GOOD, "sha256:old")


def person(name, *roles):
    return Principal(name, frozenset(Role(role) for role in roles))


ANN, BEA = person("ann", "approver"), person("bea", "approver")
OPERATOR = person("olga", "operator")


def verdict(name, evidence=EVIDENCE, incumbent=OLD):
    return next(gate for gate in judge(evidence, incumbent, GATES) if gate.name == name)


def compared(**changes):
    return replace(EVIDENCE, comparison=replace(EVIDENCE.comparison, **changes))


def test_good_evidence_makes_a_candidate():
    gates = judge(EVIDENCE, OLD, GATES)
    assert [gate.name for gate in gates] == ["min_auc", "not_worse_than_incumbent", "calibration", "parity"]
    assert stage_after(gates) is Stage.CANDIDATE


@pytest.mark.parametrize(
    ("gate", "changes"),
    [("min_auc", {"auc": 0.69}), ("calibration", {"calibration_error": 0.051}), ("parity", {"parity_flips": 1})],
)
def test_one_figure_beyond_its_limit_refuses_the_version(gate, changes):
    gates = judge(replace(EVIDENCE, **changes), OLD, GATES)
    assert [result.name for result in gates if not result.passed] == [gate]
    assert stage_after(gates) is Stage.REFUSED


@pytest.mark.parametrize(
    ("gate", "changes"),
    [("min_auc", {"auc": 0.7}), ("calibration", {"calibration_error": 0.05}), ("parity", {"parity_rows": 1})],
)
def test_a_figure_at_its_limit_passes(gate, changes):
    assert verdict(gate, replace(EVIDENCE, **changes)).passed


def test_parity_over_no_rows_proves_nothing():
    assert not verdict("parity", replace(EVIDENCE, parity_rows=0)).passed


@pytest.mark.parametrize(("low", "passed"), [(-0.01, True), (-0.0101, False), (0.02, True)])
def test_the_lower_end_of_the_interval_decides_against_the_incumbent(low, passed):
    assert verdict("not_worse_than_incumbent", compared(low=low)).passed == passed


def test_the_verdict_on_the_incumbent_says_all_figures():
    assert verdict("not_worse_than_incumbent").detail == (
        "AUC +0.0100 against late version 1 on 5000 rows, 95% interval -0.0050 to +0.0250; "
        "at 95% the lower end must reach -0.0100"
    )


def test_an_interval_of_less_confidence_than_asked_for_does_not_count():
    assert not verdict("not_worse_than_incumbent", compared(confidence=0.9)).passed


@pytest.mark.parametrize("evidence", [compared(onnx="sha256:other"), replace(EVIDENCE, comparison=None)])
def test_a_comparison_with_anything_but_the_incumbent_does_not_count(evidence):
    assert not verdict("not_worse_than_incumbent", evidence).passed


def test_the_first_version_has_nothing_to_be_compared_with():
    assert verdict("not_worse_than_incumbent", replace(EVIDENCE, comparison=None), incumbent=None).passed


def test_evidence_is_read_from_what_a_run_publishes():
    comparison = Comparison("sha256:old", 5000, 0.01, -0.005, 0.025, 0.95)
    assert Evidence(5000, 0.75, 0.02, 9000, 0, comparison) == EVIDENCE


@pytest.mark.parametrize("part", ["evaluation", "parity", "incumbent"])
def test_incomplete_evidence_is_refused(part):
    with pytest.raises(ValueError, match="incomplete"):
        Evidence.parse({name: value for name, value in DOCUMENT.items() if name != part})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0.9", None])
def test_a_figure_that_is_no_finite_number_is_refused(value):
    with pytest.raises(ValueError, match="evaluate again"):
        Evidence.parse(DOCUMENT | {"evaluation": {"n": 10, "auc": value, "ece": 0.0}})


def test_an_approver_outside_the_lineage_may_approve():
    assert may_approve(ANN, LINEAGE) is None


@pytest.mark.parametrize("name", sorted(LINEAGE.builders))
def test_nobody_in_the_lineage_may_approve(name):
    assert may_approve(person(name, "approver"), LINEAGE).rule == "separation_of_duties"


def test_the_refusal_says_what_was_touched():
    expected = "dana touched its definition and run; ask an approver who did not"
    assert may_approve(person("dana", "approver"), LINEAGE) == Refusal("separation_of_duties", expected)


@pytest.mark.parametrize("roles", [(), ("operator",), ("builder", "replay")])
def test_without_the_role_nobody_may_approve(roles):
    assert may_approve(person("zoe", *roles), LINEAGE).rule == "approver_role"


def test_an_approval_is_of_a_digest():
    assert approve(NEW, ANN, "sha256:new").approved_by == ("ann",)
    assert approve(NEW, ANN, "sha256:swapped").rule == "digest"


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.CANDIDATE])
def test_only_a_candidate_can_be_approved_or_promoted(stage):
    version = replace(NEW, stage=stage, approved_by=("ann",))
    assert approve(version, BEA, "sha256:new").rule == "stage"
    assert promote(version, OLD, OPERATOR, "low").rule == "stage"


def test_one_person_approves_once():
    assert approve(replace(NEW, approved_by=("ann",)), ANN, "sha256:new").rule == "approved_already"


def test_a_promotion_archives_the_version_before():
    approved = replace(NEW, approved_by=("ann",))
    assert promote(approved, OLD, OPERATOR, "medium") == Promotion(
        replace(approved, stage=Stage.PRODUCTION), replace(OLD, stage=Stage.ARCHIVED)
    )


def test_the_first_promotion_replaces_nothing():
    first = replace(NEW, approved_by=("ann",), judged_against=None)
    assert promote(first, None, OPERATOR, "low").replaces is None


@pytest.mark.parametrize(("tier", "needed"), [("low", 1), ("medium", 1), ("high", 2)])
def test_the_risk_tier_sets_the_number_of_approvals(tier, needed):
    approved = replace(NEW, approved_by=("ann", "bea")[:needed])
    assert isinstance(promote(approved, OLD, OPERATOR, tier), Promotion)
    one_less = replace(NEW, approved_by=("ann", "bea")[: needed - 1])
    assert promote(one_less, OLD, OPERATOR, tier).rule == "approvals"


@pytest.mark.parametrize("name", ["dana", "ann"])
def test_at_tier_high_who_built_or_approved_may_not_promote(name):
    approved = replace(NEW, approved_by=("ann", "bea"))
    assert promote(approved, OLD, person(name, "operator"), "high").rule == "separation_of_duties"
    assert isinstance(promote(approved, OLD, person(name, "operator"), "medium"), Promotion)


def test_a_gate_that_failed_stops_a_promotion_and_says_its_figures():
    failed = replace(NEW, approved_by=("ann",), gates=tuple(judge(replace(EVIDENCE, auc=0.6), None, GATES)))
    reason = "late version 2 did not pass: AUC 0.6000 on 5000 rows, at least 0.7000 is asked for"
    assert promote(failed, OLD, OPERATOR, "low") == Refusal("gates", reason)


def test_a_version_that_no_gate_judged_is_not_promoted():
    assert promote(replace(NEW, approved_by=("ann",), gates=()), OLD, OPERATOR, "low").rule == "gates"


@pytest.mark.parametrize("incumbent", [None, replace(OLD, number=3, onnx="sha256:third")])
def test_a_verdict_against_an_incumbent_that_is_gone_does_not_count(incumbent):
    assert promote(replace(NEW, approved_by=("ann",)), incumbent, OPERATOR, "low").rule == "incumbent_changed"


def test_only_an_operator_promotes_and_rolls_back():
    approved, archived = replace(NEW, approved_by=("ann",)), replace(OLD, stage=Stage.ARCHIVED)
    assert promote(approved, OLD, ANN, "low").rule == "operator_role"
    assert roll_back(archived, NEW, ANN).rule == "operator_role"


def test_a_rollback_exchanges_the_two_versions():
    archived, current = replace(OLD, stage=Stage.ARCHIVED), replace(NEW, stage=Stage.PRODUCTION)
    assert roll_back(archived, current, OPERATOR) == Promotion(OLD, replace(NEW, stage=Stage.ARCHIVED))


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.ARCHIVED])
def test_a_rollback_leads_to_an_archived_version_only(stage):
    assert roll_back(replace(OLD, stage=stage), NEW, OPERATOR).rule == "stage"
