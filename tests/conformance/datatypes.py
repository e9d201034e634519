"""Every datatype of the protocol, both ways and in every form."""

from functools import partial

import numpy as np
from tests.conformance.models import DATATYPES
from tests.conformance.sentences import DEV, EVERY, JSON, STUBS, TRITON, TYPED, Client, Input, Values, refused, says

#: The ends of what each datatype holds, and something between.
CELLS: dict[str, Values] = {
    "BOOL": np.array([[True, False, True]]),
    **{f"UINT{bits}": np.array([[0, 1, 2**bits - 1]], f"u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": np.array([[-(2 ** (bits - 1)), 0, 2 ** (bits - 1) - 1]], f"i{bits // 8}") for bits in (8, 16, 32)},
    "INT64": np.array([[-(2**63), 0, 2**63 - 1]]),
    "FP16": np.array([[-65504.0, 0.1, 65504.0]], np.float16),
    "FP32": np.array([[np.finfo(np.float32).min, 0.1, np.finfo(np.float32).max]], np.float32),
    "FP64": np.array([[np.finfo(np.float64).min, 0.1, np.finfo(np.float64).max]]),
    "BYTES": np.array([[b"", "wind \u2603 \U0001f300".encode(), b"line\nline\x00\"'"]], object),
}


def both_ways(datatype: str, client: Client) -> None:
    cells = CELLS[datatype]
    answer = client.infer(datatype.lower(), {"x": cells})
    assert answer.datatypes == {"y": datatype}
    found = answer.outputs["y"]
    assert (found.dtype, found.shape, found.tolist()) == (cells.dtype, cells.shape, cells.tolist())


def nothing(datatype: str, client: Client) -> None:
    for shape in ((0, 3), (3, 0), (0, 0)):
        answer = client.infer(datatype.lower(), {"x": np.zeros(shape, CELLS[datatype].dtype)})
        assert answer.outputs["y"].shape == shape


for name in DATATYPES:
    # FP16 has no form but raw bytes.
    through = TRITON if name == "FP16" else EVERY
    says(f"{name} goes both ways, to the ends of what it holds", *through, on=(DEV,))(partial(both_ways, name))
    says(f"{name} without cells goes both ways", *through, on=(DEV,))(partial(nothing, name))


@says("a scalar has no dimension, and one cell", *EVERY, on=(DEV,))
def scalar(client: Client) -> None:
    found = client.infer("scalar", {"x": np.array(0.5, np.float32)}).outputs["y"]
    assert (found.shape, found.tolist()) == ((), 0.5)


@says("one dimension where a scalar is wanted is refused", *EVERY, on=(DEV,))
def no_scalar(client: Client) -> None:
    refused("INVALID_ARGUMENT", client.infer, "scalar", {"x": np.ones(1, np.float32)})


@says("two variable dimensions are each what the call says", *EVERY, on=(DEV,))
def open_dimensions(client: Client) -> None:
    for shape in ((1, 6), (2, 3), (6, 1)):
        assert client.infer("open", {"x": np.arange(6, dtype=np.float32).reshape(shape)}).outputs["y"].shape == shape


@says("FP16 as JSON is refused, and the error says how it can be sent", JSON, on=(DEV,))
def half_as_json(client: Client) -> None:
    assert "raw" in refused("INVALID_ARGUMENT", client.infer, "fp16", {"x": CELLS["FP16"]})


@says("FP16 as typed contents is refused, and the error says how it can be sent", STUBS, on=(DEV,))
def half_typed(client: Client) -> None:
    message = client.request("fp16", {"x": CELLS["FP16"].astype(np.float32)})
    message.inputs[0].datatype = "FP16"
    assert "raw" in refused("INVALID_ARGUMENT", client.call, "ModelInfer", message)


@says("BF16 is refused by name: ONNX models here have none", *TRITON, on=(DEV,))
def brain_float(client: Client) -> None:
    given = [Input("x", CELLS["FP16"], datatype="BF16")]
    assert "BF16" in refused("INVALID_ARGUMENT", client.infer, "fp16", given)


@says("BYTES that are no text are refused by a model whose strings are text", *TRITON, TYPED, on=(DEV,))
def no_text(client: Client) -> None:
    assert "UTF-8" in refused("INVALID_ARGUMENT", client.infer, "lines", {"x": np.array([b"\xff"], object)}, ["y"])


@says("an element of BYTES may be long", *EVERY, on=(DEV,))
def long_text(client: Client) -> None:
    text = b"x" * 300_000
    assert client.infer("lines", {"x": np.array([text, b"y"], object)}).outputs["y"].tolist() == [text, b"y"]


@says("a tensor of some megabytes goes both ways", *TRITON, TYPED, on=(DEV,))
def large(client: Client) -> None:
    cells = np.arange(600_000, dtype=np.float32).reshape(600, 1000)
    assert (client.infer("open", {"x": cells}).outputs["y"] == cells).all()
