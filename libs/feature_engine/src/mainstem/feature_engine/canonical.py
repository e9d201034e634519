"""The specification of a feature set as JSON and its address: equal meaning, equal bytes, equal id."""

import hashlib
import json
from collections.abc import Mapping

from mainstem.feature_engine.column_types import ColumnType
from mainstem.feature_engine.definition import (
    AS_OF,
    DECAY,
    Aggregate,
    Definition,
    Feature,
    Local,
    Plain,
    StreamSpec,
    Term,
)

KERNEL = 1
"""Number of the kernel's semantics: raised whenever any definition would give another value than before."""

Json = Mapping[str, object]


def content_id(spec: Json) -> str:
    """Return `sha256:` and the digest of the canonical JSON (sorted keys, no spaces, UTF-8)."""
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def to_spec(definition: Definition) -> dict[str, object]:
    """Return the JSON form of a definition: streams, types, ranges, windows, lateness and the kernel's number."""
    return {
        "feature_set": definition.name,
        "kernel": KERNEL,
        "lateness_us": definition.lateness,
        "streams": [_stream_to_spec(stream) for stream in definition.streams],
        "features": [_feature_to_spec(feature) for feature in definition.features],
    }


def from_spec(spec: Json) -> Definition:
    """Return the definition; raise KeyError, TypeError or ValueError if the JSON has not the form of `to_spec`."""
    if spec["kernel"] != KERNEL:
        raise ValueError(f"kernel {spec['kernel']!r} is not {KERNEL}")
    return Definition(
        _text(spec["feature_set"]),
        _whole(spec["lateness_us"]),
        tuple(_stream_from_spec(stream) for stream in _objects(spec["streams"])),
        tuple(_feature_from_spec(feature) for feature in _objects(spec["features"])),
    )


def _stream_to_spec(stream: StreamSpec) -> dict[str, object]:
    columns = {name: stream.columns[name].as_spec() for name in sorted(stream.columns)}
    return {"name": stream.name, "key": stream.key, "columns": columns}


def _stream_from_spec(spec: Json) -> StreamSpec:
    columns = _object(spec["columns"])
    types = {name: ColumnType.from_spec(_object(columns[name])) for name in sorted(columns)}
    return StreamSpec(_text(spec["name"]), _text(spec["key"]), types)


def _feature_to_spec(feature: Feature) -> dict[str, object]:
    match feature:
        case Plain(name, term):
            return {"name": name, "op": "value", "value": _term_to_spec(term)}
        case Local(name, column, zone, part):
            return {"name": name, "op": "local", "column": column, "zone": zone, "part": part}
        case Aggregate():
            return _aggregate_to_spec(feature)


def _feature_from_spec(spec: Json) -> Feature:
    name, op = _text(spec["name"]), _text(spec["op"])
    if op == "value":
        return Plain(name, _term_from_spec(_object(spec["value"])))
    if op == "local":
        return Local(name, _text(spec["column"]), _text(spec["zone"]), _text(spec["part"]))
    return _aggregate_from_spec(spec, name, op)


def _aggregate_to_spec(feature: Aggregate) -> dict[str, object]:
    spec: dict[str, object] = {"name": feature.name, "op": feature.op, "stream": feature.stream, "key": feature.key}
    if feature.term is not None:
        spec["value"] = _term_to_spec(feature.term)
    spec[_span_name(feature.op)] = feature.span
    if feature.op == DECAY:
        spec |= {"half_life_us": feature.half_life, "tick_us": feature.tick}
    return spec


def _aggregate_from_spec(spec: Json, name: str, op: str) -> Aggregate:
    term = _term_from_spec(_object(spec["value"])) if "value" in spec else None
    stream, key, span = _text(spec["stream"]), _text(spec["key"]), _whole(spec[_span_name(op)])
    if op != DECAY:
        return Aggregate(name, op, stream, key, term, span)
    return Aggregate(name, op, stream, key, term, span, _whole(spec["half_life_us"]), _whole(spec["tick_us"]))


def _span_name(op: str) -> str:
    return "ttl_us" if op in AS_OF else "horizon_us" if op == DECAY else "window_us"


def _term_to_spec(term: Term) -> dict[str, object]:
    return {"column": term.column} | ({} if term.comparison is None else {term.comparison: term.constant})


def _term_from_spec(spec: Json) -> Term:
    column = _text(spec["column"])
    comparisons = [name for name in spec if name != "column"]
    if not comparisons:
        return Term(column)
    (comparison,) = comparisons
    return Term(column, comparison, _whole(spec[comparison]))


def _object(value: object) -> Json:
    if not isinstance(value, Mapping):
        raise TypeError(f"an object is needed, not {value!r}")
    return value


def _objects(value: object) -> list[Json]:
    if not isinstance(value, list):
        raise TypeError(f"a list is needed, not {value!r}")
    return [_object(item) for item in value]


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a text is needed, not {value!r}")
    return value


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"a whole number is needed, not {value!r}")
    return value
