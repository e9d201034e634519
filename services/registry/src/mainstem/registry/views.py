"""What stands in the book, as JSON shows it."""

from collections.abc import Sequence

from mainstem.events.registry import Impact
from mainstem.registry.domain import PINNED, Stage
from mainstem.registry.ports import Project, Registered


def project(found: Project) -> dict[str, str]:
    """Show which definition of a project is in force."""
    return {
        "project": found.name,
        "definition_id": found.definition_id,
        "applied_by": found.applied_by,
        "recorded_time": found.recorded_time,
    }


def model(name: str, owner: str, versions: Sequence[Registered]) -> dict[str, object]:
    """Show a model of project `owner`, with how its own among the versions stand."""
    own = [found.version for found in versions if found.version.model == name]
    return {
        "model": name,
        "project": owner,
        "versions": len(own),
        "production": next((version.number for version in own if version.stage is Stage.PRODUCTION), None),
        "candidates": [version.number for version in own if version.stage is Stage.CANDIDATE],
    }


def summary(found: Registered) -> dict[str, object]:
    """Show a version in a line: how it stands and how its gates went."""
    version = found.version
    return {
        "version": version.number,
        "stage": version.stage,
        "onnx": version.onnx,
        "cause": found.fact.cause,
        "run": found.fact.run,
        "gates": {gate.name: gate.passed for gate in version.gates},
        "auc": next((gate.figure for gate in version.gates if gate.name == "min_auc"), None),
        "approved_by": list(version.approved_by),
        "recorded_time": found.recorded_time,
    }


def version(found: Registered) -> dict[str, object]:
    """Show a version with its evidence, its gates and where it comes from."""
    return {
        **found.fact.model_dump(mode="json"),
        "stage": found.version.stage,
        "judged_against": found.version.judged_against,
        "event_id": found.event_id,
        "correlation": found.correlation,
        "recorded_time": found.recorded_time,
    }


def pinned(detail: str, impact: Sequence[Impact]) -> dict[str, object]:
    """Show why a definition was refused that would change pinned feature sets: a problem document (RFC 9457)."""
    return {
        "type": f"mainstem:{PINNED}",
        "title": PINNED.replace("_", " "),
        "status": 409,
        "detail": detail,
        "impact": [broken.model_dump(mode="json") for broken in impact],
    }
