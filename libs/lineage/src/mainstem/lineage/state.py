"""What is in force: which definition, version, deployment; which alerts are open. Each change is one entry's."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from mainstem.events import monitoring, registry, serving
from mainstem.events.envelope import Event
from mainstem.events.fact import Fact
from mainstem.events.instants import parse

Slot = Literal["definition", "production", "deployment", "activation", "alert"]


class Change(msgspec.Struct, frozen=True, array_like=True):
    """From an instant on something else is in force, or nothing (`value` null)."""

    leaf: int
    #: µs since 1970: when it was recorded; of an activation when it begins to answer.
    from_us: int
    slot: Slot
    #: The project, the model, or the alert.
    subject: str
    value: str | None


@dataclass(frozen=True, slots=True)
class InForce:
    """What is in force, by what it is in force for."""

    definitions: Mapping[str, str]  #: identity of the definition, by project
    production: Mapping[str, str]  #: number of the version, by model
    deployments: Mapping[str, str]  #: id of the event, by model
    activations: Mapping[str, str]  #: id of the event, by model
    alerts: Mapping[str, str]  #: kind of the alert, by its id


def change(event: Event, leaf: int) -> Change | None:
    """Return what an event changes, or None; raise ValueError for an instant that cannot be read."""
    fact, at_us = event.fact, event.envelope.recorded_us
    if isinstance(fact, serving.DeploymentActivated):
        at_us = parse(fact.effective_from)
    said = _said(fact, event.envelope.id)
    return None if said is None else Change(leaf, at_us, *said)


def _said(fact: Fact, event_id: str) -> tuple[Slot, str, str | None] | None:
    """Return what a fact puts in force: the slot, what for, and the value."""
    found: tuple[Slot, str, str | None] | None = None
    match fact:
        case registry.ProjectApplied():
            found = "definition", fact.project, fact.definition_id
        case registry.VersionPromoted():
            found = "production", fact.model, str(fact.version)
        case registry.DeploymentSet():
            found = "deployment", fact.model, event_id
        case serving.DeploymentActivated():
            found = "activation", fact.model, event_id
        case monitoring.AlertOpened() | monitoring.FeatureAlertOpened() | monitoring.FeatureSetAlertOpened():
            found = "alert", fact.alert, fact.kind
        case monitoring.AlertClosed() | monitoring.FeatureSetAlertClosed():
            found = "alert", fact.alert, None
        case _:
            pass
    return found


def in_force(changes: Iterable[Change], size: int, at_us: int | None = None) -> InForce:
    """Return what was in force by what the first `size` leaves say: at their end, or at an instant (µs since 1970).

    At an instant the last change up to it counts, whenever it became known; of two at one instant the later leaf.
    """
    known = [one for one in changes if one.leaf < size and (at_us is None or one.from_us <= at_us)]
    known.sort(key=lambda one: one.leaf if at_us is None else (one.from_us, one.leaf))
    slots: dict[Slot, dict[str, str]] = {}
    for one in known:
        subjects = slots.setdefault(one.slot, {})
        subjects.pop(one.subject, None)
        if one.value is not None:
            subjects[one.subject] = one.value
    names: tuple[Slot, ...] = ("definition", "production", "deployment", "activation", "alert")
    return InForce(*(slots.get(name, {}) for name in names))
