"""Small ONNX models, one for whatever the protocol can carry, and what those that compute give."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

#: ONNX's types by the protocol's datatypes.
DATATYPES: Mapping[str, int] = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}
#: A name that an address cannot carry as it is.
ODD_NAME = "wind & räin"

Dimensions = Sequence[int | str]


def value(name: str, kind: int, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    **constants: object,
) -> bytes:
    """Return a checked model as bytes."""
    held = [numpy_helper.from_array(np.asarray(given), name) for name, given in constants.items()]
    graph = helper.make_graph(list(nodes), "small", list(inputs), list(outputs), held)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(made)
    content: bytes = made.SerializeToString(deterministic=True)
    return content


def storm() -> bytes:
    """Return a model of the platform's signature: [1 - p, p], p the sigmoid of a row's sum, missing = 0."""
    node = helper.make_node
    nodes = [
        node("IsNaN", ["features"], ["missing"]),
        node("Where", ["missing", "zero", "features"], ["filled"]),
        node("ReduceSum", ["filled", "columns"], ["sum"], keepdims=1),
        node("Neg", ["sum"], ["opposite"]),
        node("Concat", ["opposite", "sum"], ["both"], axis=1),
        node("Exp", ["both"], ["odds"]),
        node("Add", ["odds", "one"], ["all"]),
        node("Div", ["odds", "all"], ["probabilities"]),
    ]
    ends = [value("features", TensorProto.DOUBLE, "n", 3)], [value("probabilities", TensorProto.DOUBLE, "n", 2)]
    return model(nodes, *ends, zero=0.0, one=1.0, columns=np.array([1]))


def echo(datatype: str, *shape: int | str) -> bytes:
    """Return a model that gives what it takes."""
    kind = DATATYPES[datatype]
    return model([helper.make_node("Identity", ["x"], ["y"])], [value("x", kind, *shape)], [value("y", kind, *shape)])


def plus(number: float) -> bytes:
    """Return a model that adds a number to float32 of any one dimension."""
    ends = [value("x", TensorProto.FLOAT, "n")], [value("y", TensorProto.FLOAT, "n")]
    return model([helper.make_node("Add", ["x", "number"], ["y"])], *ends, number=np.float32(number))


def mixed() -> bytes:
    """Return a model of three inputs of three datatypes: it gives the names, and times * the sum of each row."""
    node = helper.make_node
    nodes = [
        node("Identity", ["names"], ["same"]),
        node("ReduceSum", ["rows", "columns"], ["sum"], keepdims=0),
        node("Cast", ["times"], ["factor"], to=TensorProto.FLOAT),
        node("Mul", ["sum", "factor"], ["total"]),
    ]
    inputs = [
        value("names", TensorProto.STRING, "n"),
        value("rows", TensorProto.FLOAT, "n", 2),
        value("times", TensorProto.INT64),
    ]
    outputs = [value("same", TensorProto.STRING, "n"), value("total", TensorProto.FLOAT, "n")]
    return model(nodes, inputs, outputs, columns=np.array([1]))


def four() -> bytes:
    """Return a model that fails for whatever has not four cells."""
    ends = [value("x", TensorProto.FLOAT, "n")], [value("y", TensorProto.FLOAT, 2, 2)]
    return model([helper.make_node("Reshape", ["x", "shape"], ["y"])], *ends, shape=np.array([2, 2]))


def write(folder: Path) -> None:
    """Write all of them into a folder."""
    files = {f"{datatype.lower()}.onnx": echo(datatype, "n", "m") for datatype in DATATYPES}
    files |= {
        "storm.onnx": storm(),
        "scalar.onnx": echo("FP32"),
        "square.onnx": echo("INT32", 2, 2),
        "open.onnx": echo("FP32", "n", "m"),
        "lines.onnx": echo("BYTES", "n"),
        f"{ODD_NAME}.onnx": echo("FP32", "n"),
        "mixed.onnx": mixed(),
        "four.onnx": four(),
        "spare.onnx": plus(1),
        "plus/1/model.onnx": plus(1),
        "plus/2/model.onnx": plus(2),
        "plus/10/model.onnx": plus(10),
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
