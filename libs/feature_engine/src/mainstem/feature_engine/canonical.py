"""The specification of a feature set as JSON and its address: equal meaning, equal bytes, equal id."""

import hashlib
import json
from collections.abc import Mapping

from mainstem.feature_engine.column_types import ColumnType
from mainstem.feature_engine.definition import (
    AS_OF,
    DECAY,
    Aggregate,
    Column,
    Definition,
    Expression,
    Feature,
    Local,
    Number,
    Operation,
    StreamSpec,
    Target,
    Text,
)

KERNEL = 2
"""Number of the kernel's semantics: raised whenever any definition would give another value than before."""

Json = Mapping[str, object]


def content_id(spec: Json) -> str:
    """Return `sha256:` and the digest of the canonical JSON (sorted keys, no spaces, UTF-8), the target left out."""
    counted = {name: part for name, part in spec.items() if name != "target"}
    text = json.dumps(counted, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def to_spec(definition: Definition) -> dict[str, object]:
    """Return the JSON form of a definition: streams, types, ranges, windows, lateness and the kernel's number."""
    return {
        "feature_set": definition.name,
        "version": definition.version,
        "kernel": KERNEL,
        "lateness_us": definition.lateness,
        "streams": [_stream_to_spec(stream) for stream in definition.streams],
        "features": [{"name": feature.name, "value": _to_spec(feature.value)} for feature in definition.features],
        "target": _target_to_spec(definition.target),
    }


def from_spec(spec: Json) -> Definition:
    """Return the definition; raise KeyError, TypeError or ValueError if the JSON has not the form of `to_spec`."""
    if spec["kernel"] != KERNEL:
        raise ValueError(f"kernel {spec['kernel']!r} is not {KERNEL}")
    features = [_object(feature) for feature in _list(spec["features"])]
    return Definition(
        _text(spec["feature_set"]),
        _whole(spec["version"]),
        _whole(spec["lateness_us"]),
        tuple(_stream_from_spec(_object(stream)) for stream in _list(spec["streams"])),
        tuple(Feature(_text(feature["name"]), _from_spec(_object(feature["value"]))) for feature in features),
        None if spec.get("target") is None else _target_from_spec(_object(spec["target"])),
    )


def _stream_to_spec(stream: StreamSpec) -> dict[str, object]:
    columns = {name: stream.columns[name].as_spec() for name in sorted(stream.columns)}
    return {"name": stream.name, "key": stream.key, "columns": columns}


def _stream_from_spec(spec: Json) -> StreamSpec:
    columns = _object(spec["columns"])
    types = {name: ColumnType.from_spec(_object(columns[name])) for name in sorted(columns)}
    return StreamSpec(_text(spec["name"]), _text(spec["key"]), types)


def _target_to_spec(target: Target | None) -> dict[str, object] | None:
    if target is None:
        return None
    place = {"name": target.name, "stream": target.stream, "on": target.on, "column": target.column}
    return {**place, "above": _to_spec(target.above), "wait_us": target.wait}


def _target_from_spec(spec: Json) -> Target:
    name, stream, on, column = (_text(spec[field]) for field in ("name", "stream", "on", "column"))
    above = _from_spec(_object(spec["above"]))
    if not isinstance(above, Number):
        raise TypeError(f"a number is needed, not {above!r}")
    return Target(name, stream, on, column, above, _whole(spec["wait_us"]))


def _to_spec(expression: Expression) -> dict[str, object]:
    match expression:
        case Column(name):
            return {"column": name}
        case Number(value, scale):
            return {"number": value, "scale": scale}
        case Text(value):
            return {"text": value}
        case Operation(op, args):
            return {"op": op, "args": [_to_spec(arg) for arg in args]}
        case Local(part, zone, of):
            return {"local": part, "zone": zone, "of": _to_spec(of)}
        case Aggregate():
            return _aggregate_to_spec(expression)


def _from_spec(spec: Json) -> Expression:
    if "column" in spec:
        return Column(_text(spec["column"]))
    if "number" in spec:
        return _number(_whole(spec["number"]), _whole(spec["scale"]))
    if "text" in spec:
        return Text(_text(spec["text"]))
    if "op" in spec:
        return Operation(_text(spec["op"]), tuple(_from_spec(_object(arg)) for arg in _list(spec["args"])))
    if "local" in spec:
        return Local(_text(spec["local"]), _text(spec["zone"]), _from_spec(_object(spec["of"])))
    return _aggregate_from_spec(spec, _text(spec["aggregate"]))


def _number(value: int, scale: int) -> Number:
    if scale < 1 or str(scale).strip("0") != "1" or (scale > 1 and value % 10 == 0):
        raise ValueError(f"{value}/{scale} is no decimal number in lowest terms")
    return Number(value, scale)


def _aggregate_to_spec(found: Aggregate) -> dict[str, object]:
    spec: dict[str, object] = {"aggregate": found.op, "stream": found.stream, "by": found.by, "at": found.at}
    if found.value is not None:
        spec["value"] = _to_spec(found.value)
    if found.op in AS_OF:
        return spec | {"ttl_us": found.span}
    if found.op == DECAY:
        return spec | {"horizon_us": found.span, "half_life_us": found.half_life, "tick_us": found.tick}
    return spec | {"window_us": found.span, "hop_us": found.hop}


def _aggregate_from_spec(spec: Json, op: str) -> Aggregate:
    value = _from_spec(_object(spec["value"])) if "value" in spec else None
    place = op, _text(spec["stream"]), _text(spec["by"]), _text(spec["at"]), value
    if op in AS_OF:
        return Aggregate(*place, None if spec["ttl_us"] is None else _whole(spec["ttl_us"]))
    if op == DECAY:
        half_life, tick = _whole(spec["half_life_us"]), _whole(spec["tick_us"])
        return Aggregate(*place, _whole(spec["horizon_us"]), half_life=half_life, tick=tick)
    return Aggregate(*place, _whole(spec["window_us"]), _whole(spec["hop_us"]))


def _object(value: object) -> Json:
    if not isinstance(value, Mapping):
        raise TypeError(f"an object is needed, not {value!r}")
    return value


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(f"a list is needed, not {value!r}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a text is needed, not {value!r}")
    return value


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"a whole number is needed, not {value!r}")
    return value
