"""How the version that answered was made, judged, approved and put in force."""

from mainstem.cli.evidence.archive import Chronicle, Found
from mainstem.cli.evidence.rollout import tell_rollout
from mainstem.cli.evidence.story import Story, spoken
from mainstem.events.instants import parse
from mainstem.events.ledger import ReceiptIssued
from mainstem.events.registry import DeploymentSet, VersionApproved, VersionPromoted, VersionRegistered
from mainstem.events.serving import DeploymentActivated, Predicted
from mainstem.events.training import DatasetBuilt, RunCompleted, StepCompleted, TrainingRequested

Answer = Found[Predicted]


#: Later than anything is recorded.
_NEVER_US = 2**63 - 1


def tell_making(story: Story, chronicle: Chronicle, answer: Answer) -> None:
    """State everything from the request of the run to the version in force."""
    fact = answer.fact
    registered = chronicle.last(VersionRegistered, model=fact.model, version=fact.version)
    if registered is None:
        missing = f"the registration of version {fact.version} of {fact.model} is not in the archive"
        unknown = ("profile", "evaluation", "gates", "builders", "request", "run", "code", "environment", "dataset")
        story.lack(missing, *unknown)
    else:
        story.link("registration", registered)
        _tell_registration(story, registered)
        _tell_run(story, chronicle, registered)
    approved = chronicle.last(VersionApproved, model=fact.model, version=fact.version, onnx=fact.onnx)
    approved = approved or chronicle.last(VersionApproved, model=fact.model, version=fact.version)
    promoted = _last_before(chronicle, answer)
    _tell_decision(story, "approval", approved, "version", "onnx", "approved_by", "comment", "ce_time")
    _tell_decision(story, "promotion", promoted, "version", "replaces", "promoted_by", "ce_time")
    if registered and approved and approved.fact.approved_by in registered.fact.builders:
        story.faults.append(f"{approved.fact.approved_by} approved a version that they built")
    _tell_way_back(story, chronicle, promoted)
    _tell_in_force(story, chronicle, answer, registered, approved)
    _tell_receipts(story, chronicle, [each for each in (approved, promoted) if each is not None])
    _check_digests(story, answer, [each for each in (registered, approved) if each is not None])


def _tell_registration(story: Story, registered: Found[VersionRegistered]) -> None:
    story.say("onnx", registered, "onnx", "version")
    story.say("profile", registered, "profile")
    story.say("evaluation", registered, "evidence")
    story.say("gates", registered, "gates", "stage")
    story.say("builders", registered, "builders")


def _tell_run(story: Story, chronicle: Chronicle, registered: Found[VersionRegistered]) -> None:
    run, model = registered.fact.run, registered.fact.model
    requested = chronicle.last(TrainingRequested, model=model, run=run)
    completed = chronicle.last(RunCompleted, model=model, run=run)
    built = chronicle.last(DatasetBuilt, model=model, request=run)
    if requested is None:
        story.lack(f"the request of run {run} is not in the archive", "request")
    else:
        story.link("request", requested)
        story.say("request", requested, "run", "cause", "requested_by", "cut", "ce_time")
    if completed is None:
        story.lack(f"run {run} is not in the archive", "run")
    else:
        story.link("run", completed)
        story.say("run", completed, "run", "cause", "requested_by", "definition", "dataset", "onnx")
    if built is None:
        story.lack(f"the dataset of run {run} is not in the archive", "dataset")
    else:
        story.link("dataset", built)
        rows = ("rows", "held_out", "unlabelled", "content", "cut")
        story.say("dataset", built, "dataset", "table", "feature_set", "feature_set_label", *rows)
    steps = chronicle.of(StepCompleted, model=model, run=run)
    for step in steps:
        story.link(f"step {step.fact.step}", step)
        story.say("code", step, "step", "code", "inputs", "outputs")
        story.say("environment", step, "step", "environment")
    if not steps:
        story.lack(f"no step of run {run} is in the archive", "code", "environment")


def _last_before(chronicle: Chronicle, answer: Answer) -> Found[VersionPromoted] | None:
    """Return the promotion of the version that was recorded last before the answer, else the first."""
    found = chronicle.of(VersionPromoted, model=answer.fact.model, version=answer.fact.version)
    before = [each for each in found if each.envelope.recorded_us <= answer.envelope.recorded_us]
    return before[-1] if before else found[0] if found else None


def _tell_decision(story: Story, name: str, found: Found[VersionApproved | VersionPromoted] | None, *says: str) -> None:
    if found is None:
        story.lack("none is in the archive", name)
    else:
        story.link(name, found)
        story.say(name, found, *says)


def _tell_way_back(story: Story, chronicle: Chronicle, promoted: Found[VersionPromoted] | None) -> None:
    """State which version the promoted one replaced, and by what that had come into production."""
    if promoted is None:
        story.lack("no promotion of the version is in the archive", "rollback")
        return
    earlier = [each for each in chronicle.of(VersionPromoted, model=promoted.fact.model) if each.leaf < promoted.leaf]
    before, replaces = earlier[-1] if earlier else None, promoted.fact.replaces
    if replaces != (before.fact.version if before else None):
        there = f"version {before.fact.version}" if before else "none"
        story.faults.append(f"promotion: it replaces version {replaces}, in production was {there}")
    if replaces is None:
        story.lack("the version was the first in production: there was none to go back to", "rollback")
        return
    story.say("rollback", promoted, "replaces")
    if before is not None:
        story.link("replaced", before)
        story.say("rollback", before, "version", "promoted_by", "ce_time")


def _tell_in_force(
    story: Story,
    chronicle: Chronicle,
    answer: Answer,
    registered: Found[VersionRegistered] | None,
    approved: Found[VersionApproved] | None,
) -> None:
    activated = in_charge(chronicle, answer)
    if activated is None:
        missing = f"no activation in effect by then is in the archive of {answer.fact.model}"
        return story.lack(missing, "activation", "deployment", "rollout")
    story.link("activation", activated)
    story.say("activation", activated, "version", "onnx", "effective_from", "from_offsets")
    deployment = _deployment(chronicle, activated)
    if deployment is None:
        _check(story, "activation", activated.fact.version, activated.fact.onnx, answer)
        return story.lack("the deployment that was activated is not in the archive", "deployment", "rollout")
    story.link("deployment", deployment)
    said = ("version", "onnx", "profile", "feature_set", "feature_definition", "approved_by", "effective_from")
    arms = [name for name in ("arms", "salt") if spoken(deployment.entry, name) is not None]
    story.say("deployment", deployment, *said, *arms)
    return tell_rollout(story, deployment, answer, registered, approved)


def in_charge(chronicle: Chronicle, answer: Answer) -> Found[DeploymentActivated] | None:
    """Return the activation by which an answer was given: of those in effect the last that had begun at its place.

    A direct answer comes from the last that was activated when it was asked, which no event tells: of those that have
    its version, as an arm or as their own.
    """
    fact, recorded_us = answer.fact, answer.envelope.recorded_us
    topic, _, place = fact.position.partition("/")
    partition, _, offset = place.partition("/")
    found = None
    for each in chronicle.of(DeploymentActivated, model=fact.model):
        if _begins_us(each.fact.effective_from) > recorded_us:
            continue
        deployment = _deployment(chronicle, each)
        if fact.row is None:
            arms = [] if deployment is None else deployment.fact.arms
            there = {each.fact.version, *(arm.version for arm in arms)}
            found = each if fact.version in there else found
            continue
        reads = deployment is None or topic == f"evt.feature.{deployment.fact.feature_set}"
        first = each.fact.from_offsets.get(partition, 0) if reads else 0
        if not offset.isdecimal() or int(offset) >= first:
            found = each
    return found


def _begins_us(effective_from: str) -> int:
    """Return from when on something is in effect; never, for what is no instant: anybody may have written it."""
    try:
        return parse(effective_from)
    except ValueError:
        return _NEVER_US


def _deployment(chronicle: Chronicle, activated: Found[DeploymentActivated]) -> Found[DeploymentSet] | None:
    """Return the deployment that was activated: the one that caused it, else the last of its version before."""
    found = chronicle.of(DeploymentSet, model=activated.fact.model, version=activated.fact.version)
    begins_us = _begins_us(activated.fact.effective_from)
    caused = [each for each in found if each.envelope.id == activated.envelope.causation]
    before = [each for each in found if _begins_us(each.fact.effective_from) <= begins_us]
    chosen = caused or before
    return chosen[-1] if chosen else None


def _tell_receipts(
    story: Story, chronicle: Chronicle, decisions: list[Found[VersionApproved | VersionPromoted]]
) -> None:
    """State which receipts the ledger issued of the decisions, on which the registry waited."""
    for decision in decisions:
        issued = chronicle.last(ReceiptIssued, event_id=decision.envelope.id)
        if issued is not None:
            story.link(f"receipt {issued.fact.event_id}", issued)
            story.say("receipts", issued, "event_id", "leaf")
    story.lack("the ledger issued no receipt of the approval or the promotion", "receipts")


def _check_digests(story: Story, answer: Answer, found: list[Found[VersionRegistered | VersionApproved]]) -> None:
    for each in found:
        name = "registration" if isinstance(each.fact, VersionRegistered) else "approval"
        _check(story, name, each.fact.version, each.fact.onnx, answer)


def _check(story: Story, name: str, version: int, onnx: str, answer: Answer) -> None:
    """Every step must speak of the very bytes, and of the very version, that answered."""
    if onnx != answer.fact.onnx:
        story.faults.append(f"{name}: it is about {onnx}, {answer.fact.onnx} answered")
    if version != answer.fact.version:
        story.faults.append(f"{name}: it is about version {version}, version {answer.fact.version} answered")
