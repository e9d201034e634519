"""The gate: what a version must show, who may approve it, and what may go into production. Pure.

Nothing here raises on a request that breaks a rule: the answer is a `Refusal` that names the rule and the figures.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import isfinite
from typing import Any, Self

from mainstem.auth import Principal, Right, allows
from mainstem.project.charter import Tier
from mainstem.project.model import Gates


class Stage(StrEnum):
    """Where a version stands."""

    #: Its run is under way.
    DEVELOPMENT = "development"
    #: Registered, waiting for the verdict of the gates.
    STAGING = "staging"
    #: Every gate let it through; it may be approved and promoted.
    CANDIDATE = "candidate"
    #: A gate held it back, for good.
    REFUSED = "refused"
    #: It answers.
    PRODUCTION = "production"
    #: It answered once, and may again after a rollback.
    ARCHIVED = "archived"


#: Stages whose versions are in production or may come there: what they read must not change under them.
#: A refused version never does, and an archived one only by a rollback, which looks whether its set is still there.
PINNING = frozenset({Stage.STAGING, Stage.CANDIDATE, Stage.PRODUCTION})

#: Distinct people who must approve a version, by the risk tier of the project.
APPROVALS_NEEDED: Mapping[Tier, int] = {"low": 1, "medium": 1, "high": 2}


#: The rule that a feature set does not change under a version that was trained on it.
PINNED = "feature_set_pinned"

#: Rules on who may ask at all.
ROLE_RULES = frozenset({"approver_role", "operator_role"})


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request changed nothing: the rule it broke, and a sentence with the figures and what to do."""

    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class GateResult:
    """The verdict of one gate: the figure judged, the limit it was held against, and both in a sentence."""

    name: str
    passed: bool
    figure: float | None
    limit: float | None
    detail: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """AUC of the candidate minus AUC of another version on the same rows, with a confidence interval."""

    onnx: str
    rows: int
    difference: float
    low: float
    high: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the gates look at: figures on held-out rows, parity of the export, comparison with the incumbent."""

    rows: int
    auc: float
    calibration_error: float
    parity_rows: int
    parity_flips: int
    comparison: Comparison | None

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        """Read `{"evaluation", "parity", "incumbent"}` as a run publishes it; `incumbent` is null without one.

        Raises ValueError when a figure is missing or not finite.
        """
        try:
            evaluation, parity, incumbent = (document[part] for part in ("evaluation", "parity", "incumbent"))
            comparison = None if incumbent is None else _comparison(incumbent)
            return cls(
                rows=int(evaluation["n"]),
                auc=_finite(evaluation["auc"]),
                calibration_error=_finite(evaluation["ece"]),
                parity_rows=int(parity["rows"]),
                parity_flips=int(parity["flips"]),
                comparison=comparison,
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"the evidence is incomplete ({error}); let the run evaluate and export again") from error


@dataclass(frozen=True, slots=True)
class Lineage:
    """Everybody who touched what a version was made from, by name."""

    data: frozenset[str]
    definition: frozenset[str]
    run: frozenset[str]

    @property
    def builders(self) -> frozenset[str]:
        """All of them."""
        return self.data | self.definition | self.run

    def touched(self, name: str) -> tuple[str, ...]:
        """Return which of data, definition and run somebody touched."""
        parts = {"data": self.data, "definition": self.definition, "run": self.run}
        return tuple(part for part, actors in parts.items() if name in actors)


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a model: what was judged, against which incumbent (digest), and who approved it."""

    model: str
    number: int
    onnx: str
    stage: Stage
    lineage: Lineage
    gates: tuple[GateResult, ...]
    judged_against: str | None
    approved_by: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The version in a sentence."""
        return f"{self.model} version {self.number}"


@dataclass(frozen=True, slots=True)
class Promotion:
    """A version goes into production and the one before it, if any, into the archive."""

    version: Version
    replaces: Version | None


def judge(evidence: Evidence, incumbent: Version | None, gates: Gates) -> list[GateResult]:
    """Hold the evidence against every gate; `incumbent` is the version in production, if there is one."""
    return [
        _auc(evidence, gates.min_auc),
        _not_worse(evidence.comparison, incumbent, gates),
        _calibration(evidence, gates.max_calibration_error),
        _parity(evidence, gates.max_flips),
    ]


def stage_after(gates: list[GateResult]) -> Stage:
    """Return where the verdicts put a version."""
    return Stage.CANDIDATE if all(gate.passed for gate in gates) else Stage.REFUSED


def may_approve(principal: Principal, lineage: Lineage) -> Refusal | None:
    """Tell why somebody may not approve a version of this lineage; None when they may."""
    if not allows(principal, Right.APPROVE):
        return Refusal("approver_role", f"{principal.name} has no role that may approve; ask an approver")
    touched = lineage.touched(principal.name)
    if touched:
        parts = " and ".join(touched)
        return Refusal("separation_of_duties", f"{principal.name} touched its {parts}; ask an approver who did not")
    return None


def approve(version: Version, principal: Principal, onnx: str) -> Version | Refusal:
    """Return the version with the approval of the digest `onnx` added."""
    refusal = may_approve(principal, version.lineage)
    if refusal:
        return refusal
    if version.stage is not Stage.CANDIDATE:
        return Refusal("stage", f"{version.label} is in {version.stage}; only a candidate can be approved")
    if onnx != version.onnx:
        return Refusal("digest", f"the approval is for {onnx}, {version.label} is {version.onnx}; look at it again")
    if principal.name in version.approved_by:
        return Refusal("approved_already", f"{principal.name} has approved {version.label}; somebody else must")
    return replace(version, approved_by=(*version.approved_by, principal.name))


def promote(version: Version, incumbent: Version | None, principal: Principal, tier: Tier) -> Promotion | Refusal:
    """Decide whether a candidate goes into production in place of `incumbent`."""
    refusal = (
        _may_operate(principal)
        or _is(version, Stage.CANDIDATE, "promoted")
        or _gates_passed(version)
        or _approved(version, tier)
        or _third_person(version, principal, tier)
        or _judged_against(version, incumbent)
    )
    return refusal or _promotion(version, incumbent)


def roll_back(version: Version, incumbent: Version, principal: Principal) -> Promotion | Refusal:
    """Decide whether an archived version, approved in its time, answers again in place of `incumbent`."""
    refusal = _may_operate(principal) or _is(version, Stage.ARCHIVED, "rolled back to")
    return refusal or _promotion(version, incumbent)


@dataclass(frozen=True, slots=True)
class BrokenPin:
    """A feature set that versions pin and a definition would change, or drop when `proposed` is None (both ids)."""

    label: str
    pinned: str
    proposed: str | None
    versions: tuple[Version, ...]

    @property
    def reason(self) -> str:
        """What would happen to whom, in a sentence."""
        held = ", ".join(f"{version.label} ({version.stage})" for version in self.versions)
        change = f"would become {self.proposed}" if self.proposed else "would be gone"
        return f"feature set {self.label!r} is pinned by {held}: {self.pinned} {change}"


def broken_pins(
    in_force: Mapping[str, str], proposed: Mapping[str, str], readers: Sequence[tuple[str, Version]]
) -> list[BrokenPin]:
    """Return what a change of the feature sets from `in_force` to `proposed` (ids by label) breaks, by label.

    `readers` are the versions, each with the id of the set that it reads.
    """
    broken = []
    for label, pinned in sorted(in_force.items()):
        versions = tuple(version for id_, version in readers if id_ == pinned and version.stage in PINNING)
        if versions and proposed.get(label) != pinned:
            broken.append(BrokenPin(label, pinned, proposed.get(label), versions))
    return broken


def remedy(broken: BrokenPin, labels: Iterable[str]) -> str:
    """Return what to do instead; `labels` are those in force and proposed."""
    name = broken.label.partition(".")[0]
    if broken.proposed is None:
        return f"put {broken.label!r} back; it may go when every version that reads it is archived or refused"
    versions = [int(version or 1) for base, _, version in (label.partition(".v") for label in labels) if base == name]
    following = max(versions) + 1
    declaration = f'@feature_set("{name}", version={following}, ...)'
    return f"leave {broken.label!r} as it is, declare {declaration} beside it, and let the model read it"


def _finite(value: object) -> float:
    if not isinstance(value, int | float) or not isfinite(value):
        raise ValueError(f"the evidence holds {value!r} for a figure; let the run evaluate again")
    return float(value)


def _comparison(document: Mapping[str, Any]) -> Comparison:
    figures = {name: _finite(document[name]) for name in ("difference", "low", "high", "confidence")}
    return Comparison(str(document["onnx"]), int(document["rows"]), **figures)


def _auc(evidence: Evidence, limit: float) -> GateResult:
    passed = evidence.auc >= limit
    detail = f"AUC {evidence.auc:.4f} on {evidence.rows} rows, at least {limit:.4f} is asked for"
    return GateResult("min_auc", passed, evidence.auc, limit, detail)


def _calibration(evidence: Evidence, limit: float) -> GateResult:
    found = evidence.calibration_error
    detail = f"calibration error {found:.4f} on {evidence.rows} rows, at most {limit:.4f} is allowed"
    return GateResult("calibration", found <= limit, found, limit, detail)


def _parity(evidence: Evidence, limit: int) -> GateResult:
    flips, rows = evidence.parity_flips, evidence.parity_rows
    detail = f"the exported model decides {flips} of {rows} rows otherwise, at most {limit} are allowed"
    return GateResult("parity", rows > 0 and flips <= limit, flips, limit, detail)


def _not_worse(comparison: Comparison | None, incumbent: Version | None, gates: Gates) -> GateResult:
    name, limit = "not_worse_than_incumbent", -gates.max_auc_loss
    if incumbent is None:
        return GateResult(name, True, None, limit, "no version is in production to compare with")
    if comparison is None or comparison.onnx != incumbent.onnx:
        found = "nothing" if comparison is None else comparison.onnx
        return GateResult(name, False, None, limit, f"compared with {found}, in production is {incumbent.label}")
    sure = comparison.confidence >= gates.confidence
    detail = (
        f"AUC {comparison.difference:+.4f} against {incumbent.label} on {comparison.rows} rows, "
        f"{comparison.confidence:.0%} interval {comparison.low:+.4f} to {comparison.high:+.4f}; "
        f"at {gates.confidence:.0%} the lower end must reach {limit:+.4f}"
    )
    return GateResult(name, sure and comparison.low >= limit, comparison.low, limit, detail)


def _may_operate(principal: Principal) -> Refusal | None:
    if allows(principal, Right.OPERATE):
        return None
    return Refusal("operator_role", f"{principal.name} has no role that may operate; ask an operator")


def _is(version: Version, stage: Stage, done: str) -> Refusal | None:
    if version.stage is stage:
        return None
    return Refusal("stage", f"{version.label} is in {version.stage}; only a version in {stage} can be {done}")


def _gates_passed(version: Version) -> Refusal | None:
    failed = [gate for gate in version.gates if not gate.passed]
    if version.gates and not failed:
        return None
    found = "; ".join(gate.detail for gate in failed) or "no gate has judged it"
    return Refusal("gates", f"{version.label} did not pass: {found}")


def _approved(version: Version, tier: Tier) -> Refusal | None:
    found, needed = len(set(version.approved_by)), APPROVALS_NEEDED[tier]
    if found >= needed:
        return None
    return Refusal("approvals", f"{version.label} has {found} of the {needed} approvals that tier {tier} asks for")


def _third_person(version: Version, principal: Principal, tier: Tier) -> Refusal | None:
    if tier != "high" or principal.name not in version.lineage.builders | set(version.approved_by):
        return None
    reason = f"{principal.name} built or approved {version.label}; at tier high somebody else must promote it"
    return Refusal("separation_of_duties", reason)


def _judged_against(version: Version, incumbent: Version | None) -> Refusal | None:
    now = incumbent.onnx if incumbent else None
    if version.judged_against == now:
        return None
    judged = version.judged_against or "no version in production"
    reason = f"{version.label} was judged against {judged}, in production is now {now or 'none'}; start a new run"
    return Refusal("incumbent_changed", reason)


def _promotion(version: Version, incumbent: Version | None) -> Promotion:
    archived = replace(incumbent, stage=Stage.ARCHIVED) if incumbent else None
    return Promotion(replace(version, stage=Stage.PRODUCTION), archived)
