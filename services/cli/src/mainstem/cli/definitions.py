"""What the registry says is in force: projects, their sources and feature sets, by name."""

from collections.abc import Sequence
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
    return chosen(in_force(), feature_set)[0]


def chosen(definitions: Sequence[ProjectDefinition], feature_set: str | None) -> tuple[ProjectDefinition, str]:
    """Return the feature set of a label, or the only one there is, with the definition that it stands in.

    Raises Rejected, naming those there are, when there is none of that label, or none or several to choose from.
    """
    owners = {label: definition for definition in definitions for label in definition.feature_sets}
    if feature_set is None and len(owners) > 1:
        raise Rejected(f"there are several feature sets: {', '.join(sorted(owners))}; choose one with --feature-set")
    label = next(iter(owners), "") if feature_set is None else feature_set
    if label not in owners:
        raise _unknown("feature set", label, list(owners))
    return owners[label], label


def with_feature(feature: str, feature_set: str | None) -> tuple[ProjectDefinition, str]:
    """Return the set in force, of a label if one is given, that has a feature.

    Raises Rejected, naming those there are, when none has it, or several do.
    """
    definitions = in_force()
    owners = {label: definition for definition in definitions for label in definition.feature_sets}
    if feature_set is not None:
        owners = {feature_set: chosen(definitions, feature_set)[0]}
    names = {label: definition.feature_sets[label].compiled.names for label, definition in sorted(owners.items())}
    found = [label for label, known in names.items() if feature in known]
    if len(found) > 1:
        several = ", ".join(found)
        raise Rejected(f"several feature sets have a feature {feature!r}: {several}; choose one with --feature-set")
    if not found:
        there = "; ".join(f"{label} has {', '.join(known)}" for label, known in names.items())
        raise Rejected(f"no feature {feature!r}; {there or 'there are no feature sets yet, apply a project first'}")
    return owners[found[0]], found[0]


def _unknown(kind: str, name: str, known: list[str]) -> Rejected:
    return Rejected(f"no {kind} {name!r}; there are: {', '.join(sorted(known)) or 'none yet, apply a project first'}")
