"""What the entries of a story must say alike, and which of them must have been on record when it was answered.

`tools/check_explanation.py` holds a bundle against the same rules, without this code.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from mainstem.cli.evidence.story import spoken
from mainstem.events.frames import Entry

#: By a name of the answer, the parts that say it, too, under a name.
_ANSWER: Final = {
    "feature_definition": {"registration": "feature_set", "deployment": "feature_definition", "row": "definition"},
    "onnx": dict.fromkeys(("run", "registration", "approval", "deployment", "activation"), "onnx"),
    "version": dict.fromkeys(
        ("registration", "approval", "promotion", "deployment", "activation", "window"), "version"
    ),
    "model": dict.fromkeys(("request", "run", "dataset", "registration", "approval", "promotion"), "model")
    | dict.fromkeys(("deployment", "activation", "window"), "model"),
}
#: By a name of the registration, the parts that say it, too.
_REGISTRATION: Final = {
    "run": {"request": "run", "run": "run", "dataset": "request"},
    "dataset": {"run": "dataset", "dataset": "dataset"},
    "profile": {"run": "profile", "deployment": "profile"},
    "definition": {"run": "definition", "dataset": "definition"},
    "feature_set": {"run": "feature_set", "dataset": "feature_set"},
    "project": dict.fromkeys(("project", "request", "run", "dataset", "deployment"), "project"),
}
_CHAIN: Final = {"prediction": _ANSWER, "registration": _REGISTRATION}
#: What must have been on record by the time of the answer.
_BEFORE: Final = ("project", "run", "registration", "approval", "promotion", "deployment", "activation")


def contradictions(parts: Mapping[str, Entry]) -> Iterator[str]:
    """Yield what does not hold together among the entries that play the parts of a story."""
    for of, names in _CHAIN.items():
        for its, said in names.items():
            for part, name in said.items():
                if of in parts and part in parts and spoken(parts[part], name) != spoken(parts[of], its):
                    yield (
                        f"{part}: its {name} is {spoken(parts[part], name)!r}, the {of} has {its} "
                        f"{spoken(parts[of], its)!r}"
                    )
    answered = str(spoken(parts["prediction"], "ce_recordedtime"))
    for part in _BEFORE:
        if part in parts and str(spoken(parts[part], "ce_recordedtime")) > answered:
            recorded = spoken(parts[part], "ce_recordedtime")
            yield f"{part}: it was recorded at {recorded}, after the answer of {answered}"
    if "registration" in parts and not spoken(parts["registration"], "gates"):
        yield "registration: no gate judged the version"
