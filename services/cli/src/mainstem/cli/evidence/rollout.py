"""By which arm of a deployment an answer was given, and whether it can have been (ADR 21)."""

from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from mainstem.cli.evidence.archive import Found
from mainstem.cli.evidence.story import Story
from mainstem.events.registry import DeploymentArm, DeploymentSet, VersionApproved, VersionRegistered
from mainstem.events.serving import Predicted
from mainstem.serving.arms import misfit, place
from mainstem.serving.domain import WHOLE

#: How a question comes to the version that answers it.
ROUTES: Final = {
    "alone": "every question about the model goes to the version in force; no canary, shadow or split",
    "stream": "every row of the stream goes to the version in force; the others stand beside it for direct calls",
    "drawn": "the place of the entity, or of the request that names none, lies in the share of this version",
    "named": "the caller named the version: the place of the entity, or of the request, lies in another's share",
    "shadow": "the caller named the version: it is a shadow, and answers nobody else",
}


Deployment = Found[DeploymentSet]
Answer = Found[Predicted]


def tell_rollout(
    story: Story,
    deployment: Deployment,
    answer: Answer,
    registered: Found[VersionRegistered] | None,
    approved: Found[VersionApproved] | None,
) -> None:
    """State how the question came to the version that answered; what the deployment says otherwise is a fault."""
    own, *beside = _arms(deployment.fact)
    # The stream is the affair of the deployment's own version.
    may = [own] if answer.fact.row is not None else [own, *beside]
    arm = next((each for each in may if each.version == answer.fact.version), own)
    story.faults += _misfits(deployment.fact, arm, answer)
    if registered is not None and arm.profile != registered.fact.profile:
        its = f"its profile is {arm.profile!r}, the registration has profile {registered.fact.profile!r}"
        story.faults.append(f"deployment: {its}")
    approver = deployment.fact.approved_by
    if arm is own and approved is not None and approver != approved.fact.approved_by:
        its = f"its approved_by is {approver!r}, the approval has approved_by {approved.fact.approved_by!r}"
        story.faults.append(f"deployment: {its}")
    how = _how(deployment.fact, arm, answer)
    share = 1.0 if how == "stream" else arm.weight / WHOLE
    story.say("rollout", deployment, "version", arms=1 + len(beside), share=share, route=ROUTES[how])


def _arms(deployment: DeploymentSet) -> list[DeploymentArm]:
    """Return the versions of a deployment: its own, which has what the others leave, then these in their order."""
    left = WHOLE - sum(arm.weight for arm in deployment.arms)
    version, onnx, profile = deployment.version, deployment.onnx, deployment.profile
    return [DeploymentArm(version=version, onnx=onnx, profile=profile, weight=left, shadow=False), *deployment.arms]


def _misfits(deployment: DeploymentSet, arm: DeploymentArm, answer: Answer) -> Iterator[str]:
    wrong = misfit(deployment)
    if wrong is not None:
        yield f"deployment: {wrong}"
    if arm.version != answer.fact.version:
        yield f"deployment: it is about version {arm.version}, version {answer.fact.version} answered"
    if arm.onnx != answer.fact.onnx:
        yield f"deployment: it is about {arm.onnx}, {answer.fact.onnx} answered"


def _how(deployment: DeploymentSet, arm: DeploymentArm, answer: Answer) -> str:
    """Return which of `ROUTES` led to an arm."""
    if not deployment.arms:
        return "alone"
    if answer.fact.row is not None:
        return "stream"
    if arm.shadow:
        return "shadow"
    drawn = place(deployment.salt, answer.fact.entity or answer.envelope.correlation)
    ends = accumulate(each.weight for each in deployment.arms)
    stretches = zip((each.version for each in deployment.arms), ends, strict=True)
    holder = next((version for version, end in stretches if drawn < end), deployment.version)
    return "drawn" if holder == arm.version else "named"
