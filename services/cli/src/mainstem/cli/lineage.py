"""Where one feature comes from and who reads it: source columns, what is computed of them, its place, the models."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from mainstem.cli.calls import get
from mainstem.cli.expressions import duration, written
from mainstem.events.errors import Rejected
from mainstem.feature_engine import CompiledSet, Kind
from mainstem.feature_engine.definition import AS_OF, DECAY, Aggregate, Column, columns_read, parts
from mainstem.project import ProjectDefinition

Facts = dict[str, Any]


class Node(NamedTuple):
    """Something, and what it is made of."""

    text: str
    made_of: Sequence["Node"] = ()


def lineage(compiled: CompiledSet, feature: str) -> Facts:
    """Return where a feature comes from, as a document; raise Rejected, naming those there are, for an unknown one."""
    if feature not in compiled.names:
        there = ", ".join(compiled.names)
        raise Rejected(f"feature set {compiled.label!r} has no feature {feature!r}; there are: {there}")
    place = compiled.names.index(feature)
    value = compiled.definition.features[place].value
    aggregates = dict.fromkeys(part for part in parts(value) if isinstance(part, Aggregate))
    own = dict.fromkeys(part.name for part in parts(value) if isinstance(part, Column))
    return {
        "feature_set": compiled.label,
        "id": compiled.id,
        "feature": feature,
        "place": place + 1,
        "of": len(compiled.names),
        "expression": written(value, compiled.spine),
        "aggregates": [_aggregate(compiled, aggregate) for aggregate in aggregates],
        "columns": [_column(compiled, compiled.spine, name) for name in own],
    }


def readers(definition: ProjectDefinition, feature_set: str) -> list[Facts]:
    """Return the model versions that pin the very set, and the models that are to read it and have no version yet."""
    pinned = list(_versions(definition.feature_sets[feature_set].id))
    named = {found["model"] for found in pinned}
    declared = [name for name, model in definition.models.items() if model.feature_set == feature_set]
    return [*pinned, *({"model": name, "version": None, "stage": None} for name in declared if name not in named)]


def drawn(facts: Mapping[str, Any], models: Sequence[Mapping[str, Any]]) -> str:
    """Return the lineage as a tree: above the feature what it is made of, below it who reads it."""
    made_of = [Node(_told(one), [Node(_typed(each)) for each in one["columns"]]) for one in facts["aggregates"]]
    made_of += [Node(_typed(each)) for each in facts["columns"]]
    title = f"{facts['feature']} = {facts['expression']}"
    lines = [*_above(made_of), title, f"│   value {facts['place']} of {facts['of']} in {facts['feature_set']}"]
    below = [_reader(found) for found in models] or ["no model reads it"]
    return "\n".join([*lines, *(f"{'└' if line is below[-1] else '├'}── {line}" for line in below)])


def _aggregate(compiled: CompiledSet, found: Aggregate) -> Facts:
    read = [found.by, *([] if found.value is None else columns_read(found.value))]
    columns = dict.fromkeys([*((found.stream, name) for name in read), (compiled.spine, found.at)])
    return {
        "expression": written(found, compiled.spine),
        "aggregate": found.op,
        "source": found.stream,
        "key": found.by,
        "looked_up_by": found.at,
        **_spans(found),
        "columns": [_column(compiled, *place) for place in columns],
    }


def _spans(found: Aggregate) -> dict[str, str | None]:
    span = None if found.span is None else duration(found.span)
    if found.op == DECAY:
        return {"horizon": span, "half_life": duration(found.half_life), "tick": duration(found.tick)}
    if found.op in AS_OF:
        return {"ttl": span}
    return {"window": span, "hop": duration(found.hop) if found.hop else None}


def _column(compiled: CompiledSet, source: str, name: str) -> Facts:
    kind = compiled.streams[source][name]
    facts: Facts = {"source": source, "column": name, "type": str(kind.kind)}
    if kind.kind is Kind.FIXED:
        low, high = (None if bound is None else bound / kind.scale for bound in (kind.lo, kind.hi))
        facts |= {"unit": kind.unit, "scale": kind.scale, "lo": low, "hi": high}
    return facts


def _versions(identity: str) -> Iterator[Facts]:
    for model in get("registry", "/v1/models")["models"]:
        path = f"/v1/models/{quote(model['model'], safe='')}"
        for version in get("registry", path)["versions"]:
            if get("registry", f"{path}/versions/{version['version']}")["feature_set"] == identity:
                yield {"model": model["model"], "version": version["version"], "stage": version["stage"]}


def _above(nodes: Sequence[Node]) -> Iterator[str]:
    """Yield the lines of trees that grow upwards: what a thing is made of stands above it."""
    for number, node in enumerate(nodes):
        for line in _above(node.made_of):
            yield f"{'│' if number else ' '}   {line}"
        yield f"{'├' if number else '┌'}── {node.text}"


def _told(found: Mapping[str, Any]) -> str:
    spans = [f"{name.replace('_', '-')} {found[name]}" for name in _SPANS if found.get(name)]
    if "ttl" in found and found["ttl"] is None:
        spans = ["however old"]
    by = found["key"] if found["key"] == found["looked_up_by"] else f"{found['key']} = {found['looked_up_by']}"
    return f"{found['expression']}  (key {by}, {', '.join(spans)})"


_SPANS = ("window", "hop", "ttl", "horizon", "half_life", "tick")


def _typed(found: Mapping[str, Any]) -> str:
    told = [found["type"]]
    if "unit" in found:
        low, high = ("open" if found[name] is None else f"{found[name]:.15g}" for name in ("lo", "hi"))
        told += [found["unit"], f"scale {found['scale']}", f"{low} to {high}"]
    return f"{found['source']}.{found['column']}  ({', '.join(told)})"


def _reader(found: Mapping[str, Any]) -> str:
    if found["version"] is None:
        return f"{found['model']}, no version yet"
    return f"{found['model']} {found['version']}, {found['stage']}"
