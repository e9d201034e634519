"""The whole examination of one file, its last part a run: what is done in the sandbox."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

from mainstem.intake.apart import RUN_FAULTS, check_apart
from mainstem.intake.dependence import check_dependence, check_divisions, check_repeatable
from mainstem.intake.limits import ROWS, Limits
from mainstem.intake.structure import SIZES, Unfit, check_opsets, check_parts, check_sizes, metadata, parse
from mainstem.intake.verdict import Admitted, Tensor, shown

_CHECKS: Final = (
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
    DecodeError,
    ValueError,
    RuntimeError,
)

#: What it raises for a tensor of a size that a node cannot take, and where memory cannot be allocated.
_OTHER_SIZES: Final = (runtime.Fail, runtime.InvalidArgument)


def examine(content: bytes, limits: Limits) -> Admitted:
    """Return what the file is; raise Unfit with the reason when it may not come in, MemoryError when it is too much."""
    digest = f"sha256:{sha256(content).hexdigest()}"
    opsets, operators, said = _looked(content, limits)
    inputs, outputs = _declared(content, limits)
    session = _loaded(content)
    if limits.rows:
        outputs = _tried(session, inputs, outputs)
        check_apart(session, inputs, outputs)
    else:
        _run_once(session, inputs)
    return Admitted(digest, inputs, outputs, opsets, dict(sorted(operators.items())), said)


# Parsed, a forest takes six times its bytes: each of these holds it for itself, and nothing of it when it is done.


def _looked(content: bytes, limits: Limits) -> tuple[dict[str, int], Mapping[str, int], dict[str, str]]:
    """Return operator sets, operators and what its author says of a model that may be gone on with."""
    model = parse(content)
    opsets, operators, said = check_opsets(model), check_parts(model, limits), metadata(model)
    check_dependence(model.graph)
    check_repeatable(model.graph)
    return opsets, operators, said


def _declared(content: bytes, limits: Limits) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return inputs and outputs of a model of which the types and shapes are good."""
    inferred = _inferred(content)
    check_divisions(inferred.graph)
    check_sizes(inferred, limits)
    inputs, outputs = _signature(inferred)
    if limits.rows:
        _check_rows(inputs)
    return inputs, outputs


def _inferred(content: bytes) -> ModelProto:
    """Return the model with the shapes of all tensors that the standard's rules give."""
    try:
        onnx.checker.check_model(content)
        return onnx.shape_inference.infer_shapes(content, check_type=True, strict_mode=True, data_prop=True)
    except _CHECKS as fault:
        raise Unfit(f"it is not what the standard asks for: {shown(fault, 300)}") from fault


def _signature(model: ModelProto) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return inputs and outputs as they are declared."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_tensor(value) for value in model.graph.input if value.name not in constants)
    outputs = tuple(_tensor(value) for value in model.graph.output)
    if not inputs or not outputs:
        raise Unfit(f"it has {len(inputs)} inputs and {len(outputs)} outputs; at least one of each is needed")
    return inputs, outputs


def _check_rows(inputs: Sequence[Tensor]) -> None:
    for given in inputs:
        if not given.shape or None in given.shape[1:]:
            said = f"input '{given.name}' has shape {list(given.shape)}"
            raise Unfit(f"{said}; only the first dimension, the rows, may be left open")


def _tensor(value: ValueInfoProto) -> Tensor:
    name, tensor = shown(value.name), value.type.tensor_type
    if tensor.elem_type not in SIZES:
        raise Unfit(f"'{name}' is of datatype {tensor.elem_type}, which is not known here")
    if not tensor.HasField("shape"):
        raise Unfit(f"'{name}' has no rank: say how many dimensions it has")
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)
    if any(dim is not None and dim < 1 for dim in shape):
        raise Unfit(f"'{name}' has shape {list(shape)}; a dimension is at least 1, or left open")
    return Tensor(name, TensorProto.DataType.Name(tensor.elem_type), shape)


def _loaded(content: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except RUN_FAULTS as fault:
        raise Unfit(f"the runtime does not load it: {shown(fault, 300)}") from fault


def _run_once(session: onnxruntime.InferenceSession, inputs: Sequence[Tensor]) -> None:
    """Run the model on zeros, one in each open dimension; that it wants another number there says nothing of it."""
    try:
        session.run(None, _given(session, inputs, 1))
    except RUN_FAULTS as fault:
        if not isinstance(fault, _OTHER_SIZES) or "alloc" in str(fault):
            raise _unrun(fault) from fault


def _tried(
    session: onnxruntime.InferenceSession, inputs: Sequence[Tensor], outputs: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Run the model on zeros; return its outputs with the dimensions that they turned out to have."""
    try:
        runs = [(rows, session.run(None, _given(session, inputs, rows))) for rows in ROWS]
    except RUN_FAULTS as fault:
        raise _unrun(fault) from fault
    return tuple(_found(each, [(rows, run[at]) for rows, run in runs]) for at, each in enumerate(outputs))


def _unrun(fault: Exception) -> Unfit:
    return Unfit(f"the runtime does not run it on zeros: {shown(fault, 300)}")


def _given(session: onnxruntime.InferenceSession, inputs: Sequence[Tensor], rows: int) -> dict[str, NDArray[Any]]:
    names = (given.name for given in session.get_inputs())
    return {name: _zeros(tensor, rows) for name, tensor in zip(names, inputs, strict=True)}


def _zeros(tensor: Tensor, rows: int) -> NDArray[Any]:
    shape = [dim or 1 for dim in tensor.shape]
    shape[:1] = [dim or rows for dim in tensor.shape[:1]]
    if tensor.datatype == "STRING":
        return np.full(shape, "", object)
    return np.zeros(shape, onnx.helper.tensor_dtype_to_np_dtype(TensorProto.DataType.Value(tensor.datatype)))


def _found(declared: Tensor, runs: Sequence[tuple[int, Any]]) -> Tensor:
    """Return an output as it was in runs with so many rows: with the dimensions that it says, the same in each."""
    first = runs[0][1].shape
    for rows, values in runs:
        said = (declared.shape[0] or rows, *declared.shape[1:]) if declared.shape else ()
        true = values.shape[1:] == first[1:] and len(said) == values.ndim
        if not true or any(dim not in (None, found) for dim, found in zip(said, values.shape, strict=True)):
            seen = f"{list(values.shape)} for {rows} rows and {list(first)} for {runs[0][0]}"
            raise Unfit(f"output '{declared.name}' says {list(declared.shape)} and is {seen}")
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise Unfit(f"output '{declared.name}' is not finite for zeros ({rows} in a batch)")
    return Tensor(declared.name, declared.datatype, (*declared.shape[:1], *first[1:]))
