"""Findings about feature sets: which facts are one, and the alert that a model gets for it."""

from mainstem.events.envelope import Fact
from mainstem.events.features import Difference, FoldStopped, VectorsChecked
from mainstem.events.monitoring import FeatureAlertOpened, InputGap

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


def opened(found: Finding, *, alert: str, model: str, version: int, until: str) -> FeatureAlertOpened:
    """Return the alert on a version that reads the feature set of a finding, recorded at `until`."""
    if isinstance(found, FoldStopped):
        gap = InputGap(
            topic=found.input,
            partition=found.partition,
            expected_offset=found.expected_offset,
            found_offset=found.found_offset,
        )
        kind, what = "feature_gap", {"about": found.reason, "gap": gap}
    else:
        about = _about(found, found.first_difference)
        kind, what = "feature_mismatch", {"about": about, "differing": found.differing}
        what["difference"] = found.first_difference
    return FeatureAlertOpened.model_validate(
        {
            "alert": alert,
            "model": model,
            "version": version,
            "kind": kind,
            "feature_set": found.feature_set,
            "definition": found.definition,
            "until": until,
            **what,
        }
    )


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
