"""One valid example of each fact, made from its own schema."""

import json
from typing import Any, TypeVar

from mainstem.events.fact import Fact

F = TypeVar("F", bound=Fact)
Schema = dict[str, Any]

_PLAIN: Schema = {"string": "text", "integer": 0, "number": 0.5, "boolean": True, "null": None}


def example(fact: type[F], **given: object) -> F:
    """Return a `fact` with every field filled, those in `given` as given."""
    schema = fact.model_json_schema()
    fields = {name: _value(part, schema.get("$defs", {})) for name, part in schema["properties"].items()}
    return fact.model_validate_json(json.dumps({**fields, **given}))


def _value(part: Schema, definitions: Schema) -> object:
    if "$ref" in part:
        part = definitions[part["$ref"].removeprefix("#/$defs/")]
    if "enum" in part or "const" in part:
        return part.get("enum", [part.get("const")])[0]
    if "anyOf" in part:
        return _value(part["anyOf"][0], definitions)
    if "prefixItems" in part:
        return [_value(item, definitions) for item in part["prefixItems"]]
    if part.get("type") == "array":
        return [_value(part["items"], definitions)]
    if part.get("type") == "object":
        return {name: _value(value, definitions) for name, value in _members(part).items()}
    return _PLAIN[part.get("type", "string")]


def _members(part: Schema) -> Schema:
    inside = part.get("additionalProperties")
    return part.get("properties") or ({"key": inside} if isinstance(inside, dict) else {})
