"""What can be seen in a model without running anything: where its data lies, what it is made of, how much of it."""

from collections import Counter
from collections.abc import Iterator
from math import prod
from typing import Final

from google.protobuf.message import DecodeError, Message
from onnx import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    SparseTensorProto,
    StringStringEntryProto,
    TensorProto,
    TrainingInfoProto,
    TypeProto,
    ValueInfoProto,
)

from mainstem.intake.limits import Limits
from mainstem.intake.operators import ADVICE, ALLOWED, OPSETS, STANDARD, qualified
from mainstem.intake.verdict import shown

#: Bytes of an element, by datatype; of text it is the least that it takes in memory.
SIZES: Final = {
    TensorProto.BOOL: 1, TensorProto.UINT8: 1, TensorProto.INT8: 1, TensorProto.UINT16: 2, TensorProto.INT16: 2,
    TensorProto.UINT32: 4, TensorProto.INT32: 4, TensorProto.UINT64: 8, TensorProto.INT64: 8,
    TensorProto.FLOAT16: 2, TensorProto.FLOAT: 4, TensorProto.DOUBLE: 8, TensorProto.STRING: 32,
}  # fmt: skip
#: Fields of a tensor that hold one element each.
_ELEMENTS: Final = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
#: Attributes that have one number for each node of trees, or for each value that a leaf gives.
_OF_TREES: Final = frozenset({"nodes_featureids", "class_ids", "target_ids", "leaf_targetids"})
_DISGUISES: Final = {
    b"PK\x03\x04": "a zip archive",
    b"\x80\x02": "a pickle",
    b"\x80\x03": "a pickle",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
    b"\x1f\x8b": "a gzip file",
    b"\x89HDF": "an HDF5 file",
}
_IR_VERSIONS: Final = range(3, 14)
#: Parts of the format that no model here needs, and what is wrong with each.
_UNWANTED: Final[dict[type[Message], str]] = {
    FunctionProto: "functions of its own; export it with functions inlined",
    TrainingInfoProto: "a part for training; export it for inference",
    SparseTensorProto: "sparse tensors, which may say more of their size than they hold; export them dense",
    TypeProto.Sequence: "a value that is a sequence; give tensors (zipmap=False for classifiers of scikit-learn)",
    TypeProto.Map: "a value that is a map; give tensors (zipmap=False for classifiers of scikit-learn)",
    TypeProto.Optional: "a value that may be absent; give tensors",
    TypeProto.SparseTensor: "a value that is a sparse tensor; give dense ones",
}
#: Marks that turn the direction of what follows on a screen.
_TURNING: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_SPACES: Final = frozenset("\t\n\r")
#: No name, description or metadata has more characters.
_LONGEST_TEXT: Final = 1 << 16


class Unfit(Exception):
    """The model is not let in; the text is the reason, printable ASCII."""


def parse(content: bytes) -> ModelProto:
    """Return the model that the bytes hold; raise Unfit when they hold none."""
    for beginning, name in _DISGUISES.items():
        if content.startswith(beginning):
            raise Unfit(f"it is {name}, no ONNX model; export the model to ONNX")
    try:
        model = ModelProto.FromString(content)
    except DecodeError as fault:
        raise Unfit(f"it is no ONNX model, or only a part of one: {shown(fault)}") from fault
    if not model.HasField("graph") or model.ir_version not in _IR_VERSIONS:
        known = f"{_IR_VERSIONS[0]} to {_IR_VERSIONS[-1]}"
        raise Unfit(f"it is no ONNX model with a graph and an IR version of {known}: it says {model.ir_version}")
    return model


def check_opsets(model: ModelProto) -> dict[str, int]:
    """Return the version of each operator set that the model imports; raise Unfit for one that is not known here."""
    found: dict[str, int] = {}
    for imported in model.opset_import:
        domain = STANDARD if imported.domain == "ai.onnx" else imported.domain
        known = OPSETS.get(domain)
        if known is None:
            raise Unfit(f"it imports operators of domain '{shown(domain)}'; only the standard's are let in")
        if found.get(domain, imported.version) != imported.version:
            raise Unfit(f"it imports operator set {domain or 'ai.onnx'!r} twice, in two versions")
        if imported.version not in known:
            said = f"operator set {domain or 'ai.onnx'} {imported.version}"
            raise Unfit(f"it imports {said}; {known[0]} to {known[-1]} are known here")
        found[domain] = imported.version
    return found


def check_parts(model: ModelProto, limits: Limits) -> Counter[str]:
    """Look at every part of the model, however deep it lies; return how many nodes there are of each operator.

    Raises Unfit for data outside the file, tensors that hold more or less than they say, operators that are not
    allowed, parts that no model needs, text that does things to a screen, and more of anything than the limits allow.
    """
    operators: Counter[str] = Counter()
    grown = 0
    for number, part in enumerate(_parts(model, limits.depth)):
        if number >= limits.parts:
            raise Unfit(f"it has more than {limits.parts} parts")
        _check_texts(part)
        match part:
            case NodeProto():
                operators[_operator(part)] += 1
                if operators.total() > limits.nodes:
                    raise Unfit(f"it has more than {limits.nodes} nodes")
            case TensorProto():
                _check_tensor(part)
            case AttributeProto() if part.ref_attr_name:
                raise Unfit(f"attribute '{shown(part.name)}' refers to a function's; export with functions inlined")
            case AttributeProto() if part.name in _OF_TREES:
                grown += len(part.ints)
            case _ if type(part) in _UNWANTED:
                raise Unfit(f"it has {_UNWANTED[type(part)]}")
            case _:
                pass
    if grown > limits.trees:
        said = f"its trees have {grown} nodes and values of leaves"
        raise Unfit(f"{said}, {limits.trees} are allowed together; take fewer or shallower trees")
    return operators


def check_sizes(inferred: ModelProto, limits: Limits) -> None:
    """Raise Unfit when a tensor of which the shape is known takes too much; dimensions that are not known count one."""
    for part in _parts(inferred, limits.depth):
        if isinstance(part, ValueInfoProto):
            tensor = part.type.tensor_type
            taken = prod(max(dim.dim_value, 1) for dim in tensor.shape.dim) * SIZES.get(tensor.elem_type, 1)
            if taken > limits.memory:
                most = f"{limits.memory} are allowed"
                raise Unfit(f"tensor '{shown(part.name)}' would take {taken} bytes for one row; {most}")


def metadata(model: ModelProto) -> dict[str, str]:
    """Return what the author said of the model, made printable."""
    said = {"producer": f"{model.producer_name} {model.producer_version}".strip(), "description": model.doc_string}
    own = {entry.key: entry.value for entry in model.metadata_props}
    return {shown(name): shown(value) for name, value in {**said, **own}.items() if value}


def _parts(message: Message, depth: int) -> Iterator[Message]:
    """Yield a message and all that it holds; raise Unfit when more graphs than `depth` lie within each other."""
    if isinstance(message, GraphProto):
        depth -= 1
        if depth < 0:
            raise Unfit("its graphs lie too deep within each other")
    yield message
    if isinstance(message, TensorProto):
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if field.is_repeated else (value,):
                yield from _parts(inner, depth)


def _operator(node: NodeProto) -> str:
    domain = STANDARD if node.domain == "ai.onnx" else node.domain
    name = qualified(domain, node.op_type)
    if node.op_type not in ALLOWED.get(domain, ()):
        advice = ADVICE.get(node.op_type, "use the standard's, without loops, sequences and random numbers")
        raise Unfit(f"operator {shown(name)} (node '{shown(node.name)}') is not allowed; {advice}")
    return name


def _check_tensor(tensor: TensorProto) -> None:
    name = f"tensor '{shown(tensor.name)}'"
    if tensor.data_location != TensorProto.DEFAULT or tensor.external_data:
        where = {entry.key: entry.value for entry in tensor.external_data}.get("location", "")
        raise Unfit(f"{name} has its data outside the file, in '{shown(where)}'; save the model as one file")
    size = SIZES.get(tensor.data_type)
    if size is None or tensor.HasField("segment"):
        raise Unfit(f"{name} is of datatype {tensor.data_type}, or in segments; neither is known here")
    if any(dim < 0 for dim in tensor.dims):
        raise Unfit(f"{name} has a negative dimension: {shown(list(tensor.dims))}")
    said = prod(tensor.dims)
    raw = tensor.HasField("raw_data") and tensor.data_type != TensorProto.STRING
    held = len(tensor.raw_data) / size if raw else sum(len(getattr(tensor, field)) for field in _ELEMENTS)
    if held != said:
        raise Unfit(f"{name} says that it has {said} elements and holds {held:g}")


def _check_texts(part: Message) -> None:
    """Refuse text that is too long or controls a screen; descriptions and metadata may have lines."""
    lines = isinstance(part, StringStringEntryProto)
    for field, value in part.ListFields():
        if field.type == field.TYPE_STRING:
            allowed = _SPACES if lines or field.name == "doc_string" else frozenset[str]()
            for text in value if field.is_repeated else (value,):
                if isinstance(text, bytes):  # what protobuf makes of it then
                    raise Unfit(f"{field.name} '{shown(text)}' is no UTF-8")
                if len(text) > _LONGEST_TEXT:
                    raise Unfit(f"{field.name} '{shown(text, 40)}' has {len(text)} characters, at most {_LONGEST_TEXT}")
                if not text.isprintable() or not _TURNING.isdisjoint(text):
                    _refuse_marks(field.name, text, allowed)


def _refuse_marks(field: str, text: str, allowed: frozenset[str]) -> None:
    marks = sorted({mark for mark in text if mark not in allowed and (ord(mark) < 32 or _acts(mark))})
    if marks:
        raise Unfit(f"{shown(field)} '{shown(text)}' holds control characters: {shown(''.join(marks))}")


def _acts(mark: str) -> bool:
    return "\x7f" <= mark <= "\x9f" or mark in _TURNING
