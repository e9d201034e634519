"""The process in which a file is examined: limits in its argument, the file at its standard input, one verdict out."""

import json
import sys

import onnx

from mainstem.intake.limits import Limits
from mainstem.intake.sandbox import confine
from mainstem.intake.structure import Unfit
from mainstem.intake.trial import examine


def main(limits: Limits) -> None:
    """Examine one file; end without a verdict when the machine offers no sandbox."""
    examine(_smallest(), Limits())  # what is loaded late is loaded now
    confine(limits)
    try:
        verdict = examine(sys.stdin.buffer.read(), limits).encode()
    except Unfit as fault:
        verdict = json.dumps({"refused": str(fault)})
    except MemoryError:
        verdict = json.dumps({"refused": "examining it takes more memory than is allowed"})
    sys.stdout.write(verdict)
    sys.stdout.flush()


def _smallest() -> bytes:
    """Return a model that gives what it takes."""
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, [None, 1]) for name in ("in", "out")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["in"], ["out"])], "g", value[:1], value[1:])
    opsets = [onnx.helper.make_opsetid("", 21)]
    return bytes(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())


if __name__ == "__main__":
    main(Limits(**json.loads(sys.argv[1])))
