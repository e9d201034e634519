"""Models made elsewhere: let in by the gate, given the signature that all have here, held against the original."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from onnx import ModelProto, TensorProto, compose, helper

from mainstem.intake import Admitted, Refused, Tensor, admit
from mainstem.training.onnx_export import INPUT, OUTPUT, Floats, Parity, loaded

#: Datatypes that a row may be taken in and a probability given in.
_FLOATS: Final = {"FLOAT": np.float32, "DOUBLE": np.float64}
#: Operator set of the conversions, where the author's graph has none of the standard's.
_FOR_CASTS: Final = 13
#: What the author's names begin with in the model that is registered, so that they are nobody else's.
_PREFIX: Final = "imported/"
#: So many rows are compared one by one; a batch in service has so many.
_COMPARED, _BATCH = 2_000, 64
#: Probabilities of a row may miss 1 by this much, as float32 does.
_SUM_TOLERANCE: Final = 1e-5


class Imported(NamedTuple):
    """A model as it is registered, what is known of the author's file, and the place of its probabilities there."""

    onnx: bytes
    admitted: Admitted
    given: int

    @property
    def takes(self) -> str:
        """Return the datatype that the author's graph takes rows in."""
        return self.admitted.inputs[0].datatype


def bring_in(content: bytes, width: int) -> Imported:
    """Return the author's model as one from `features` float64 [rows, width] to `probabilities` float64 [rows, 2].

    It must take one float32 or float64 tensor [rows, width], in the order of the feature set, and give one such tensor
    [rows, 2], the probability of the negative class first; what it gives besides is left out. The graph stays as it is:
    float64 rows are converted to what it takes as numpy converts them, and its probabilities to float64, exactly.
    A model that has the signature already is returned as it came. Blocks for about a second. Raises Refused.
    """
    admitted = admit(content)
    _check_taken(admitted.inputs, width)
    given = _given(admitted.outputs)
    if (admitted.inputs, admitted.outputs) == _signature(width):
        return Imported(content, admitted, given)
    wrapped = _wrapped(ModelProto.FromString(content), admitted.inputs[0], given)
    admit(wrapped)
    return Imported(wrapped, admitted, given)


def agreement(original: bytes, imported: Imported, rows: Floats) -> Parity:
    """Compare the author's file, row by row, with the model that is registered, in batches as it will serve.

    Of more than 2,000 rows so many are taken, evenly. A row's answer may differ in its last digits with the batch it is
    in: that is in the difference. Raises ValueError without rows.
    """
    if not len(rows):
        raise ValueError("parity needs at least one row; widen the held-out range")
    rows = np.ascontiguousarray(rows[:: -(-len(rows) // _COMPARED)])
    theirs, ours = loaded(original), loaded(imported.onnx)
    taken, given = theirs.get_inputs()[0].name, theirs.get_outputs()[imported.given].name
    with np.errstate(over="ignore"):  # what float32 does not reach becomes infinite, as it does in the model
        feeds = [rows[at : at + 1].astype(_FLOATS[imported.takes]) for at in range(len(rows))]
    alone = [theirs.run([given], {taken: row})[0] for row in feeds]
    together = [ours.run([OUTPUT], {INPUT: rows[at : at + _BATCH]})[0] for at in range(0, len(rows), _BATCH)]
    expected, found = np.concatenate(alone).astype(np.float64), np.concatenate(together)
    flips = np.count_nonzero(expected.argmax(1) != found.argmax(1))
    return Parity(len(rows), float(np.abs(expected - found).max()), int(flips))


def check_probabilities(found: Floats) -> None:
    """Raise Refused unless every row of [rows, 2] holds two probabilities."""
    finite = np.isfinite(found).all(1)
    if not finite.all():
        unanswered = f"it gives no number for {np.count_nonzero(~finite)} of {len(found)} held-out rows"
        raise Refused(f"{unanswered}; have it fill in missing values (NaN) itself")
    wrong = (found < 0).any(1) | (found > 1).any(1) | (np.abs(found.sum(1) - 1) > _SUM_TOLERANCE)
    if wrong.any():
        raise Refused(f"what it gives for {np.count_nonzero(wrong)} of {len(found)} held-out rows are no probabilities")


def _signature(width: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    return (Tensor(INPUT, "DOUBLE", (None, width)),), (Tensor(OUTPUT, "DOUBLE", (None, 2)),)


def _check_taken(inputs: Sequence[Tensor], width: int) -> None:
    if len(inputs) != 1 or inputs[0].datatype not in _FLOATS or inputs[0].shape != (None, width):
        found = ", ".join(map(_described, inputs))
        raise Refused(f"it takes {found}; a model of this feature set takes one FLOAT or DOUBLE [rows, {width}]")


def _given(outputs: Sequence[Tensor]) -> int:
    """Return the place of the probabilities among the outputs."""
    fitting = [at for at, each in enumerate(outputs) if each.datatype in _FLOATS and each.shape == (None, 2)]
    if len(fitting) != 1:
        found = ", ".join(map(_described, outputs))
        raise Refused(f"it gives {found}; a model here gives one FLOAT or DOUBLE [rows, 2], a probability a class")
    return fitting[0]


def _described(tensor: Tensor) -> str:
    return (
        f"'{tensor.name}' {tensor.datatype} [{', '.join('rows' if dim is None else str(dim) for dim in tensor.shape)}]"
    )


def _wrapped(model: ModelProto, taken: Tensor, given: int) -> bytes:
    """Return the model between two conversions, its own names behind a prefix."""
    inner = compose.add_prefix(model, _PREFIX, inplace=True).graph
    constants = {tensor.name for tensor in inner.initializer}
    (name,) = (value.name for value in inner.input if value.name not in constants)
    into = helper.make_node("Cast", [INPUT], [name], to=TensorProto.DataType.Value(taken.datatype))
    out = helper.make_node("Cast", [inner.output[given].name], [OUTPUT], to=TensorProto.DOUBLE)
    nodes = [into, *inner.node, out]
    del inner.node[:], inner.input[:], inner.output[:]
    inner.node.extend(nodes)
    inner.input.append(helper.make_tensor_value_info(INPUT, TensorProto.DOUBLE, [None, taken.shape[1]]))
    inner.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.DOUBLE, [None, 2]))
    if not any(opset.domain in ("", "ai.onnx") for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid("", _FOR_CASTS))
    return bytes(model.SerializeToString(deterministic=True))
