"""Findings about feature sets: which facts are one, and the alerts on the set and on a model that it leads to."""

from mainstem.events.fact import Fact
from mainstem.events.features import Difference, FoldStopped, VectorsChecked
from mainstem.events.monitoring import FeatureAlertOpened, FeatureSetAlertOpened, InputGap

Finding = VectorsChecked | FoldStopped


def finding(fact: Fact) -> Finding | None:
    """Return a fact that says that a feature set is wrong or stands still; None for any other."""
    match fact:
        case FoldStopped():
            return fact
        case VectorsChecked() if fact.differing:
            return fact
        case _:
            return None


def on_set(found: Finding, *, alert: str, until: str) -> FeatureSetAlertOpened:
    """Return the alert on the feature set of a finding, recorded at `until`."""
    return FeatureSetAlertOpened.model_validate({"alert": alert, "until": until, **_told(found)})


def on_version(found: Finding, *, alert: str, until: str, model: str, version: int) -> FeatureAlertOpened:
    """Return the alert on a version that reads the feature set of a finding, recorded at `until`."""
    reader = {"model": model, "version": version}
    return FeatureAlertOpened.model_validate({"alert": alert, "until": until, **reader, **_told(found)})


def _told(found: Finding) -> dict[str, object]:
    """Return what both alerts tell of a finding."""
    told: dict[str, object] = {"feature_set": found.feature_set, "definition": found.definition}
    if isinstance(found, FoldStopped):
        gap = InputGap(
            topic=found.input,
            partition=found.partition,
            expected_offset=found.expected_offset,
            found_offset=found.found_offset,
        )
        return told | {"kind": "feature_gap", "about": found.reason, "gap": gap}
    first = found.first_difference
    told |= {"kind": "feature_mismatch", "about": _about(found, first), "differing": found.differing}
    return told | {"difference": first}


def _about(found: VectorsChecked, first: Difference | None) -> str:
    """Return what differs in one line: feature, both values and the record, or what is wrong with a row."""
    counted = f"{found.differing} of {found.cells} values checked differ"
    if first is None:
        return counted
    if first.feature is None:
        of = f"spine record {first.spine_id}: " if first.spine_id else ""
        return f"{of}{first.about}; {counted}"
    values = f"served {_shown(first.served)}, follows {_shown(first.recomputed)}"
    return f"{first.feature} of spine record {first.spine_id}: {values}; {counted}"


def _shown(value: float | None) -> str:
    """Return a value with all its bits."""
    return "null" if value is None else repr(value)
