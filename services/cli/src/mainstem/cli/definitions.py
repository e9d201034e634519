"""What the registry says is in force: projects, their sources and feature sets, by name."""

from urllib.parse import quote

from mainstem.cli.calls import get
from mainstem.events.errors import Rejected
from mainstem.project.contract import SourceContract
from mainstem.project.definition import ProjectDefinition, parse


def in_force() -> list[ProjectDefinition]:
    """Return the definitions of all projects in force; raise as `get` does."""
    names = [project["project"] for project in get("registry", "/v1/projects")["projects"]]
    return [parse(get("registry", f"/v1/projects/{quote(name, safe='')}")["definition"]) for name in names]


def contract(source: str) -> SourceContract:
    """Return the contract of a source; raise Rejected, naming those there are, when no project declares it."""
    contracts = {name: found for definition in in_force() for name, found in definition.sources.items()}
    if source not in contracts:
        raise _unknown("source", source, list(contracts))
    return contracts[source]


def owner(feature_set: str) -> ProjectDefinition:
    """Return the definition with a feature set; raise Rejected, naming those there are, when no project has it."""
    owners = {name: definition for definition in in_force() for name in definition.feature_sets}
    if feature_set not in owners:
        raise _unknown("feature set", feature_set, list(owners))
    return owners[feature_set]


def _unknown(kind: str, name: str, known: list[str]) -> Rejected:
    return Rejected(f"no {kind} {name!r}; there are: {', '.join(sorted(known)) or 'none yet, apply a project first'}")
