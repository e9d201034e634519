from typing import Any

import pytest

from mainstem.events.compat import incompatibilities

OLD: dict[str, Any] = {
    "type": "object",
    "description": "A thing.",
    "$defs": {"Part": {"type": "object", "properties": {"size": {"type": "integer"}}, "required": ["size"]}},
    "properties": {
        "name": {"type": "string"},
        "note": {"type": "string", "default": ""},
        "figure": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        "parts": {"type": "array", "items": {"$ref": "#/$defs/Part"}},
        "shares": {"type": "object", "additionalProperties": {"type": "number"}},
        "run": {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "integer"}], "maxItems": 2},
        "verdict": {"enum": ["kept", "broken"], "type": "string"},
    },
    "required": ["name", "figure"],
}


def changed(**properties: Any) -> dict[str, Any]:
    return {**OLD, "properties": {**OLD["properties"], **properties}}


def without(name: str) -> dict[str, Any]:
    return {**OLD, "properties": {k: v for k, v in OLD["properties"].items() if k != name}}


def part(**properties: Any) -> dict[str, Any]:
    return {**OLD, "$defs": {"Part": {"type": "object", "properties": properties, "required": ["size"]}}}


@pytest.mark.parametrize(
    "new",
    [
        pytest.param(OLD, id="nothing"),
        pytest.param(changed(more={"type": "string"}), id="an optional field more"),
        pytest.param(changed(name={"type": "string", "description": "Better said."}), id="another description"),
        pytest.param({**OLD, "title": "Thing"}, id="a title"),
        pytest.param(part(size={"type": "integer"}, colour={"type": "string"}), id="an optional field more, deeper"),
    ],
)
def test_only_optional_fields_and_prose_may_change(new: dict[str, Any]) -> None:
    assert incompatibilities(OLD, new) == []


@pytest.mark.parametrize(
    ("new", "fault"),
    [
        pytest.param(without("note"), ".note: removed", id="removed"),
        pytest.param({**OLD, "required": ["name", "figure", "note"]}, ".note: became required", id="required"),
        pytest.param(
            changed(note={"type": "string", "default": "none"}),
            ".note: {'type': 'string', 'default': ''} became {'type': 'string', 'default': 'none'}",
            id="another default",
        ),
        pytest.param(
            {**changed(more={"type": "string"}), "required": ["name", "figure", "more"]},
            ".more: added as required",
            id="added as required",
        ),
        pytest.param(
            {**OLD, "required": ["name"]}, ".figure: no longer required, so old readers would miss it", id="optional"
        ),
        pytest.param(
            changed(name={"type": "integer"}), ".name: {'type': 'string'} became {'type': 'integer'}", id="type"
        ),
        pytest.param(
            changed(name={"type": "string", "maxLength": 3}),
            ".name: {'type': 'string'} became {'type': 'string', 'maxLength': 3}",
            id="narrowed",
        ),
        pytest.param(
            changed(figure={"type": "number"}), ".figure: {'anyOf': 2} became {'type': 'number'}", id="null forbidden"
        ),
        pytest.param(
            changed(figure={"anyOf": [{"type": "integer"}, {"type": "null"}]}),
            ".figure: {'type': 'number'} became {'type': 'integer'}",
            id="type of an alternative",
        ),
        pytest.param(
            part(size={"type": "string"}), ".parts[].size: {'type': 'integer'} became {'type': 'string'}", id="deeper"
        ),
        pytest.param(
            changed(shares={"type": "object", "additionalProperties": {"type": "string"}}),
            ".shares[]: {'type': 'number'} became {'type': 'string'}",
            id="values of a map",
        ),
        pytest.param(
            changed(run={"type": "array", "prefixItems": [{"type": "integer"}], "maxItems": 2}),
            ".run: {'type': 'array', 'prefixItems': 2, 'maxItems': 2} became "
            "{'type': 'array', 'prefixItems': 1, 'maxItems': 2}",
            id="shorter tuple",
        ),
        pytest.param(
            changed(verdict={"enum": ["kept"], "type": "string"}),
            ".verdict: {'enum': ['kept', 'broken'], 'type': 'string'} became {'enum': ['kept'], 'type': 'string'}",
            id="a value less",
        ),
        pytest.param(
            changed(parts={"type": "array"}),
            ".parts: {'type': 'array', 'items': '…'} became {'type': 'array'}",
            id="items dropped",
        ),
        pytest.param(
            changed(name={"type": "object", "properties": {}}),
            ".name: {'type': 'string'} became {'type': 'object'}",
            id="text became object",
        ),
        pytest.param(
            {**OLD, "additionalProperties": False},
            "payload: {'type': 'object'} became {'type': 'object', 'additionalProperties': False}",
            id="closed",
        ),
    ],
)
def test_an_incompatible_change_is_named(new: dict[str, Any], fault: str) -> None:
    assert incompatibilities(OLD, new) == [fault]
