"""Whether one JSON Schema may take the place of another: old readers read new events, new readers read old ones."""

from typing import Any

Schema = dict[str, Any]

#: Words about a schema that change nothing for a reader.
_PROSE = {"description", "title", "$schema", "$id", "default", "examples"}


def incompatibilities(old: Schema, new: Schema) -> list[str]:
    """Return what forbids the change from `old` to `new`; empty when only optional fields were added.

    Fields may be added when they are not required. None may be removed, become required or optional, or change type.
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
    if "properties" in a or "properties" in b:
        _compare_object(old, new, path, found)
        return
    for branch in ("items", "additionalProperties"):
        if isinstance(a.get(branch), dict) and isinstance(b.get(branch), dict):
            _compare(old.at(a[branch]), new.at(b[branch]), f"{path}[]", found)
    for branch in ("anyOf", "prefixItems"):
        if len(a.get(branch, [])) == len(b.get(branch, [])):
            for one, other in zip(a.get(branch, []), b.get(branch, []), strict=True):
                _compare(old.at(one), new.at(other), path, found)
        else:
            found.append(f"{path or 'payload'}: alternatives changed")
    nested = _PROSE | {"items", "additionalProperties", "anyOf", "prefixItems", "$defs"}
    facets_old = {k: v for k, v in a.items() if k not in nested or isinstance(v, bool)}
    facets_new = {k: v for k, v in b.items() if k not in nested or isinstance(v, bool)}
    if facets_old != facets_new:
        found.append(f"{path or 'payload'}: {facets_old} became {facets_new}")


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
