"""What the values of a row may decide, looked at in graphs of a node or two."""

import numpy as np
import pytest
from libs.intake.tests.hostile_models import model, node, numbers
from onnx import TensorProto

from mainstem.intake.dependence import check_dependence
from mainstem.intake.structure import Unfit

#: An operator, and its inputs before the one of which the values decide how much it does.
DECIDED = [
    ("Compress", ["x"]), ("ConstantOfShape", []), ("Expand", ["x"]), ("If", []), ("NonZero", []), ("OneHot", ["x"]),
    ("Pad", ["x"]), ("Pad", ["x", "c", ""]), ("Range", []), ("Range", ["c"]), ("Range", ["c", "c"]),
    ("ReduceMax", ["x"]), ("ReduceSum", ["x"]), ("Reshape", ["x"]), ("Resize", ["x"]), ("Resize", ["x", ""]),
    ("Resize", ["x", "", ""]), ("Slice", ["x"]), ("Slice", ["x", "c"]), ("Slice", ["x", "c", "c"]),
    ("Slice", ["x", "c", "c", ""]), ("Split", ["x"]), ("Squeeze", ["x"]), ("Tile", ["x"]), ("TopK", ["x"]),
    ("Unique", []), ("Unsqueeze", ["x"]), ("CumSum", ["x"]), ("Trilu", ["x"]),
]  # fmt: skip


@pytest.mark.parametrize(("operator", "before"), DECIDED)
def test_how_much_is_done_is_decided_by_constants_and_shapes_and_not_by_the_values_of_a_row(
    operator: str, before: list[str]
) -> None:
    def sized(by: str) -> None:
        made = [node("Cast", ["x"], ["values"], to=TensorProto.INT64), node("Shape", ["x"], ["shape"])]
        check_dependence(model([*made, node(operator, [*before, by])], [numbers("c", 1)]).graph)

    with pytest.raises(Unfit, match=f"how much operator {operator} .* does depends on the values of a row; "):
        sized("values")
    sized("shape")
    sized("c")


def test_what_is_not_given_depends_on_nothing() -> None:
    """Outputs that are not wanted, and inputs that are not given, have the same empty name."""
    nodes = [node("LSTM", ["x", "w", "w"], ["", "last"]), node("Slice", ["last", "c", "c", "", "c"])]
    check_dependence(model(nodes, [numbers("c", 1), numbers("w", 1.0, kind=np.float64)]).graph)
