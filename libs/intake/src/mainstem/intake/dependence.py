"""Whether the values of a row decide how much is done, or end it: then a run on zeros says nothing of other rows."""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Final

from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, numpy_helper

from mainstem.intake.operators import ADVICE, ALLOWED, STANDARD
from mainstem.intake.structure import Unfit
from mainstem.intake.verdict import shown

#: Inputs of which the values decide what is run, the shape of an output, or which elements are taken together, by
#: operator; in any operator set.
_DECIDED_BY: Final = {
    "Compress": (1,),
    "ConstantOfShape": (0,),
    "CumSum": (1,),
    "Expand": (1,),
    "If": (0,),
    "NonZero": (0,),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Trilu": (1,),
    "Unique": (0,),
    "Unsqueeze": (1,),
    **{operator: (1,) for operator in ALLOWED[STANDARD] if operator.startswith("Reduce")},
}
#: Operators that tell the shape of what they take, and nothing of the values.
_OF_SHAPE: Final = frozenset({"Shape", "Size"})
#: Of whole numbers these end the process where a divisor is 0, or -1 below the least number.
_DIVISIONS: Final = frozenset({"Div", "Mod"})
_FRACTIONS: Final = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16})
_WHOLE: Final = frozenset({*range(TensorProto.UINT8, TensorProto.INT64 + 1), TensorProto.UINT32, TensorProto.UINT64})
#: Operators that may learn as they run, or draw, and the input that says so, if it is not the attribute.
_NOWHERE: Final = 1 << 31
_TRAINED: Final = {"BatchNormalization": _NOWHERE, "Dropout": 2}
_TRAINING: Final = "training_mode"


def check_dependence(graph: GraphProto) -> None:
    """Raise Unfit when the shape of a tensor, or what is run, depends on values of the inputs.

    What is small or quick for zeros may be huge or slow for another row.
    """
    _follow(graph, _given(graph))


def check_divisions(graph: GraphProto) -> None:
    """Raise Unfit when whole numbers that depend on the inputs are divided by others than positive constants.

    By 0, or the least number by -1, ends the process. `graph` has the types of its tensors.
    """
    _follow(graph, _given(graph), _Around({}, frozenset()))


def check_repeatable(graph: GraphProto) -> None:
    """Raise Unfit when an operator learns as it runs, or draws: one row would be answered in more than one way."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        trained = node.op_type in _TRAINED and any(each.name == _TRAINING and each.i for each in node.attribute)
        said = node.input[_TRAINED[node.op_type]] if len(node.input) > _TRAINED.get(node.op_type, _NOWHERE) else ""
        if trained or (said and (said not in constants or numpy_helper.to_array(constants[said]).any())):
            raise Unfit(f"operator {node.op_type} (node '{shown(node.name)}') is in training; export for inference")
        for inner in _graphs(node):
            check_repeatable(inner)


def _given(graph: GraphProto) -> set[str]:
    return {value.name for value in graph.input} - {tensor.name for tensor in graph.initializer}


def _follow(graph: GraphProto, given: Set[str], around: "_Around | None" = None) -> set[str]:
    """Return the names in a graph that depend on values of the inputs; `given` do around it."""
    known, scope = set(given), None if around is None else around.within(graph)
    for node in graph.node:
        if scope is not None and known.intersection(node.input) and not scope.divides_well(node):
            said = f"operator {node.op_type} (node '{shown(node.name)}') divides whole numbers that a row decides"
            raise Unfit(f"{said}; divide by positive constants, or fractions")
        if any(node.input[at] in known for at in _DECIDED_BY.get(node.op_type, ()) if at < len(node.input)):
            said = f"how much operator {node.op_type} (node '{shown(node.name)}') does depends on the values of a row"
            raise Unfit(f"{said}; {ADVICE.get(node.op_type, 'take it from constants or shapes')}")
        dependent = bool(known.intersection(node.input))
        for inner in _graphs(node):
            dependent |= bool(_follow(inner, known, scope).intersection(value.name for value in inner.output))
        if dependent and node.op_type not in _OF_SHAPE:
            known.update(filter(None, node.output))  # an output without a name is one that is not wanted
    return known


@dataclass(frozen=True)
class _Around:
    """What is known of names in a graph and around it: their datatypes, and which are constants above zero."""

    types: Mapping[str, int]
    positive: Set[str]

    def within(self, graph: GraphProto) -> "_Around":
        """Return what is known in a graph that stands here."""
        values = [*graph.input, *graph.value_info, *graph.output]
        constants = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            given = [attribute.t for attribute in node.attribute if attribute.name == "value"]
            if node.op_type == "Constant" and given:
                constants[node.output[0]] = given[0]
        types = {value.name: value.type.tensor_type.elem_type for value in values}
        types |= {name: tensor.data_type for name, tensor in constants.items()}
        positive = {
            name
            for name, tensor in constants.items()
            if tensor.data_type in _WHOLE and (numpy_helper.to_array(tensor) > 0).all()
        }
        return _Around({**self.types, **types}, self.positive | positive)

    def divides_well(self, node: NodeProto) -> bool:
        """Tell whether a node does not end the process, whatever it divides; by what is not known, it does."""
        if node.op_type not in _DIVISIONS:
            return True
        fractions = any(self.types.get(name) in _FRACTIONS for name in (*node.input, *node.output))
        return fractions or node.input[1] in self.positive


def _graphs(node: NodeProto) -> Iterable[GraphProto]:
    return [attribute.g for attribute in node.attribute if attribute.type == AttributeProto.GRAPH]
