"""The story of an answer as a page for people; every line says at which leaf the log has it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from mainstem.audit.entries import printable
from mainstem.cli.evidence.story import Statement, Story

_CHAPTERS: Final = {
    "ANSWER": ("id", "moment", "model", "version", "channel", "actor", "entity", "correlation", "trace"),
    "SCORE": ("position", "score"),
    "INPUTS": ("feature_set", "features", "row", "accepted_record", "source_record"),
    "MODEL": ("project", "request", "run", "code", "environment", "dataset", "onnx", "profile", "evaluation"),
    "DECISION": ("gates", "builders", "approval", "promotion", "rollback", "receipts"),
    "IN FORCE": ("deployment", "activation", "rollout"),
    "STATE": ("drift", "alerts"),
    "OUTCOME": ("outcome",),
    "PROOF": ("checkpoint",),
}
#: What headers and parts of payloads are called here.
_NAMES: Final = {
    "ce_id": "event id",
    "ce_time": "happened",
    "ce_recordedtime": "recorded",
    "ce_actor": "actor",
    "ce_origin": "origin",
    "ce_correlationid": "correlation",
    "ce_causationid": "caused by",
}
#: Of the records behind a value so many are shown, the newest.
_NEWEST: Final = 3
_WIDTH: Final = 20


def page(story: Story) -> Iterator[str]:
    """Yield the lines."""
    for title, names in _CHAPTERS.items():
        yield title
        for name in names:
            yield from _features(story) if name == "features" else _field(story, name)
        yield ""
    yield "CONTRADICTIONS" if story.faults else "CONTRADICTIONS  none"
    yield from (f"  {printable(fault)}" for fault in story.faults)
    lacking = story.document()["gaps"]
    yield "NOT TOLD" if lacking else "NOT TOLD  nothing"
    if isinstance(lacking, Mapping):
        yield from (f"  {_worded(name):<{_WIDTH}}{printable(str(reason))}" for name, reason in lacking.items())


def _field(story: Story, name: str) -> Iterator[str]:
    for statement in story.statements.get(name, ()):
        said = {**statement.says, **statement.derived}
        if len(said) == 1 and not isinstance(value := next(iter(said.values())), Mapping | list):
            yield f"  {_worded(name):<{_WIDTH}}{_shown(value)}{_at(statement)}"
            continue
        yield f"  {_worded(name)}{_at(statement)}"
        yield from _parts(said, "    ")


def _parts(said: Mapping[str, object], indent: str) -> Iterator[str]:
    for path, value in said.items():
        name = _NAMES.get(path) or _worded(path.rpartition("/")[2])
        if isinstance(value, Mapping) and value:
            yield f"{indent}{name}"
            yield from _parts(value, f"{indent}  ")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            yield f"{indent}{name}"
            yield from (f"{indent}  {_line(each)}" for each in value)
        else:
            yield f"{indent}{name:<{_WIDTH}}{_shown(value)}"


def _features(story: Story) -> Iterator[str]:
    """Yield each feature with its value, its expression and the newest records behind it."""
    for statement in story.statements.get("features", ()):
        yield f"  features{_at(statement)}"
        again = {each["name"]: each for each in _listed(story.statements.get("records", ()))}
        for feature in _listed([statement]):
            name, expression = printable(str(feature["name"])), printable(str(feature["expression"]))
            yield f"    {name:<{_WIDTH}}{_shown(feature['value']):<24}{expression}"
            yield from _records(again.get(feature["name"]))


def _records(again: Mapping[str, Any] | None) -> Iterator[str]:
    if again is None:
        return
    same = "the same bits" if again["equal"] else f"OTHERWISE: {_shown(again['recomputed'])}"
    yield f"    {'':<{_WIDTH}}evaluated again, records {again['count']}: {same}"
    for words, records in again["records"].items():
        for record in records[-_NEWEST:][::-1]:
            place = printable(f"{record['event_time']}  {record['source']}  leaf {record['leaf']}")
            yield f"    {'':<{_WIDTH}}  {_shown(record['value']):<22}{place}"
        if len(records) > _NEWEST:
            yield f"    {'':<{_WIDTH}}  and {len(records) - _NEWEST} more in {printable(words)}"


def _listed(statements: Sequence[Statement]) -> list[Mapping[str, Any]]:
    found = [statement.derived.get("features") for statement in statements]
    return [each for part in found if isinstance(part, list) for each in part]


def _at(statement: Statement) -> str:
    return "" if statement.leaf is None else f"  [leaf {statement.leaf}]"


def _worded(name: str) -> str:
    return printable(name.replace("_", " "))


def _line(value: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {_shown(each)}" for name, each in value.items())


def _shown(value: object) -> str:
    if isinstance(value, str):
        return printable(value)
    return "none" if value is None else json.dumps(value)
