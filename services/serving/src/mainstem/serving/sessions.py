"""An ONNX model with whatever inputs and outputs: what it takes and gives in the protocol's words, and its runs."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as onnx_errors

from mainstem.events.errors import Rejected
from mainstem.inference import Signature, Spec, Tensor
from mainstem.inference.errors import BadRequest, NoAnswer
from mainstem.inference.tensors import BYTES, Values, texts
from mainstem.serving.engine import RUN_FAULTS

#: The protocol's datatypes by ONNX Runtime's names of them.
_DATATYPES: Final = {
    "tensor(bool)": "BOOL",
    **{f"tensor(uint{bits})": f"UINT{bits}" for bits in (8, 16, 32, 64)},
    **{f"tensor(int{bits})": f"INT{bits}" for bits in (8, 16, 32, 64)},
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": BYTES,
}
#: So that it prints nothing of what it raises.
_FATAL: Final = 4


class NotServable(Rejected):
    """The bytes are no ONNX model, or one that takes or gives what the protocol has no tensors for."""


class Session:
    """A loaded model. It runs in one thread and may be asked from another."""

    def __init__(self, onnx: bytes) -> None:
        """Load a model from its bytes; raise NotServable. Files beside it are not read."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = _FATAL
        self._run_options = onnxruntime.RunOptions()
        self._run_options.log_severity_level = _FATAL
        try:
            self._session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        except RUN_FAULTS as fault:
            raise NotServable(f"ONNX Runtime does not load it: {fault}") from fault
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self.signature = Signature(tuple(map(_spec, inputs)), tuple(map(_spec, outputs)))

    def run(self, inputs: Sequence[Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """Return outputs, in the order of their names, for the inputs that the signature accepts.

        Raises BadRequest when ONNX Runtime says that the inputs are to blame, and NoAnswer for any other fault.
        """
        given = {tensor.name: _decoded(tensor) for tensor in inputs}
        try:
            found = self._session.run(list(outputs), given, self._run_options)
        except onnx_errors.InvalidArgument as fault:
            raise BadRequest(f"the model does not take these inputs: {fault}") from fault
        except RUN_FAULTS as fault:
            raise NoAnswer(f"the model failed: {fault}") from fault
        return [Tensor(name, _encoded(name, values)) for name, values in zip(outputs, found, strict=True)]

    def stop(self) -> None:
        """End what runs at its next node; nothing is run any more."""
        self._run_options.terminate = True


def _spec(arg: onnxruntime.NodeArg) -> Spec:
    datatype = _DATATYPES.get(arg.type)
    if datatype is None:
        known = ", ".join(_DATATYPES)
        raise NotServable(f"{arg.name!r} is {arg.type}; export the model so that it is one of {known}")
    return Spec(arg.name, datatype, tuple(size if isinstance(size, int) and size >= 0 else -1 for size in arg.shape))


def _decoded(tensor: Tensor) -> Values:
    """Return an input as ONNX Runtime takes it: strings of ONNX are text."""
    if not tensor.values.dtype.hasobject:
        return tensor.values
    try:
        decoded = [cell.decode() for cell in tensor.values.ravel()]
    except UnicodeDecodeError as fault:
        raise BadRequest(
            f"input {tensor.name!r} holds an element that is no UTF-8, as ONNX wants it: {fault}"
        ) from fault
    found = np.empty(len(decoded), object)
    found[:] = decoded
    return found.reshape(tensor.values.shape)


def _encoded(name: str, values: object) -> Values:
    """Return an output as the protocol has it."""
    if not isinstance(values, np.ndarray):
        raise NoAnswer(f"output {name!r} is no tensor but {type(values).__name__}")
    if not values.dtype.hasobject:
        return values
    return texts([cell.encode() for cell in values.ravel()]).reshape(values.shape)
