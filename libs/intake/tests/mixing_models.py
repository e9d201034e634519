"""Bad files that mix the rows of a batch, but only of some batches: of one size, or where numbers are missing."""

from typing import Final

import numpy as np
from libs.intake.tests.hostile_models import model, node, numbers, value
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

#: What the gate says of each.
MIXED: Final = "output 'y' of a row beside others is not what it is alone"

#: What is often written for a number that is missing.
CODES: Final = (-1, 999, -999)

_MEAN: Final = [node("ReduceMean", ["x", "first"], ["mean"]), node("Shape", ["x"], ["shape"])]
#: `mean` is what all rows have in common, `many` is true in a batch of `size`, `missing` where any number is NaN.
_SIZED: Final = [*_MEAN, node("Gather", ["shape", "zero"], ["rows"]), node("Equal", ["rows", "size"], ["many"])]
_SEEN: Final = [
    node("IsNaN", ["x"], ["nan"]),
    node("Cast", ["nan"], ["counted"], to=TensorProto.INT32),
    node("ReduceMax", ["counted"], ["most"], keepdims=0),
    node("Cast", ["most"], ["missing"], to=TensorProto.BOOL),
]


def _sized(size: int, *nodes: NodeProto) -> ModelProto:
    constants = {"first": [0], "zero": 0, "size": size}
    tensors = [numpy_helper.from_array(np.array(at, np.int64), name) for name, at in constants.items()]
    return model([*_SIZED, *nodes], tensors)


def mixing_in_a_choice(size: int) -> ModelProto:
    """Return one that gives every row the mean of a batch of so many rows, and else what it took."""

    def branch(name: str, *nodes: NodeProto) -> GraphProto:
        return helper.make_graph(nodes, name, [], [value(name)])

    mixed = branch("mixed", node("Expand", ["mean", "shape"], ["mixed"]))
    apart = branch("apart", node("Identity", ["x"], ["apart"]))
    return _sized(size, node("If", ["many"], then_branch=mixed, else_branch=apart))


def mixing_where(size: int) -> ModelProto:
    """Return one that does the same without a choice of what is run."""
    return _sized(size, node("Where", ["many", "mean", "x"]))


def mixing_what_is_whole(size: int) -> ModelProto:
    """Return one that does so only where nothing is missing in the batch."""
    whole = [node("Not", ["missing"], ["whole"]), node("And", ["many", "whole"], ["mixed"])]
    return _sized(size, *_SEEN, *whole, node("Where", ["mixed", "mean", "x"]))


def mixing_what_is_missing(size: int) -> ModelProto:
    """Return one that fills what is missing with the mean of what is not, in batches of so many rows, else with 0."""
    filled = [node("And", ["many", "nan"], ["mixed"]), *_filling("mixed")]
    return _sized(size, *_SEEN, *filled)


def filling_with_the_mean() -> ModelProto:
    """Return what an author may make who means no harm: what is missing in a column is filled with its mean."""
    return model([node("IsNaN", ["x"], ["nan"]), *_filling("nan")], [numbers("first", 0)])


def filling_codes(code: int) -> ModelProto:
    """Return one that does so where a number is written that stands for a missing one."""
    coded = [node("Constant", [], ["code"], value=numpy_helper.from_array(np.array(float(code))))]
    return model([*coded, node("Equal", ["x", "code"], ["nan"]), *_filling("nan")], [numbers("first", 0)])


def filling_whole_codes(code: int) -> ModelProto:
    """Return one that does so, and takes whole numbers."""
    cast = node("Cast", ["whole"], ["x"], to=TensorProto.DOUBLE)
    filling = filling_codes(code).graph
    whole = value("whole", kind=TensorProto.INT64)
    return model([cast, *filling.node], [*filling.initializer], inputs=[whole])


def demeaned(scale: float, base: float) -> ModelProto:
    """Return one that says by how much of `scale` a row is above the mean of its batch, beside a `base`."""
    constants = {name: numpy_helper.from_array(np.array(at)) for name, at in (("scale", scale), ("base", base))}
    return model(
        [
            *(node("Constant", [], [name], value=tensor) for name, tensor in constants.items()),
            node("ReduceMean", ["x", "first"], ["mean"]),
            node("Sub", ["x", "mean"], ["above"]),
            node("Mul", ["above", "scale"], ["scaled"]),
            node("Add", ["scaled", "base"]),
        ],
        [numbers("first", 0)],
    )


def _filling(where: str) -> list[NodeProto]:
    """Return nodes that put the mean of a column where something is true, and 0 for what else is missing."""
    zero, one = (numpy_helper.from_array(np.array(number)) for number in (0.0, 1.0))
    return [
        node("Constant", [], ["none"], value=zero),
        node("Constant", [], ["one"], value=one),
        node("Where", ["nan", "none", "x"], ["there"]),
        node("Where", ["nan", "none", "one"], ["each"]),
        node("ReduceSum", ["there", "first"], ["sum"]),
        node("ReduceSum", ["each", "first"], ["found"]),
        node("Max", ["found", "one"], ["count"]),
        node("Div", ["sum", "count"], ["filling"]),
        node("Where", [where, "filling", "there"]),
    ]


def mixing() -> dict[str, tuple[bytes, str]]:
    """Return them by name, each with what the gate has to say of it."""
    made = {
        "rows that know each other in pairs": mixing_in_a_choice(2),
        "rows that know each other in batches of 26": mixing_in_a_choice(26),
        "rows that know each other in batches of 37": mixing_where(37),
        "rows that know each other in the largest batch": mixing_where(64),
        "rows that know each other in batches of 5 that are whole": mixing_what_is_whole(5),
        "rows that know each other in batches of 12 by what is missing": mixing_what_is_missing(12),
        "missing numbers that know those of other rows": filling_with_the_mean(),
        **{f"what is written as {code} knows the numbers of other rows": filling_codes(code) for code in CODES},
        **{f"what is whole and {code} knows the numbers of other rows": filling_whole_codes(code) for code in CODES},
        "small numbers that know those of other rows": demeaned(1e-6, 0.0),
        "what rows know of each other beside a large number": demeaned(20.0, 500_000.0),
    }
    return {name: (content.SerializeToString(), MIXED) for name, content in made.items()}
