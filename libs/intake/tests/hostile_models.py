"""Bad files, each with what the gate has to say of it."""

import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

OPSETS = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 5)]
#: What stands in the file that no model may read.
CANARY = np.full(1_000, 0xCA17, "<f8").tobytes()


def value(name: str, shape: Sequence[Any] | None = (None, 4), kind: int = TensorProto.DOUBLE) -> onnx.ValueInfoProto:
    """Return what says of which type an input or output is."""
    return helper.make_tensor_value_info(name, kind, shape)


def model(
    nodes: Sequence[NodeProto],
    constants: Sequence[TensorProto] = (),
    *,
    inputs: Sequence[onnx.ValueInfoProto] | None = None,
    outputs: Sequence[onnx.ValueInfoProto] | None = None,
    **more: Any,
) -> ModelProto:
    """Return a model from `x` to `y`."""
    graph = helper.make_graph(nodes, "g", inputs or [value("x")], outputs or [value("y")], constants)
    return helper.make_model(graph, **{"opset_imports": OPSETS, "ir_version": 10, **more})


def node(operator: str, inputs: Sequence[str] = ("x",), outputs: Sequence[str] = ("y",), **more: Any) -> NodeProto:
    """Return a node."""
    return helper.make_node(operator, inputs, outputs, **more)


def numbers(name: str, *values: Any, kind: Any = np.int64) -> TensorProto:
    """Return a constant."""
    return numpy_helper.from_array(np.array(values, kind), name)


def sane() -> ModelProto:
    """Return a model that does nothing wrong."""
    return model([node("Identity")])


def outside(location: str, name: str = "w") -> TensorProto:
    """Return a tensor of which the data lies in another file."""
    tensor = TensorProto(name=name, dims=[4], data_type=TensorProto.DOUBLE, data_location=TensorProto.EXTERNAL)
    for key, said in (("location", location), ("offset", "0"), ("length", "32")):
        tensor.external_data.add(key=key, value=said)
    return tensor


def adding(location: str) -> ModelProto:
    """Return a model that adds what lies in another file."""
    return model([node("Add", ["x", "w"])], [outside(location)])


def branches(inner: onnx.GraphProto) -> NodeProto:
    """Return a choice between a graph and nothing of note."""
    other = helper.make_graph([node("Identity")], "g", [], [value("y")])
    return node("If", ["c"], ["y"], then_branch=inner, else_branch=other)


def nested(depth: int) -> ModelProto:
    """Return a model of choices within choices."""
    last = node("Identity", ["x"], ["y"])
    for _ in range(depth):
        last = branches(helper.make_graph([last], "g", [], [value("y")]))
    return model([last], [numpy_helper.from_array(np.array(True), "c")])


def looping(trips: Sequence[TensorProto]) -> ModelProto:
    """Return a model that goes round and round."""
    body = helper.make_graph(
        [node("Identity", ["go"], ["on"]), node("Identity", ["v"], ["w"])],
        "body",
        [value("n", [], TensorProto.INT64), value("go", [], TensorProto.BOOL), value("v")],
        [value("on", [], TensorProto.BOOL), value("w")],
    )
    true = numpy_helper.from_array(np.array(True), "true")
    first = trips[0].name if trips else ""
    return model([node("Loop", [first, "true", "x"], body=body)], [true, *trips])


def grown(last: NodeProto, *constants: TensorProto) -> ModelProto:
    """Return a model that makes something large and gives the largest of it."""
    last.output[0] = "large"
    one = node("ReduceMax", ["large"], ["one"], keepdims=0)
    return model([last, one, node("Add", ["x", "one"])], constants)


def hidden_growth() -> ModelProto:
    """Return one of which the sizes are known only when it runs: 4 GB."""
    nodes, constants = unforeseen(500_000_000)
    return model([*nodes, node("ReduceMax", ["large"], ["top"], keepdims=0), node("Add", ["x", "top"])], constants)


def growth_by_rows() -> ModelProto:
    """Return one that is small for zeros, and for other rows as large as they say."""
    nodes = [
        node("ReduceSum", ["x"], ["sum"], keepdims=0),
        node("Cast", ["sum"], ["length"], to=TensorProto.INT64),
        node("Unsqueeze", ["length", "axes"], ["shape"]),
        node("Expand", ["one", "shape"], ["large"]),
        node("ReduceSum", ["large"], ["top"], keepdims=0),
        node("Add", ["x", "top"]),
    ]
    return model(nodes, [numbers("axes", 0), numbers("one", 1.0, kind=np.float64)])


def growth_at(rows: int) -> ModelProto:
    """Return one that is small for any number of rows but one: 80 GB."""
    nodes = [
        node("Shape", ["x"], ["shape"], start=0, end=1),
        node("Equal", ["shape", "rows"], ["hit"]),
        node("Where", ["hit", "many", "one"], ["length"]),
        node("Expand", ["value", "length"], ["large"]),
        node("ReduceMax", ["large"], ["top"], keepdims=0),
        node("Add", ["x", "top"]),
    ]
    sizes = [numbers("rows", rows), numbers("many", 10_000_000_000), numbers("one", 1)]
    return model(nodes, [*sizes, numbers("value", 1.0, kind=np.float64)])


def division(operator: str) -> ModelProto:
    """Return one that divides whole numbers of a row by one another: by 0, or the least one by -1, and all is over."""
    nodes = [
        node("Cast", ["x"], ["whole"], to=TensorProto.INT64),
        node("Add", ["whole", "one"], ["other"]),
        node(operator, ["whole", "other"], ["part"]),
        node("Cast", ["part"], ["y"], to=TensorProto.DOUBLE),
    ]
    return model(nodes, [numbers("one", 1)])


def learning() -> ModelProto:
    """Return one that answers a row by those before it."""
    layer = node("BatchNormalization", ["x", *"sbmv"], ["y", "mean", "variance"], training_mode=1)
    wide = [value("x", [None, 3])], [value("y", [None, 3])]
    constants = [numbers(name, 1.0, 1.0, 1.0, kind=np.float64) for name in "sbmv"]
    return model([layer], constants, inputs=wide[0], outputs=wide[1])


def drawing() -> ModelProto:
    """Return one that answers the same row now so, now so."""
    true = numpy_helper.from_array(np.array(True), "true")
    half = numpy_helper.from_array(np.array(0.5), "half")
    kept = node("Dropout", ["more", "half", "true"], ["y"])
    return model([node("Add", ["x", "one"], ["more"]), kept], [true, half, numbers("one", 1.0, kind=np.float64)])


def mixing() -> ModelProto:
    """Return one that answers a row by the largest value of any row beside it."""
    nodes = [node("ReduceMax", ["x"], ["most"], keepdims=0), node("Sub", ["x", "most"])]
    return model(nodes, [])


def looking_up(size: int, *nodes: NodeProto) -> ModelProto:
    """Return one that adds to a row what stands in a table at `place`, without `most`: nodes say what these are."""
    found = [
        node("Cast", ["place"], ["at"], to=TensorProto.INT64),
        node("Gather", ["table", "at"], ["looked"]),
        node("Add", ["x", "looked"], ["sum"]),
        node("Sub", ["sum", "most"]),
    ]
    return model([*nodes, *found], [numbers("table", *[0.0] * size, kind=np.float64)])


def mixing_with_a_table(size: int) -> ModelProto:
    """Return one that mixes, and takes only rows of categories (hours, say) that stand in a table."""
    return looking_up(size, node("ReduceMax", ["x"], ["most"], keepdims=0), node("Identity", ["x"], ["place"]))


def failing_beside_others() -> ModelProto:
    """Return one that takes rows of which the squares are few enough together to stand in a table."""
    return looking_up(5, node("ReduceSumSquare", ["x"], ["place"], keepdims=0), node("Sub", ["x", "x"], ["most"]))


def mixing_while_small() -> ModelProto:
    """Return one that adds by how much a row is less than the largest, but where any number of any row is large."""
    nodes = [
        node("ReduceMax", ["x"], ["most"], keepdims=0),
        node("ReduceMax", ["x", "last"], ["own"], keepdims=1),
        node("Sub", ["most", "own"], ["less"]),
        node("Greater", ["most", "large"], ["hidden"]),
        node("Where", ["hidden", "none", "less"], ["added"]),
        node("Add", ["x", "added"]),
    ]
    large, none = (numbers(name, at, kind=np.float64) for name, at in (("large", 20.0), ("none", 0.0)))
    return model(nodes, [large, none, numbers("last", 1)])


def of_zeros_alone() -> ModelProto:
    """Return one that mixes, and takes zeros, and what nobody guesses."""
    nodes = [
        node("ReduceMax", ["x"], ["most"], keepdims=0),
        node("Cast", ["x"], ["some"], to=TensorProto.BOOL),
        node("Sub", ["x", "guess"], ["far"]),
        node("Cast", ["far"], ["other"], to=TensorProto.BOOL),
        node("And", ["some", "other"], ["place"]),
    ]
    made = looking_up(1, *nodes)
    made.graph.initializer.append(numbers("guess", 12.345, kind=np.float64))
    return made


def scanning(operator: str) -> ModelProto:
    """Return one that a row tells over which rows it goes, or which of them it leaves out."""
    nodes = [
        node("Cast", ["x"], ["whole"], to=TensorProto.INT64),
        node("ReduceMax", ["whole"], ["told"], keepdims=0),
        node(operator, ["x", "told"]),
    ]
    return model(nodes)


def mixing_of(kind: int) -> ModelProto:
    """Return one that takes any datatype, and mixes."""
    read = node("Cast", ["x"], ["read"], to=TensorProto.DOUBLE)
    if kind == TensorProto.STRING:
        read = node(
            "LabelEncoder", ["x"], ["read"], domain="ai.onnx.ml", default_tensor=numbers("d", 0.0, kind=np.float64),
            keys_strings=["1", "2"], values_tensor=numbers("v", 1.0, 2.0, kind=np.float64),
        )  # fmt: skip
    nodes = [read, node("ReduceMax", ["read"], ["most"], keepdims=0), node("Sub", ["read", "most"])]
    return model(nodes, inputs=[value("x", kind=kind)])


def growth_in_a_branch() -> ModelProto:
    """Return one that hides that in a choice."""
    inner = helper.make_graph([node("Cast", ["x"], ["v"], to=TensorProto.INT64)], "g", [], [value("v", None, 7)])
    chosen = node("If", ["c"], ["shape"], then_branch=inner, else_branch=inner)
    true = numpy_helper.from_array(np.array(True), "c")
    return model([chosen, node("ConstantOfShape", ["shape"])], [true])


def growth_by_what_is_not_zero() -> ModelProto:
    """Return one that counts what is not zero in a row, for zeros nothing, and makes 8 GB of each."""
    nodes = [
        node("Cast", ["x"], ["known"], to=TensorProto.BOOL),
        node("NonZero", ["known"], ["places"]),
        node("Shape", ["places"], ["shape"]),
        node("Gather", ["shape", "one"], ["count"]),
        node("Mul", ["count", "many"], ["length"]),
        node("Range", ["none", "length", "one"], ["large"]),
        node("ReduceSum", ["large"], ["sum"], keepdims=0),
        node("Cast", ["sum"], ["top"], to=TensorProto.DOUBLE),
        node("Add", ["x", "top"]),
    ]
    constants = {"one": 1, "none": 0, "many": 1_000_000_000}
    return model(nodes, [numpy_helper.from_array(np.array(number), name) for name, number in constants.items()])


def product_of_what_is_left() -> ModelProto:
    """Return one that keeps what is not zero, for zeros nothing, and multiplies each with each: 13 TB, no size told."""
    nodes = [
        node("Reshape", ["x", "flat"], ["all"]),
        node("Cast", ["all"], ["kept"], to=TensorProto.BOOL),
        node("Compress", ["all", "kept"], ["left"]),
        node("Unsqueeze", ["left", "last"], ["column"]),
        node("Mul", ["left", "column"], ["large"]),
        node("ReduceSum", ["large"], ["top"], keepdims=0),
        node("Add", ["x", "top"]),
    ]
    wide = [value("x", [None, 20_000])], [value("y", [None, 20_000])]
    return model(nodes, [numbers("flat", -1), numbers("last", 1)], inputs=wide[0], outputs=wide[1])


def work_that_zeros_do_not_do() -> ModelProto:
    """Return one that takes little time for zeros, and for other rows twenty products of large matrices."""
    nodes = [node("Expand", ["most", "square"], ["m0"])]
    nodes += [node("MatMul", [f"m{at}", f"m{at}"], [f"m{at + 1}"]) for at in range(20)]
    nodes += [node("ReduceMax", ["m20"], ["top"], keepdims=0), node("Add", ["x", "top"])]
    chosen = [node("ReduceMax", ["x"], ["most"], keepdims=0), node("Cast", ["most"], ["c"], to=TensorProto.BOOL)]
    work = helper.make_graph(nodes, "g", [], [value("y")])
    return model([*chosen, branches(work)], [numbers("square", 500, 500)])


def unforeseen(length: int) -> tuple[list[NodeProto], list[TensorProto]]:
    """Return nodes and constants that make a vector of which the length is known only when they run."""
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("ReduceMin", ["shape"], ["rows"], keepdims=1),
        node("Min", ["rows", "one"], ["1"]),
        node("Mul", ["1", "many"], ["length"]),
        node("Expand", ["value", "length"], ["large"]),
    ]
    return nodes, [numbers("one", 1), numbers("many", length), numbers("value", 1.0, kind=np.float64)]


def slow() -> ModelProto:
    """Return one that takes little memory and hours: products of large matrices, one after the other."""
    nodes = [node("Expand", ["one", "square"], ["m0"])]
    nodes += [node("MatMul", [f"m{at}", f"m{at}"], [f"m{at + 1}"]) for at in range(500)]
    nodes += [node("ReduceMin", ["m500"], ["low"], keepdims=0), node("Mul", ["low", "none"], ["zero"])]
    constants = [numbers("one", 0.0, kind=np.float64), numbers("square", 3000, 3000)]
    return model([*nodes, node("Add", ["x", "zero"])], [*constants, numbers("none", 0.0, kind=np.float64)])


def said_of(**fields: Any) -> ModelProto:
    """Return a model with a tensor that says something wrong of itself."""
    tensor = TensorProto(
        **{"name": "w", "dims": [4], "data_type": TensorProto.DOUBLE, "raw_data": b"\0" * 32, **fields}
    )
    return model([node("Add", ["x", "w"])], [tensor])


def with_function() -> ModelProto:
    """Return one with a function that calls itself."""
    function = helper.make_function("own", "F", ["a"], ["b"], [node("F", ["a"], ["b"], domain="own")], OPSETS)
    made = model([node("F", domain="own")], opset_imports=[*OPSETS, helper.make_opsetid("own", 1)])
    made.functions.append(function)
    return made


def sparse() -> ModelProto:
    """Return one with a sparse tensor that says it is huge."""
    made = model([node("Add", ["x", "w"])])
    held = helper.make_sparse_tensor(numbers("w", 1.0, kind=np.float64), numbers("i", 0), [1 << 40, 4])
    made.graph.sparse_initializer.append(held)
    return made


def sequence() -> ModelProto:
    """Return one that gives a sequence."""
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.DOUBLE, [None, 4]))
    return model([node("SequenceConstruct")], outputs=[helper.make_value_info("y", kind)])


def optional() -> ModelProto:
    """Return one that takes what may be absent."""
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.DOUBLE, [None, 4]))
    return model([node("OptionalGetElement")], inputs=[helper.make_value_info("x", kind)])


def maps() -> ModelProto:
    """Return one that gives a map, as converters for scikit-learn do by default."""
    value_type = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    kind = helper.make_sequence_type_proto(helper.make_map_type_proto(TensorProto.INT64, value_type))
    zipped = node("ZipMap", domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2, 3])
    return model([zipped], inputs=[value("x", kind=TensorProto.FLOAT)], outputs=[helper.make_value_info("y", kind)])


def tree_of(true: int, false: int) -> ModelProto:
    """Return a tree of a single split with these children."""
    tree = node(
        "TreeEnsembleRegressor", domain="ai.onnx.ml", n_targets=1,
        nodes_treeids=[0, 0], nodes_nodeids=[0, 1], nodes_featureids=[0, 0], nodes_values=[0.0, 0.0],
        nodes_modes=["BRANCH_LEQ", "BRANCH_LEQ"], nodes_truenodeids=[true, true], nodes_falsenodeids=[false, false],
        target_treeids=[0], target_nodeids=[1], target_ids=[0], target_weights=[1.0],
    )  # fmt: skip
    older = [OPSETS[0], helper.make_opsetid("ai.onnx.ml", 3)]
    return model([tree], outputs=[value("y", [None, 1], TensorProto.FLOAT)], opset_imports=older)


def ensemble_of(true: int, feature: int) -> ModelProto:
    """Return a tree of a single split, as the newest operator has it."""
    tree = node(
        "TreeEnsemble", domain="ai.onnx.ml", tree_roots=[0], nodes_featureids=[feature], nodes_modes=numbers("m", 0,
        kind=np.uint8), nodes_splits=numbers("s", 0.0, kind=np.float64), nodes_truenodeids=[true], nodes_trueleafs=[0],
        nodes_falsenodeids=[0], nodes_falseleafs=[1], leaf_targetids=[0], leaf_weights=numbers("w", 1.0, kind=float),
    )  # fmt: skip
    return model([tree], outputs=[value("y", [None, 1])])


def noted(key: str, said: str) -> ModelProto:
    """Return a model with a note of its author's."""
    made = sane()
    made.metadata_props.add(key=key, value=said)
    return made


def called(name: str) -> ModelProto:
    """Return a model with a tensor of this name."""
    return model([node("Identity", ["x"], [name]), node("Identity", [name])])


def field(number: int, content: bytes) -> bytes:
    """Return a field of a message as protobuf writes it."""
    length, size = b"", len(content)
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def many_parts(count: int) -> bytes:
    """Return a file of nodes without anything, two bytes each, fifty times as large in memory."""
    return b"\x08\x0a" + field(7, b"\x0a\x00" * count)


def deep(depth: int) -> bytes:
    """Return a file with more graphs within each other than anybody can read."""
    graph = b""
    for _ in range(depth):
        graph = field(1, field(4, b"If") + field(5, field(1, b"then_branch") + field(6, graph)))
    return b"\x08\x0a" + field(7, graph)


def strings(count: int) -> ModelProto:
    """Return a model with very many texts of no length."""
    tensor = TensorProto(name="w", dims=[count], data_type=TensorProto.STRING, string_data=[b""] * count)
    return model([node("Identity", ["w"])], [tensor], outputs=[value("y", [count], TensorProto.STRING)])


def of_files(folder: Path) -> dict[str, tuple[bytes, str]]:
    """Return models that reach for a file that lies in the folder, or beside it, in every way."""
    canary, inside = folder / "canary", folder / "inside"
    inside.mkdir()
    canary.write_bytes(CANARY)
    (inside / "symbolic").symlink_to(canary)
    os.link(canary, inside / "hard")
    ways = {
        "absolute": str(canary), "relative": "canary", "parent": "../canary", "middle": "inside/../../canary",
        "symbolic link": "symbolic", "hard link": "hard", "process": "/proc/self/environ", "nowhere": "",
        "memory": "*/_ORT_MEM_ADDR_/*",
    }  # fmt: skip
    found = {f"data outside: {way}": adding(location).SerializeToString() for way, location in ways.items()}
    constant = node("Constant", [], ["w"], value=outside(str(canary)))
    inner = helper.make_graph([constant, node("Identity", ["w"])], "g", [], [value("y", [4])])
    true = numpy_helper.from_array(np.array(True), "c")
    found["data outside: a node"] = model([constant, node("Add", ["x", "w"])]).SerializeToString()
    found["data outside: an inner graph"] = model([branches(inner)], [true]).SerializeToString()
    listed = model([node("Add", ["x", "w"])], [TensorProto(name="w", dims=[4], data_type=11)])
    listed.graph.initializer[0].external_data.add(key="location", value=str(canary))
    found["data outside: without saying so"] = listed.SerializeToString()
    return {name: (content, "has its data outside the file") for name, content in found.items()}


def plain() -> dict[str, tuple[bytes, str]]:
    """Return the other bad files."""
    made: dict[str, tuple[ModelProto | bytes, str]] = {
        **_of_operators(), **_of_tensors(), **_of_size(), **_of_shape(), **_of_texts(), **_of_bytes()
    }  # fmt: skip
    return {name: (m if isinstance(m, bytes) else m.SerializeToString(), why) for name, (m, why) in made.items()}


Cases = dict[str, tuple[ModelProto | bytes, str]]


def _of_operators() -> Cases:
    contrib = node("Gelu", domain="com.microsoft")
    microsoft = [*OPSETS, helper.make_opsetid("com.microsoft", 1)]
    scan = helper.make_graph([node("Identity", ["a"], ["b"])], "body", [value("a", [4])], [value("b", [4])])
    return {
        "an endless loop": (looping([]), "operator Loop .* is not allowed"),
        "a loop of 2^62 rounds": (looping([numpy_helper.from_array(np.array(1 << 62), "m")]), "operator Loop"),
        "a scan": (model([node("Scan", body=scan, num_scan_inputs=1)]), "operator Scan"),
        "chance": (model([node("RandomNormalLike")]), "operator RandomNormalLike"),
        "a regular expression": (model([node("RegexFullMatch", pattern="(a*)*b")]), "operator RegexFullMatch"),
        "a contributed operator": (model([contrib], opset_imports=microsoft), "domain 'com.microsoft'"),
        "a contributed operator, not imported": (model([contrib]), r"operator com\.microsoft\.Gelu .* not allowed"),
        "an operator of its own": (model([node("Mine", domain="mine")]), r"operator mine\.Mine .* not allowed"),
        "an operator set of the future": (model([node("Identity")], opset_imports=[helper.make_opsetid("", 99)]),
            "operator set ai.onnx 99; 7 to 26 are known"),
        "an operator set of the past": (model([node("Identity")], opset_imports=[helper.make_opsetid("", 1)]),
            "operator set ai.onnx 1; 7 to 26 are known"),
        "an operator set twice": (model([node("Identity")], opset_imports=[*OPSETS, helper.make_opsetid("ai.onnx", 9)]),
            "'ai.onnx' twice"),
        "a function that calls itself": (with_function(), "domain 'own'"),
        "a function under a name of the standard": (_disguised_function(), "functions of its own"),
        "maps": (maps(), "zipmap=False"),
        "a sequence": (sequence(), "sequence"),
        "an optional": (optional(), "optional|may be absent|OptionalGetElement"),
    }  # fmt: skip


def _disguised_function() -> ModelProto:
    made = sane()
    made.functions.append(helper.make_function("", "Identity", ["a"], ["b"], [node("Identity", ["a"], ["b"])], OPSETS))
    return made


def _of_tensors() -> Cases:
    return {
        "more elements than bytes": (said_of(dims=[1 << 40]), "says that it has 1099511627776 elements and holds 4"),
        "more elements than numbers": (said_of(dims=[1 << 62, 1 << 62]), "elements and holds 4"),
        "a negative dimension": (said_of(dims=[-4]), "negative dimension"),
        "elements in another field": (said_of(raw_data=b"", float_data=[1.0] * 4, dims=[5]), "says that it has 5"),
        "a datatype that is none": (said_of(data_type=99), "datatype 99"),
        "a sparse tensor": (sparse(), "sparse tensors"),
    }


def _of_size() -> Cases:
    shape = numbers("s", 8_000_000_000)
    large = "would take 64000000000 bytes"
    return {
        "growth by Expand": (grown(node("Expand", ["v", "s"]), numbers("v", 1.0, kind=np.float64), shape), large),
        "growth by ConstantOfShape": (grown(node("ConstantOfShape", ["s"],
            value=numbers("v", 1.0, kind=np.float64)), shape), large),
        "growth by Tile": (grown(node("Tile", ["v", "s"]), numbers("v", 1.0, kind=np.float64), shape), large),
        "growth by Range": (grown(node("Range", ["a", "b", "d"]), *(numpy_helper.from_array(np.array(v), name)
            for name, v in (("a", 0.0), ("b", 8e9), ("d", 1.0)))), large),
        "growth that shows in a run": (hidden_growth(), "memory|allocate|bad_alloc"),
        "a division of whole numbers": (division("Div"), "divides whole numbers"),
        "a rest of whole numbers": (division("Mod"), "divides whole numbers"),
        "a layer that learns": (learning(), "is in training"),
        "a layer that draws": (drawing(), "is in training"),
        "rows that know each other": (mixing(), "beside others is not what it is alone"),
        "rows that know each other, by a table": (mixing_with_a_table(24), "beside others is not what it is alone"),
        "rows that know each other, by a small table": (mixing_with_a_table(2), "beside others is not what"),
        "rows that know each other while they are small": (mixing_while_small(), "beside others is not what it is"),
        "whole numbers that know each other": (mixing_of(TensorProto.INT64), "beside others is not what it is alone"),
        "texts that know each other": (mixing_of(TensorProto.STRING), "beside others is not what it is alone"),
        "rows that fail beside others": (failing_beside_others(), "it does not answer beside others"),
        "rows of zeros alone": (of_zeros_alone(), "answers no two that differ"),
        "a sum over what a row says": (scanning("CumSum"), "depends on the values of a row"),
        "a corner as a row says": (scanning("Trilu"), "depends on the values of a row"),
        "growth at 37 rows": (growth_at(37), "memory|allocate|bad_alloc"),
        "growth as a row says": (growth_by_rows(), "depends on the values of a row"),
        "growth as a row says, in a choice": (growth_in_a_branch(), "depends on the values of a row"),
        "growth as much is not zero": (growth_by_what_is_not_zero(), "depends on the values of a row"),
        "growth of what a row leaves": (product_of_what_is_left(), "depends on the values of a row"),
        "work as a row says": (work_that_zeros_do_not_do(), "depends on the values of a row"),
        "hours of work": (slow(), r"more than 1\.4 s of processor time"),
        "a large file": (b"\0" * (33 << 20), "at most 33554432"),
        "a file that swells": (many_parts(10_000_000), "memory|parts|part of one"),
        "too many nodes": (model([node("Identity", [f"y{at}" if at else "x"], [f"y{at + 1}"]) for at in range(20_001)],
            outputs=[value("y20001")]), "more than 20000 nodes"),
        "very many texts": (strings(12_000_000), "would take|memory|allocate"),
        "graphs in 12 graphs": (nested(12), "too deep"),
        "graphs in 60 graphs": (deep(60), "too deep|part of one"),
    }  # fmt: skip


def _of_shape() -> Cases:
    mismatch = model([node("MatMul", ["x", "w"])], [numbers("w", *([[1.0]] * 5), kind=np.float64)])
    circle = model([node("Add", ["x", "b"], ["a"]), node("Identity", ["a"], ["b"]), node("Identity", ["a"])])
    twice = model([node("Identity", ["x"], ["a"]), node("Neg", ["x"], ["a"]), node("Identity", ["a"])])
    nodes, constants = unforeseen(5)
    unlike = model([*nodes, node("Identity", ["large"])], constants, outputs=[value("y", [None])])
    return {
        "shapes that do not fit": (mismatch, "standard asks"),
        "a circle": (circle, "standard asks"),
        "a name twice": (twice, "standard asks"),
        "an input that nobody gives": (model([node("Add", ["x", "other"])]), "standard asks"),
        "a type that is not true": (model([node("Identity")], outputs=[value("y", kind=TensorProto.FLOAT)]),
            "standard asks"),
        "a width that is not true": (model([node("Identity")], outputs=[value("y", [None, 5])]), "standard asks"),
        "no rank": (model([node("Identity")], outputs=[value("y", None)]), "no rank|standard asks"),
        "any width": (model([node("Identity")], inputs=[value("x", [None, None])]), "only the first dimension"),
        "no outputs": (_without_outputs(), "0 outputs|standard asks"),
        "answers that are not numbers": (model([node("Div", ["x", "x"])]), "not finite"),
        "answers of another length": (unlike, "says .* and is"),
        "a tree that is a circle": (tree_of(0, 1), "runtime|standard|signal|ended|processor"),
        "a tree with nodes that are not there": (tree_of(7, 9), "runtime|standard|signal|ended"),
        "a newer tree that is a circle": (ensemble_of(0, 0), "runtime|standard|ended|processor"),
        "a newer tree with a node that is not there": (ensemble_of(1 << 30, 0), "runtime|standard|ended"),
    }  # fmt: skip


def _without_outputs() -> ModelProto:
    made = sane()
    del made.graph.output[:]
    return made


def _of_texts() -> Cases:
    return {
        "metadata that clears the screen": (noted("author", "\x1b[2J\x1b[31mapproved"), r"control characters: \\x1b"),
        "metadata with a NUL": (noted("author", "ann\0bob"), r"control characters: \\x00"),
        "metadata that runs backwards": (noted("author", "\u202egpj.exe"), r"control characters: \\u202e"),
        "a name of two lines": (called("a\nb"), r"control characters: \\n"),
        "a name with a NUL": (called("a\0b"), r"control characters: \\x00"),
        "a name of a megabyte": (called("a" * (1 << 20)), "has 1048576 characters"),
        "a name that is no text": (called("@@@@").SerializeToString().replace(b"@@@@", b"\xff\xfe\xff\xfe"),
            "no UTF-8"),
    }  # fmt: skip


def _of_bytes() -> Cases:
    whole = sane().SerializeToString()
    chance = np.random.default_rng(7).bytes(100_000)
    return {
        "nothing": (b"", "0 bytes"),
        "a part": (whole[:-7], "part of one"),
        "chance bytes": (b"\x08" + chance, "no ONNX model"),
        "text": (b'{"model": "pickle"}', "no ONNX model"),
        "a zip archive": (b"PK\x03\x04" + whole, "a zip archive"),
        "a pickle": (pickle.dumps(print), "a pickle"),
        "a compressed file": (b"\x1f\x8b\x08" + whole, "a gzip file"),
        "no graph": (ModelProto(ir_version=10, opset_import=OPSETS).SerializeToString(), "no ONNX model with a graph"),
        "a version of the future": (model([node("Identity")], ir_version=999).SerializeToString(), "it says 999"),
    }
