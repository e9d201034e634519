"""What the entries of a story must say alike, in which order they must stand, and what gates must have judged.

`tools/check_explanation.py` holds a bundle against the same rules, without this code: those of its table are these.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

from mainstem.cli.evidence.story import Story, placed_at, spoken
from mainstem.events.features import RowComputed
from mainstem.events.ids import content_id

#: By parts, what their entries say under names, and what others say, too: `part.name`; of several, one of them.
SAME: Final = {
    "prediction.row": "row.ce_id",
    "prediction.position": "row.place",
    "prediction.entity": "row.entity",
    "prediction.features": "row.values",
    "row.definition": "prediction.feature_definition",
    "row.feature_set": "deployment.feature_set",
    "row.spine_id": "accepted_record.ce_id",
    "accepted_record.ce_origin": "source_record.place",
    "accepted_record.record": "source_record.payload",
    "project.definition_id": "registration.definition",
    "registration.feature_set": "prediction.feature_definition",
    "promotion.replaces": "replaced.version",
    "deployment.feature_definition": "prediction.feature_definition",
    "deployment.version": "activation.version",
    "deployment.onnx": "activation.onnx",
    "receipt.event_id": ["approval.ce_id", "promotion.ce_id"],
    "run.profile": "registration.profile",
    "run.evidence": "registration.evidence",
    "dataset.request": "registration.run",
    **{f"{part}.run": "registration.run" for part in ("request", "run", "step")},
    **{f"{part}.project": "registration.project" for part in ("project", "request", "run", "dataset", "deployment")},
    **{f"{part}.{its}": f"registration.{its}" for part in ("run", "dataset") for its in ("definition", "feature_set")},
    **{f"{part}.dataset": "registration.dataset" for part in ("run", "dataset")},
    **{f"{part}.model": "prediction.model" for part in ("request", "run", "step", "dataset", "registration")},
    **{f"{part}.model": "prediction.model" for part in ("approval", "promotion", "replaced", "deployment")},
    **{f"{part}.model": "prediction.model" for part in ("activation", "window")},
    **{f"{part}.version": "prediction.version" for part in ("registration", "approval", "promotion", "window")},
    **{f"{part}.onnx": "prediction.onnx" for part in ("run", "registration", "approval")},
}
#: The same, of what the first need not say.
SAME_IF_SAID: Final = {"alert.model": "prediction.model", "alert.definition": "prediction.feature_definition"}
_KNOWN: Final = (
    "project", "request", "step", "dataset", "run", "registration", "approval", "promotion", "replaced", "deployment",
    "activation", "window", "alert",
)  # fmt: skip
#: Times, and those that they are not after.
NOT_AFTER: Final = {
    **{f"{part}.ce_recordedtime": "prediction.ce_recordedtime" for part in _KNOWN},
    "deployment.effective_from": "activation.effective_from",
    "activation.effective_from": "prediction.ce_recordedtime",
}
#: Parts, and those that stand behind them in the log.
BEFORE: Final = {"registration": "approval", "approval": "promotion", "replaced": "promotion"}
#: By gate the setting that limits it and its sign, where the evidence has the figure, whether it is to be at least the
#: limit, and whether a first version, which is compared with none, passes without a figure.
GATES: Final = {
    "min_auc": ("min_auc", 1, "evidence/evaluation/auc", True, False),
    "calibration": ("max_calibration_error", 1, "evidence/evaluation/ece", False, False),
    "parity": ("max_flips", 1, "evidence/parity/flips", False, False),
    "not_worse_than_incumbent": ("max_auc_loss", -1, "evidence/incumbent/low", True, True),
}


def contradictions(story: Story) -> Iterator[str]:
    """Yield what does not hold together among the entries that play the parts of a story."""
    yield from _unlike(story)
    yield from _out_of_order(story)
    if "registration" in story.parts and "project" in story.parts:
        yield from _misjudged(story)
    if {"promotion", "registration"} <= story.parts.keys():
        compared = spoken(story.parts["registration"], "evidence/incumbent") is not None
        if compared and spoken(story.parts["promotion"], "replaces") is None:
            yield "promotion: it replaces none, and the gates compared the version with one in production"
    if {"row", "deployment", "activation"} <= story.parts.keys():
        yield from _not_begun(story)


def _said(story: Story, path: str) -> list[tuple[str, object]]:
    """Return the names of those that play a part, and what they say under a name."""
    part, _, name = path.partition(".")
    playing = {one: entry for one, entry in story.parts.items() if one.partition(" ")[0] == part}
    if name == "place":
        return [(one, placed_at(entry)) for one, entry in playing.items()]
    if name == "payload":
        return [(one, json.loads(entry.value or b"null")) for one, entry in playing.items()]
    return [(one, spoken(entry, name)) for one, entry in playing.items()]


def _unlike(story: Story) -> Iterator[str]:
    for path, others in {**SAME, **SAME_IF_SAID}.items():
        them = {
            other: said
            for other in ([others] if isinstance(others, str) else others)
            for _, said in _said(story, other)
        }
        for part, said in _said(story, path) if them else ():
            if said not in them.values() and not (said is None and path in SAME_IF_SAID):
                wanted = " or ".join(f"the {other.replace('.', ' has ')} {value!r}" for other, value in them.items())
                yield f"{part}: its {path.partition('.')[2]} is {said!r}, {wanted}"


def _out_of_order(story: Story) -> Iterator[str]:
    for path, other in NOT_AFTER.items():
        for _, limit in _said(story, other):
            late = [(part, said) for part, said in _said(story, path) if str(said) > str(limit)]
            for part, said in late:
                name = path.partition(".")[2]
                verb = "it was recorded at" if name == "ce_recordedtime" else f"its {name} is"
                yield f"{part}: {verb} {said}, after the {other.replace('.', ' with ')} {limit}"
    leaves = {link.name: link.leaf for link in story.links}
    for first, then in BEFORE.items():
        if first in leaves and then in leaves and leaves[first] >= leaves[then]:
            yield f"{then}: it came before the {first}"


def _misjudged(story: Story) -> Iterator[str]:
    project, made = story.parts["project"], story.parts["registration"]
    definition: Any = spoken(project, "definition")
    canonical = json.dumps(definition, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    if spoken(project, "definition_id") != content_id(canonical):
        yield f"project: its content is {content_id(canonical)}, its definition_id {spoken(project, 'definition_id')}"
    if spoken(made, "stage") != "candidate":
        yield f"registration: its stage is {spoken(made, 'stage')!r}, and not 'candidate'"
    gates: Any = spoken(made, "gates") or []
    judged = {gate["name"]: gate for gate in gates}
    if not gates:
        yield "registration: no gate judged the version"
    elif sorted(judged) != sorted(GATES) or len(judged) != len(gates):
        yield f"registration: gates {', '.join(judged)} judged it, and not {', '.join(GATES)}"
    settings = definition["models"].get(spoken(made, "model"), {}).get("gates", {})
    for name in judged.keys() & GATES.keys() if settings else ():
        yield from _gate(name, judged[name], settings, spoken(made, GATES[name][2]))
    sure, asked = spoken(made, "evidence/incumbent/confidence"), settings.get("confidence", 0)
    if spoken(made, "evidence/incumbent") is not None and not (isinstance(sure, float) and sure >= asked):
        yield f"registration: the comparison is sure to {sure}, {asked} is asked for"


def _gate(name: str, gate: Any, settings: Any, evidence: object) -> Iterator[str]:
    setting, sign, _, least, first = GATES[name]
    figure, limit = gate["figure"], sign * settings[setting]
    if gate["limit"] != limit:
        yield f"registration: gate {name} was held against {gate['limit']}, the project has {limit}"
    if figure != evidence:
        yield f"registration: gate {name} judged {figure}, the evidence has {evidence}"
    kept = first if figure is None else figure >= limit if least else figure <= limit
    if not kept or gate["passed"] is not True:
        yield f"registration: gate {name} did not pass with {figure} against {limit}"


def _not_begun(story: Story) -> Iterator[str]:
    """Yield how the activation did not reach the place that was answered."""
    stream, _, offset = str(spoken(story.parts["prediction"], "position")).rpartition("/")
    topic, _, partition = stream.rpartition("/")
    reads = RowComputed.topic_of(str(spoken(story.parts["deployment"], "feature_set")))
    offsets: Any = spoken(story.parts["activation"], "from_offsets")
    if topic != reads:
        yield f"activation: it reads {reads}, and the answer is to {topic}"
    elif offset.isdecimal() and int(offset) < offsets.get(partition, 0):
        yield f"activation: it begins at offset {offsets[partition]} of partition {partition}, and not {offset}"
