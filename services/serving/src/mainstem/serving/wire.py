"""What the Open Inference Protocol says of our models and carries to them, on whatever transport."""

from collections.abc import Sequence
from functools import cache, lru_cache

import msgspec
import numpy as np
import orjson

from mainstem.inference import Answer as Given
from mainstem.inference import Parameters, Request, Signature, Spec, Tensor, Wanted, rest
from mainstem.inference.errors import BadRequest, Unsupported
from mainstem.serving.domain import Activation, Indexed, Usage
from mainstem.serving.engine import INPUT, OUTPUT
from mainstem.serving.ports import Answer, Floats

PLATFORM = "onnx_onnxv1"
#: Every output, as JSON.
ALL: Sequence[Wanted] = (Wanted(OUTPUT, raw=False),)
EXTENSIONS = ("binary_tensor_data", "model_repository", "statistics")


class _Index(msgspec.Struct):
    ready: bool = False


_read_index = msgspec.json.Decoder(_Index).decode


@cache
def signature(width: int) -> Signature:
    """Return what a model of so many features takes and gives."""
    return Signature((Spec(INPUT, "FP64", (-1, width)),), (Spec(OUTPUT, "FP64", (-1, 2)),))


@cache
def reader(width: int) -> rest.Reader:
    """Return what reads requests to such a model on HTTP."""
    return rest.Reader(signature(width))


def metadata(activation: Activation) -> dict[str, object]:
    """Return what the protocol says about a model."""
    form = signature(len(activation.features))
    return {
        "name": activation.model,
        "versions": [str(activation.version)],
        "platform": PLATFORM,
        "inputs": [_told(spec) for spec in form.inputs],
        "outputs": [_told(spec) for spec in form.outputs],
        "properties": properties(activation),
    }


def properties(activation: Activation) -> dict[str, str]:
    """Return what we say about a model beyond the protocol."""
    return {
        "onnx": activation.onnx,
        "feature_set": activation.feature_set,
        "feature_definition": activation.feature_definition,
        "features": orjson.dumps(activation.features).decode(),
    }


def rows(request: Request, width: int) -> tuple[Floats, Sequence[Wanted]]:
    """Return the one input and the outputs to give. Raises BadRequest for tensors that such a model has not."""
    form = signature(width)
    form.accept(request.inputs)
    return np.asarray(request.inputs[0].values, np.float64), request.wanted(form)


def entity_of(parameters: Parameters) -> str | None:
    """Return the entity that a request names. Raises BadRequest when it is no text."""
    entity = parameters.get("entity")
    if entity is not None and not isinstance(entity, str):
        raise BadRequest(f"parameter 'entity' is {entity!r}; send the entity's key as a string")
    return entity or None


def given(answer: Answer, wanted: Sequence[Wanted]) -> Given:
    """Return an answer as the protocol gives it."""
    outputs = [(Tensor(OUTPUT, answer.probabilities), output.raw) for output in wanted]
    return Given(answer.model, str(answer.version), answer.id, outputs, answer.parameters())


def plain(answer: Answer, prediction: str) -> bytes:
    """Return an answer with every output as JSON: what `rest.write` makes of it, for less."""
    tensor = b'{"name":"%b","datatype":"FP64","shape":[%d,2],"data":%b}' % (
        OUTPUT.encode(),
        len(answer.probabilities),
        orjson.dumps(answer.probabilities.ravel(), option=orjson.OPT_SERIALIZE_NUMPY),
    )
    return b'%b"id":%b,"parameters":%b,"outputs":[%b]}' % (
        _opening(answer.model, answer.version),
        orjson.dumps(answer.id),
        _parameters(answer.position, answer.recorded, prediction),
        tensor,
    )


def _parameters(position: str, recorded: str, prediction: str) -> bytes:
    return b'%b"prediction_id":"%b"}' % (_place(position, recorded), prediction.encode())


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
    except (msgspec.MsgspecError, ValueError, RecursionError) as fault:
        raise BadRequest(f"the body is no question for the index: {fault}") from fault


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
            "success": spent(usage.answered, usage.run_ns),
            "fail": spent(usage.refused, 0),
            "queue": spent(usage.answered, 0),
            "compute_input": spent(usage.answered, 0),
            "compute_infer": spent(usage.answered, usage.run_ns),
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
