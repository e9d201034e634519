"""What the Open Inference Protocol says of our models and carries to them, on whatever transport."""

from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from random import Random

import msgspec
import numpy as np
import orjson

from mainstem.events.errors import NO_DOCUMENT
from mainstem.inference import Answer as Given
from mainstem.inference import Parameters, Request, Signature, Spec, Tensor, Wanted, fields, messages
from mainstem.inference import open_inference_pb2 as pb
from mainstem.inference.errors import BadRequest, Unsupported
from mainstem.inference.tensors import BYTES, to_bytes
from mainstem.serving.domain import Activation, Followed, Indexed, Usage
from mainstem.serving.engine import INPUT, OUTPUT
from mainstem.serving.entities import Columns, Floats
from mainstem.serving.ports import Answer

PLATFORM = "onnx_onnxv1"
#: What the server calls itself.
NAME = "mainstem"
#: What callers hear for whom a turn of the loop has no time.
CROWDED = "more was asked at once than can be answered in time; try again"
#: Names calls that have no name; no secret.
_names = Random()
#: Every output, as JSON.
ALL: Sequence[Wanted] = (Wanted(OUTPUT, raw=False),)
ALL_RAW: Sequence[Wanted] = (Wanted(OUTPUT, raw=True),)
#: Tags of the fields of ModelInferResponse, of the entries of its map, and of a parameter that is a text.
_ID, _PARAMETERS, _RAW = 0x1A, 0x22, 0x32
_KEY, _VALUE, _TEXT = 0x0A, 0x12, 0x1A
EXTENSIONS = ("binary_tensor_data", "model_repository", "statistics")
#: On gRPC tensors are binary without an extension.
GRPC_EXTENSIONS = EXTENSIONS[1:]


def new_id() -> str:
    """Return an id for a call that has none."""
    return f"{_names.getrandbits(128):032x}"


class _Index(msgspec.Struct):
    ready: bool = False


class _Change(msgspec.Struct):
    parameters: dict[str, bool | int | float | str] = {}


_read_index = msgspec.json.Decoder(_Index).decode
_read_change = msgspec.json.Decoder(_Change).decode
#: Parameters of a load that bring a model along.
_BROUGHT = ("config", "file:")


@cache
def signature(width: int) -> Signature:
    """Return what a model of so many features takes and gives."""
    return Signature((Spec(INPUT, "FP64", (-1, width)),), (Spec(OUTPUT, "FP64", (-1, 2)),))


def metadata(activation: Activation, followed: Followed | None) -> dict[str, object]:
    """Return what the protocol says about a model, and what is followed of its features if it is called by entity."""
    form = signature(len(activation.features))
    return {
        "name": activation.model,
        "versions": [str(activation.version)],
        "platform": PLATFORM,
        **told(form),
        "properties": properties(activation, followed),
    }


def told(form: Signature) -> dict[str, object]:
    """Return what a model takes and gives, as the protocol says it."""
    return {"inputs": [_told(spec) for spec in form.inputs], "outputs": [_told(spec) for spec in form.outputs]}


def properties(activation: Activation, followed: Followed | None) -> dict[str, str]:
    """Return what we say about a model beyond the protocol.

    `entity_inputs` are the tensors that describe entities in place of `inputs`, in the same form.
    """
    found = {
        "onnx": activation.onnx,
        "feature_set": activation.feature_set,
        "feature_definition": activation.feature_definition,
        "features": orjson.dumps(activation.features).decode(),
    }
    if followed is not None:
        tensors = [_told(Spec(name, datatype, (-1,))) for name, datatype in sorted(followed.columns.items())]
        found["entity_inputs"] = orjson.dumps(tensors).decode()
    return found


def rows(request: Request, form: Signature) -> tuple[Floats, Columns | None, Sequence[Wanted]]:
    """Return the one input, or the columns that describe entities instead of it, and the outputs to give.

    Raises BadRequest for tensors that such a model has not.
    """
    wanted = ALL if request.outputs is None and not request.raw else request.wanted(form)
    if request.inputs and all(tensor.name != INPUT for tensor in request.inputs):
        columns = described(request.inputs)
        return np.empty((request.inputs[0].values.size, 0)), columns, wanted
    form.accept(request.inputs)
    return np.asarray(request.inputs[0].values, np.float64), None, wanted


def described(tensors: Sequence[Tensor]) -> Columns:
    """Return what tensors say of entities, each a column; raise BadRequest when one is no column, or there twice."""
    names = [tensor.name for tensor in tensors]
    shapes = [tensor.values.shape for tensor in tensors]
    if len(set(names)) != len(names) or any(len(shape) != 1 and shape[1:] != (1,) for shape in shapes):
        or_else = "or columns that describe entities, each once and of shape [n] or [n, 1]"
        raise BadRequest(f"the inputs are {names}; send each of {[INPUT]} once, {or_else}")
    return {tensor.name: _column(tensor) for tensor in tensors}


def _column(tensor: Tensor) -> list[object]:
    """Return the values of a tensor; null and NaN are unknown."""
    values, unknown = tensor.values, tensor.unknown
    if tensor.datatype == BYTES:
        try:
            found: list[object] = [cell.decode() for cell in values.ravel()]
        except UnicodeDecodeError as fault:
            raise BadRequest(f"input {tensor.name!r} is no UTF-8: {fault}") from fault
    else:
        found = values.ravel().tolist()
        unknown = np.isnan(values) if values.dtype.kind == "f" else unknown
    for place in () if unknown is None else np.flatnonzero(unknown).tolist():
        found[place] = None
    return found


def raw_rows(request: Request) -> Floats | None:
    """Return the same for a request in which only the number of inputs may be wrong; None for every other."""
    if request.outputs is not None or not request.raw or len(request.inputs) != 1:
        return None
    (tensor,) = request.inputs
    values = tensor.values
    if tensor.name != INPUT or values.dtype != np.float64 or values.ndim != 2 or not values.shape[1]:
        return None
    return values


def entity_of(parameters: Parameters) -> str | None:
    """Return the entity that a request names. Raises BadRequest when it is no text."""
    entity = parameters.get("entity")
    if entity is not None and not isinstance(entity, str):
        raise BadRequest(f"parameter 'entity' is {entity!r}; send the entity's key as a string")
    return entity or None


def timeout_of(parameters: Parameters, most_s: float) -> float:
    """Return how long a caller waits (s), who may not wait longer than that; 0 is no word. Raises BadRequest."""
    timeout_us = parameters.get("timeout", 0)
    if isinstance(timeout_us, bool) or not isinstance(timeout_us, int) or timeout_us < 0:
        raise BadRequest(f"parameter 'timeout' is {timeout_us!r}; send a whole number of microseconds")
    return within(timeout_us, most_s)


def within(timeout_us: int, most_s: float) -> float:
    """Return how long a caller waits (s) who says so, and may not wait longer than that; 0 is no word."""
    return min(timeout_us, most_s * 1e6) * 1e-6 if timeout_us else most_s


def given(answer: Answer, wanted: Sequence[Wanted]) -> Given:
    """Return an answer as the protocol gives it."""
    outputs = [(Tensor(OUTPUT, answer.probabilities), output.raw) for output in wanted]
    return Given(answer.model, str(answer.version), answer.id, outputs, answer.parameters(), answer.traceparent)


def plain(answer: Answer, prediction: str) -> bytes:
    """Return an answer with every output as JSON: what `rest.write` makes of it, for less."""
    tensor = b'{"name":"%b","datatype":"FP64","shape":[%d,2],"data":%b}' % (
        OUTPUT.encode(),
        len(answer.probabilities),
        _flat(answer.probabilities),
    )
    return b'%b"id":%b,"parameters":%b"prediction_id":"%b"%b},"outputs":[%b]}' % (
        _opening(answer.model, answer.version),
        orjson.dumps(answer.id),
        _place(answer.position, answer.recorded),
        prediction.encode(),
        b"" if answer.as_of is None else b"," + answer.as_of.written,
        tensor,
    )


def _flat(rows: Floats) -> bytes:
    """Return numbers as one JSON array; a single row costs less as a list."""
    if len(rows) == 1:
        return orjson.dumps(rows.tolist()[0])
    return orjson.dumps(rows.ravel(), option=orjson.OPT_SERIALIZE_NUMPY)


def raw(answer: Answer) -> bytes:
    """Return an answer with every output raw, whose features the caller brought.

    It is what `messages.write` makes of it, for less.
    """
    content = to_bytes(answer.probabilities)
    return b"".join(
        (
            _named(answer.model, answer.version),
            fields.field(_ID, answer.id.encode()),
            _placed(answer.position, answer.recorded),
            b"" if answer.prediction is None else _parameter("prediction_id", answer.prediction.encode()),
            _output(len(answer.probabilities)),
            fields.field(_RAW, content),
        )
    )


@cache
def _named(model: str, version: int) -> bytes:
    named: bytes = pb.ModelInferResponse(model_name=model, model_version=str(version)).SerializeToString()
    return named


@lru_cache(maxsize=16)
def _placed(position: str, recorded: str) -> bytes:
    return _parameter("position", position.encode()) + _parameter("recorded_time", recorded.encode())


def _parameter(name: str, text: bytes) -> bytes:
    return _before(name, len(text)) + text


@lru_cache(maxsize=256)
def _before(name: str, size: int) -> bytes:
    """Return an entry of the map up to its value, which is a parameter that is a text, of so many bytes."""
    value = fields.field(_TEXT, bytes(size))
    entry = fields.field(_PARAMETERS, fields.field(_KEY, name.encode()) + fields.field(_VALUE, value))
    return entry[: len(entry) - size]


@lru_cache(maxsize=256)
def _output(count: int) -> bytes:
    """Return what is said about the output when there are so many rows."""
    none = Given("", "", "", [(Tensor(OUTPUT, np.zeros((count, 2))), True)])
    message = messages.write(none)
    del message.raw_output_contents[:]
    said: bytes = message.SerializeToString()
    return said


@lru_cache(maxsize=16)
def _place(position: str, recorded: str) -> bytes:
    return orjson.dumps({"position": position, "recorded_time": recorded})[:-1] + b","


@cache
def _opening(model: str, version: int) -> bytes:
    return orjson.dumps({"model_name": model, "model_version": str(version)})[:-1] + b","


def read_index(body: bytes) -> bool:
    """Return whether only what is ready is to be listed. Raises BadRequest; nothing at all is a question too."""
    try:
        return _read_index(body or b"{}").ready
    except NO_DOCUMENT as fault:
        raise BadRequest(f"the body is no question for the index: {fault}") from fault


def read_parameters(body: bytes) -> Parameters:
    """Return the parameters of a load or an unload; raise BadRequest for a body that is none. It may be empty."""
    try:
        parameters = _read_change(body or b"{}").parameters
    except NO_DOCUMENT as fault:
        raise BadRequest(f"the body is no request to load or unload: {fault}") from fault
    return parameters


def bring_nothing(names: Iterable[str]) -> None:
    """Raise Unsupported for parameters of a load that bring a model, or how it is to be served."""
    brought = [name for name in names if name.startswith(_BROUGHT)]
    if brought:
        raise Unsupported(f"a load takes the model as it lies in the repository, not from parameters: {brought}")


def indexed(one: Indexed) -> dict[str, str]:
    """Return how a version stands in the index."""
    return {"name": one.name, "version": one.version, "state": one.state, "reason": one.reason}


def unloading(live: Activation) -> Unsupported:
    """Return why a version is not unloaded."""
    return Unsupported(
        f"{live.model} version {live.version} answers because it was approved and promoted; promote another version, "
        "or roll back, with `mainstem model`"
    )


def used(usage: Usage) -> dict[str, object]:
    """Return what was done for a version, as the extension `statistics` has it."""

    def spent(count: int, ns: int) -> dict[str, int]:
        return {"count": count, "ns": ns}

    return {
        "name": usage.name,
        "version": usage.version,
        "last_inference": usage.last_ms,
        "inference_count": usage.rows,
        "execution_count": usage.runs,
        "inference_stats": {
            "success": spent(usage.answered, usage.queue_ns + usage.compute_ns),
            "fail": spent(usage.refused, 0),
            "queue": spent(usage.answered, usage.queue_ns),
            "compute_input": spent(usage.answered, 0),
            "compute_infer": spent(usage.answered, usage.compute_ns),
            "compute_output": spent(usage.answered, 0),
        },
        "batch_stats": [
            {
                "batch_size": rows,
                "compute_input": spent(runs, 0),
                "compute_infer": spent(runs, ns),
                "compute_output": spent(runs, 0),
            }
            for rows, (runs, ns) in sorted(usage.by_rows.items())
        ],
    }


def _told(spec: Spec) -> dict[str, object]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}
