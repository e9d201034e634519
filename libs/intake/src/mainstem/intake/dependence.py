"""Whether the values of a row decide how much is done: then a run on zeros says nothing of a run on other rows."""

from collections.abc import Iterable, Set
from typing import Final

from onnx import AttributeProto, GraphProto, NodeProto

from mainstem.intake.operators import ADVICE, ALLOWED, STANDARD
from mainstem.intake.structure import Unfit
from mainstem.intake.verdict import shown

#: Inputs of which the values decide what is run or the shape of an output, by operator; in any operator set.
_DECIDED_BY: Final = {
    "Compress": (1,),
    "ConstantOfShape": (0,),
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
    "Unique": (0,),
    "Unsqueeze": (1,),
    **{operator: (1,) for operator in ALLOWED[STANDARD] if operator.startswith("Reduce")},
}
#: Operators that tell the shape of what they take, and nothing of the values.
_OF_SHAPE: Final = frozenset({"Shape", "Size"})


def check_dependence(graph: GraphProto) -> None:
    """Raise Unfit when the shape of a tensor, or what is run, depends on values of the inputs.

    What is small or quick for zeros may be huge or slow for another row.
    """
    constants = {tensor.name for tensor in graph.initializer}
    _follow(graph, {value.name for value in graph.input} - constants)


def _follow(graph: GraphProto, given: Set[str]) -> set[str]:
    """Return the names in a graph that depend on values of the inputs; `given` do around it."""
    known = set(given)
    for node in graph.node:
        if any(node.input[at] in known for at in _DECIDED_BY.get(node.op_type, ()) if at < len(node.input)):
            said = f"how much operator {node.op_type} (node '{shown(node.name)}') does depends on the values of a row"
            raise Unfit(f"{said}; {ADVICE.get(node.op_type, 'take it from constants or shapes')}")
        dependent = bool(known.intersection(node.input))
        for inner in _graphs(node):
            dependent |= bool(_follow(inner, known).intersection(value.name for value in inner.output))
        if dependent and node.op_type not in _OF_SHAPE:
            known.update(filter(None, node.output))  # an output without a name is one that is not wanted
    return known


def _graphs(node: NodeProto) -> Iterable[GraphProto]:
    return [attribute.g for attribute in node.attribute if attribute.type == AttributeProto.GRAPH]
