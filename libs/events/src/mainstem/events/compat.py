"""Whether one JSON Schema may take the place of another: old readers read new events, new readers read old ones."""

from typing import Any

Schema = dict[str, Any]

#: Words about a schema that change nothing for a reader.
_PROSE = {"description", "title", "$schema", "$id", "examples"}
#: Words whose content is compared part by part.
_BRANCHES = ("items", "additionalProperties")
_ALTERNATIVES = ("anyOf", "prefixItems")
_PARTS = {"$defs", "properties", "required"}


def incompatibilities(old: Schema, new: Schema) -> list[str]:
    """Return what forbids the change from `old` to `new`; empty when only optional fields were added.

    Fields may be added when they are not required. None may be removed, become required or optional, or change type.
    Nor may its default change: that is how a history reads in which the field is not there yet.
    """
    found: list[str] = []
    _compare(_Pair(old, old), _Pair(new, new), "", found)
    return found


class _Pair:
    """A schema and the document in which its references are resolved."""

    def __init__(self, schema: Schema, document: Schema) -> None:
        while "$ref" in schema:
            schema = document["$defs"][schema["$ref"].removeprefix("#/$defs/")]
        self.schema = schema
        self.document = document

    def at(self, schema: Schema) -> "_Pair":
        return _Pair(schema, self.document)


def _compare(old: _Pair, new: _Pair, path: str, found: list[str]) -> None:
    a, b = old.schema, new.schema
    if _facets(a) != _facets(b):
        found.append(f"{path or 'payload'}: {_facets(a)} became {_facets(b)}")
        return
    if "properties" in a or "properties" in b:
        _compare_object(old, new, path, found)
    for branch in _BRANCHES:
        if isinstance(a.get(branch), dict):
            _compare(old.at(a[branch]), new.at(b[branch]), f"{path}[]", found)
    for branch in _ALTERNATIVES:
        for one, other in zip(a.get(branch, []), b.get(branch, []), strict=True):
            _compare(old.at(one), new.at(other), path, found)


def _facets(schema: Schema) -> Schema:
    """Return what a schema says of itself: all but prose, and of its parts only that they are there."""
    said = {name: value for name, value in schema.items() if name not in _PROSE | _PARTS}
    for name in (*_BRANCHES, *_ALTERNATIVES):
        if isinstance(said.get(name), (dict, list)):
            said[name] = "…" if isinstance(said[name], dict) else len(said[name])
    return said


def _compare_object(old: _Pair, new: _Pair, path: str, found: list[str]) -> None:
    a, b = old.schema.get("properties", {}), new.schema.get("properties", {})
    must_old, must_new = set(old.schema.get("required", [])), set(new.schema.get("required", []))
    found += [f"{path}.{name}: removed" for name in sorted(a.keys() - b.keys())]
    found += [
        f"{path}.{name}: {'became' if name in a else 'added as'} required" for name in sorted(must_new - must_old)
    ]
    found += [
        f"{path}.{name}: no longer required, so old readers would miss it"
        for name in sorted((must_old - must_new) & b.keys())
    ]
    for name in sorted(a.keys() & b.keys()):
        _compare(old.at(a[name]), new.at(b[name]), f"{path}.{name}", found)
