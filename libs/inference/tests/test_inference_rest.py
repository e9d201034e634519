"""Bodies as clients we did not write make and read them, and what no client of ours would send."""

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

from mainstem.inference import Answer, Request, Signature, Spec, Tensor, Wanted
from mainstem.inference.errors import BadRequest, TooLarge, Unsupported
from mainstem.inference.rest import JSON_LENGTH, JSON_TYPE, RAW_TYPE, Asked, Reader, read_plain, write
from mainstem.inference.tensors import BYTES, NUMBERS, Values, texts

SIGNATURE = Signature((Spec("features", "FP64", (-1, 3)),), (Spec("probabilities", "FP64", (-1, 2)),))
JSON_NUMBERS = sorted(set(NUMBERS) - {"FP16"})
DATATYPES = sorted([*NUMBERS, BYTES])


def read(body: bytes, length: str | None, signature: Signature = SIGNATURE) -> Request:
    return Reader(signature).read(body, length)


def arrays(datatype: str) -> st.SearchStrategy[Values]:
    shapes = st_np.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    if datatype == BYTES:
        return shapes.flatmap(
            lambda shape: st_np.arrays(object, shape, elements=st.binary(max_size=9), fill=st.nothing())
        )
    return shapes.flatmap(lambda shape: st_np.arrays(NUMBERS[datatype], shape))


def tensors() -> st.SearchStrategy[Tensor]:
    return st.sampled_from(DATATYPES).flatmap(arrays).map(lambda values: Tensor("x", values))


def same(one: Values, other: Values) -> bool:
    return (
        one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
        if not (one.dtype.hasobject)
        else one.shape == other.shape and one.tolist() == other.tolist()
    )


def asked_by_triton(tensors: Sequence[Tensor], *, raw: bool = True, **said: object) -> tuple[bytes, str | None]:
    """Return body and header of a request that tritonclient makes."""
    inputs = []
    for tensor in tensors:
        inputs.append(InferInput(tensor.name, list(tensor.values.shape), tensor.datatype))
        inputs[-1].set_data_from_numpy(tensor.values, binary_data=raw)
    body, length = InferenceServerClient.generate_request_body(inputs, **said)
    return bytes(body), None if length is None else str(length)


def asked(document: object, tail: bytes = b"") -> Request:
    head = document if isinstance(document, bytes) else json.dumps(document).encode()
    return read(head + tail, str(len(head)) if tail else None, SIGNATURE)


def one(**said: object) -> dict[str, object]:
    return {"inputs": [{"name": "features", "shape": [1, 3], "datatype": "FP64", "data": [1, 2, 3], **said}]}


@settings(max_examples=300)
@given(st.lists(tensors(), min_size=1, max_size=3))
def test_what_tritonclient_sends_as_raw_bytes_is_read_as_it_was(tensors: list[Tensor]) -> None:
    named = [Tensor(f"x{number}", tensor.values) for number, tensor in enumerate(tensors)]
    found = read(*asked_by_triton(named, request_id="mine"), SIGNATURE)
    assert found.id == "mine"
    assert found.raw  # it asks for all outputs as raw bytes, if none is listed
    assert [tensor.name for tensor in found.inputs] == [tensor.name for tensor in named]
    assert all(same(got.values, sent.values) for got, sent in zip(found.inputs, named, strict=True))


@pytest.mark.parametrize("datatype", [*JSON_NUMBERS, BYTES])
@settings(max_examples=60)
@given(data=st.data())
def test_what_tritonclient_sends_as_json_is_read_as_it_was(datatype: str, data: st.DataObject) -> None:
    values = data.draw(arrays(datatype).filter(lambda found: found.ndim > 0))
    if datatype == BYTES:
        values = np.array([b"%d" % number for number in range(values.size)], object).reshape(values.shape)
    else:
        values = np.nan_to_num(values, posinf=1, neginf=-1) if values.dtype.kind == "f" else values
    body, length = asked_by_triton([Tensor("x", values)], raw=False)
    assert length is None
    (found,) = read(body, length, SIGNATURE).inputs
    assert same(found.values, values.astype(found.values.dtype))


@settings(max_examples=300)
@given(st.lists(st.tuples(tensors(), st.booleans()), max_size=3))
def test_tritonclient_reads_what_is_answered(outputs: list[tuple[Tensor, bool]]) -> None:
    named = [(Tensor(f"y{at}", tensor.values), True) for at, (tensor, _) in enumerate(outputs)]
    body, headers = write(Answer("storm", "3", "mine", named, {"position": "a/0/1"}))
    result = InferenceServerClient.parse_response_body(body, header_length=_length(headers))
    assert result.get_response()["id"] == "mine"
    assert result.get_response()["parameters"] == {"position": "a/0/1"}
    for tensor, _ in named:
        found = result.as_numpy(tensor.name)
        assert same(found.astype(tensor.values.dtype) if tensor.datatype != BYTES else found, tensor.values)


def _length(headers: dict[str, str]) -> int | None:
    found = headers.get(JSON_LENGTH)
    return None if found is None else int(found)


@pytest.mark.parametrize("datatype", [*JSON_NUMBERS, BYTES])
def test_an_answer_in_json_has_the_cells_in_a_row(datatype: str) -> None:
    values = texts([b"a", b"\xc3\xa9"]) if datatype == BYTES else np.array([0, 1], NUMBERS[datatype])
    body, headers = write(Answer("storm", "3", "mine", [(Tensor("y", values.reshape(2, 1)), False)]))
    (output,) = json.loads(body)["outputs"]
    assert headers == {"content-type": JSON_TYPE}
    assert (output["shape"], output["datatype"]) == ([2, 1], datatype)
    assert output["data"] == (["a", "é"] if datatype == BYTES else [0, 1])


@settings(max_examples=300)
@given(
    rows=st.lists(st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3)),
    more=st.fixed_dictionaries(
        {},
        optional={
            "id": st.text(),
            "parameters": st.just({"entity": "N1", "timeout": 5}),
            "outputs": st.just([{"name": "y"}]),
        },
    ),
)
def test_most_requests_are_read_at_once_and_just_like_all_others(
    rows: list[list[float | None]], more: dict[str, object]
) -> None:
    flat = [cell for row in rows for cell in row]
    body = json.dumps({**one(shape=[len(rows), 3], data=flat), **more}).encode()
    plain, general = read_plain("features", body), read(body, None)
    assert (plain is None) == ("outputs" in more)
    if plain is not None:
        (tensor,) = general.inputs
        assert same(plain.values, tensor.values)
        assert plain.columns is None
        assert (plain.id, plain.parameters) == (general.id, Asked(**general.parameters))  # type: ignore[arg-type]
        assert (general.outputs, general.raw) == (None, False)


@pytest.mark.parametrize(
    "said",
    [
        {"name": "other"},
        {"name": "other", "shape": [3], "data": [1, 2, "x"]},
        {"name": "other", "shape": [3], "datatype": "BYTES", "data": ["x", "y", 3]},
        {"name": "other", "shape": [3], "datatype": "INT64", "data": [1, 2.5, 3]},
        {"name": "other", "shape": [3], "datatype": "FP64", "data": [1, 2.5, 10**400]},
        {"name": "other", "shape": [3], "datatype": "INT32"},
        {"datatype": "FP32"},
        {"data": [[1, 2, 3]]},
        {"shape": [3]},
        {"shape": [-1, -3]},
        {"shape": [0, 10**30], "data": []},
        {"shape": [10**30, 0], "data": []},
        {"shape": [2, 3]},
        {"parameters": {"binary_data_size": 24}},
        {"data": ["x"]},
    ],
)
def test_every_other_form_is_left_to_the_general_reader(said: dict[str, object]) -> None:
    assert read_plain("features", json.dumps(one(**said)).encode()) is None
    assert read_plain("features", b"[]") is None
    assert read_plain("features", json.dumps({**one(), "parameters": {"binary_data_output": True}}).encode()) is None
    assert read_plain("features", json.dumps({**one(), "parameters": {"timeout": -1}}).encode()) is None
    assert read_plain("features", json.dumps({"inputs": one()["inputs"] * 2}).encode()) is None  # type: ignore[operator]


def test_columns_are_read_at_once_too() -> None:
    texts = {"name": "city", "datatype": "BYTES", "shape": [2], "data": ["Oslo", "\u00c5s"]}
    numbers = {"name": "wind", "datatype": "FP64", "shape": [2], "data": [1, None]}
    whole = {"name": "n", "datatype": "INT64", "shape": [2], "data": [1, 2**60 + 1]}
    plain = read_plain("features", json.dumps({"inputs": [texts, numbers, whole], "id": "a"}).encode())
    assert plain is not None
    assert plain.columns == {"city": ["Oslo", "\u00c5s"], "wind": [1.0, None], "n": [1, 2**60 + 1]}
    assert (plain.values.shape, plain.id) == ((2, 0), "a")
    only = read_plain("features", json.dumps({"inputs": [numbers]}).encode())
    assert only is not None
    assert only.columns == {"wind": [1.0, None]}


def test_null_is_no_number_both_ways() -> None:
    (found,) = asked(one(data=[None, 1.5, None])).inputs
    assert np.isnan(found.values).tolist() == [[True, False, True]]
    body, _ = write(Answer("storm", "3", "mine", [(Tensor("y", np.array([np.nan, np.inf, 1.0])), False)]))
    assert json.loads(body)["outputs"][0]["data"] == [None, None, 1.0]


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    ("datatype", "data", "values"),
    [
        (BYTES, ["Oslo", None, ""], [b"Oslo", b"", b""]),
        ("INT64", [2**60 + 1, None, 0], [2**60 + 1, 0, 0]),
        ("UINT8", [255, None, 1], [255, 0, 1]),
        ("BOOL", [True, None, False], [True, False, False]),
    ],
)
def test_null_where_the_datatype_has_no_value_for_it_is_told_beside_the_values_and_is_no_models_input(
    datatype: str, data: list[object], values: list[object], nested: bool
) -> None:
    sent = [[each] for each in data] if nested else data
    (found,) = asked(one(name="x", datatype=datatype, shape=[3, 1], data=sent)).inputs
    assert (found.datatype, found.values.ravel().tolist()) == (datatype, values)
    assert found.unknown is not None
    assert found.unknown.tolist() == [[False], [True], [False]]
    with pytest.raises(BadRequest, match=f"input 'x' holds null, for which {datatype} has no value; send one"):
        Spec("x", datatype, (-1, 1)).accept(found)


def test_columns_with_null_are_read_at_once() -> None:
    inputs = [
        {"name": "city", "datatype": "BYTES", "shape": [2], "data": ["Oslo", None]},
        {"name": "n", "datatype": "INT64", "shape": [2], "data": [None, 2]},
    ]
    plain = read_plain("features", json.dumps({"inputs": inputs}).encode())
    assert plain is not None
    assert plain.columns == {"city": ["Oslo", None], "n": [None, 2]}


def test_json_and_raw_tensors_may_be_mixed_both_ways() -> None:
    document = {
        "inputs": [
            {"name": "a", "shape": [2], "datatype": "INT8", "parameters": {"binary_data_size": 2}},
            {"name": "b", "shape": [1, 2], "datatype": "INT16", "data": [[3, -4]]},
            {"name": "c", "shape": [1], "datatype": BYTES, "parameters": {"binary_data_size": 6}},
        ],
        "outputs": [{"name": "x", "parameters": {"binary_data": True}}, {"name": "y"}],
    }
    found = asked(document, b"\x01\xff\x02\0\0\0hi")
    assert [tensor.values.tolist() for tensor in found.inputs] == [[1, -1], [[3, -4]], [b"hi"]]
    assert found.outputs == [Wanted("x", raw=True), Wanted("y", raw=False)]
    outputs = [(Tensor("x", np.array([1, 2], "i1")), True), (Tensor("y", np.array([3], "i1")), False)]
    body, headers = write(Answer("storm", "3", "mine", outputs))
    assert headers["content-type"] == RAW_TYPE
    result = InferenceServerClient.parse_response_body(body, header_length=_length(headers))
    assert [result.as_numpy(name).tolist() for name in "xy"] == [[1, 2], [3]]


def test_a_body_that_is_nothing_but_the_input_is_taken() -> None:
    rows = np.arange(6.0).reshape(2, 3)
    found = read(rows.tobytes(), "0", SIGNATURE)
    assert (found.inputs[0].values.tolist(), found.raw, found.outputs) == (rows.tolist(), True, None)
    assert read(b"", "0", SIGNATURE).inputs[0].values.shape == (0, 3)


def test_the_outputs_that_are_asked_for_are_given_in_their_order() -> None:
    signature = Signature((), (Spec("a", "FP64", (1,)), Spec("b", "FP64", (1,))))
    assert Request([]).wanted(signature) == [Wanted("a", raw=False), Wanted("b", raw=False)]
    assert Request([], raw=True).wanted(signature)[0].raw
    body, length = asked_by_triton(
        [], outputs=[InferRequestedOutput("b", binary_data=False), InferRequestedOutput("a")]
    )
    assert read(body, length, SIGNATURE).wanted(signature) == [Wanted("b", raw=False), Wanted("a", raw=True)]
    with pytest.raises(BadRequest, match=r"there is no output 'c'; the model gives \['a', 'b'\]"):
        Request([], outputs=[Wanted("c", raw=False)]).wanted(signature)
    with pytest.raises(BadRequest, match="an output is asked for twice"):
        Request([], outputs=[Wanted("a", raw=False)] * 2).wanted(signature)


REFUSED = {
    "no JSON": (b"{", "is no inference request"),
    "another document": (b"[]", "is no inference request"),
    "no UTF-8": (b'{"inputs":[{"name":"\xff"}]}', "is no inference request"),
    "no inputs": ({}, "is no inference request"),
    "depth": (b'{"inputs":' + b"[" * 100_000, "is no inference request"),
    "a parameter that is a list": ({**one(), "parameters": {"a": []}}, "is no inference request"),
    "a flag that is a number": ({**one(), "parameters": {"binary_data_output": 1}}, "send true or false"),
    "no data": (one(data=[]), "has 0 values, its shape"),
    "neither": ({"inputs": [{"name": "x", "shape": [1], "datatype": "FP64"}]}, "neither `data` nor"),
    "too few": (one(data=[1, 2]), r"has 2 values, its shape \[1, 3\] has 3"),
    "too many, nested": (one(data=[[1, 2, 3, 4]]), "not nested as the shape"),
    "nested otherwise": (one(data=[[1], [2], [3]]), "not nested as the shape"),
    "text among numbers": (one(data=[1, "2", 3]), "is no list of FP64"),
    "an object for data": (one(data={"a": 1}), "is no list of FP64"),
    "a number beyond FP64": (b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP64","data":[1e999]}]}', "FP64"),
    "a number beyond FP32": (one(datatype="FP32", data=[1e39, 0, 0]), "is no list of FP32"),
    "a number beyond INT8": (one(datatype="INT8", data=[128, 0, 0]), "is no list of INT8"),
    "a negative UINT64": (one(datatype="UINT64", data=[-1, 0, 0]), "is no list of UINT64"),
    "a fraction for an integer": (one(datatype="INT32", data=[0.5, 0, 0]), "is no list of INT32"),
    "text beside null": (one(datatype="INT32", data=[None, "0", 0]), "is no list of INT32"),
    "null for a whole list": (one(datatype="INT32", data=[None, [0, 0]]), "is no list of INT32"),
    "a number for a boolean": (one(datatype="BOOL", data=[1, 0, 0]), "is no list of BOOL"),
    "half a surrogate": (
        b'{"inputs":[{"name":"x","shape":[1],"datatype":"BYTES","data":["\\ud800"]}]}',
        "is no inference request",
    ),
    "FP16": (one(datatype="FP16"), "JSON cannot carry; send it as raw bytes"),
    "BF16": (one(datatype="BF16"), "is of datatype 'BF16'; there are"),
    "a variable dimension": (one(shape=[-1, 3]), "every dimension must be known"),
    "a dimension of nobody's": (one(shape=[0, 1 << 60], data=[]), "every dimension must be known"),
    "nothing beside what is too much": (one(shape=[0, 1 << 40, 1 << 40], data=[]), "more than can be sent"),
    "a shape of nobody's": (one(shape=[1] * 40), "has 40 dimensions, at most 32"),
    "a shape beyond all bounds": (one(shape=[2**31, 2**31]), "more than can be sent"),
}


@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_what_is_no_request_is_refused_with_what_is_wrong(kind: str) -> None:
    document, why = REFUSED[kind]
    with pytest.raises(BadRequest, match=why):
        asked(document)


def raw(size: object, **said: object) -> dict[str, object]:
    tensor = {"name": "x", "shape": [2], "datatype": "INT16", "parameters": {"binary_data_size": size}, **said}
    return {"inputs": [tensor]}


REFUSED_RAW = {
    "too few bytes": (raw(3), b"\0\0\0", r"has 3 bytes; INT16 of shape \[2\] has 4"),
    "bytes that nobody counts": (raw(4), b"\0\0\0\0\0", "1 bytes follow the JSON"),
    "more than there are": (raw(9), b"\0", "`binary_data_size` of 9, 1 bytes are left"),
    "a negative size": (raw(-1), b"\0", "`binary_data_size` of -1"),
    "a size that is a flag": (raw(True), b"\0", "`binary_data_size` of True"),
    "data besides": (raw(4, data=[1, 2]), b"\0\0\0\0", "both `data` and `binary_data_size`"),
    "a byte that is no BOOL": (raw(2, datatype="BOOL"), b"\0\2", "neither 0 nor 1"),
    "an element cut off": (raw(6, datatype=BYTES), b"\1\0\0\0a\1", "element 1 is cut off"),
    "an element longer than all": (raw(4, datatype=BYTES), b"\xff\xff\xff\xff", "element 0 is cut off"),
    "an element too many": (raw(12, datatype=BYTES), bytes(12), "of which 8 are 2 elements, not 2"),
    "an element too few": (raw(4, datatype=BYTES), bytes(4), "of which 4 are 1 elements, not 2"),
}


@pytest.mark.parametrize("kind", sorted(REFUSED_RAW))
def test_raw_bytes_that_are_not_the_tensor_are_refused(kind: str) -> None:
    document, tail, why = REFUSED_RAW[kind]
    with pytest.raises(BadRequest, match=why):
        asked(document, tail)


@pytest.mark.parametrize("length", ["-1", "1e2", "", "²", "999", " 1", "0x1"])
def test_a_header_that_counts_wrong_is_refused(length: str) -> None:
    with pytest.raises(BadRequest, match=JSON_LENGTH):
        read(b"{}", length, SIGNATURE)


@pytest.mark.parametrize(
    ("inputs", "body", "why"),
    [
        ((Spec("x", "FP64", (-1, 3)),), bytes(25), "no whole number of rows of 24 bytes"),
        ((Spec("x", "FP64", (-1, -1)),), bytes(8), "one variable dimension at most"),
        ((Spec("x", "FP64", (1,)), Spec("y", "FP64", (1,))), bytes(8), "one input"),
        ((Spec("x", BYTES, (-1,)),), bytes(8), "must be counted"),
        ((Spec("x", "FP64", (-1, 0)),), bytes(8), "no whole number of rows of 0 bytes"),
        ((Spec("x", "FP64", (2,)),), bytes(8), "has 8 bytes"),
    ],
)
def test_a_body_without_json_must_be_rows(inputs: tuple[Spec, ...], body: bytes, why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        read(body, "0", Signature(inputs, ()))


def test_an_answer_that_json_cannot_carry_is_refused_with_the_way_that_can() -> None:
    for values in (np.array([1], "f2"), texts([b"\xff"])):
        with pytest.raises(Unsupported, match="as raw bytes"):
            write(Answer("storm", "3", "mine", [(Tensor("y", values), False)]))


@given(st.binary(max_size=200), st.none() | st.integers(0, 220).map(str))
@example(b"", None)
@settings(max_examples=500)
def test_whatever_comes_is_a_request_or_refused(body: bytes, length: str | None) -> None:
    try:
        found = read(body, length, SIGNATURE)
    except BadRequest as fault:
        assert not isinstance(fault, TooLarge)
    else:
        assert isinstance(found, Request)


VALID = asked_by_triton([Tensor("features", np.arange(6.0).reshape(2, 3)), Tensor("t", texts([b"a", b"bc"]))])


@given(st.integers(0, len(VALID[0]) - 1), st.integers(0, 255), st.integers(0, 3))
@settings(max_examples=500)
def test_a_request_that_was_damaged_is_a_request_or_refused(at: int, byte: int, cut: int) -> None:
    body, length = VALID
    damaged = body[:at] + bytes([byte]) + body[at + 1 + cut :]
    try:
        read(damaged, length, SIGNATURE)
    except BadRequest:
        return


def test_nothing_at_all_is_no_request_unless_the_header_says_that_there_is_no_json() -> None:
    reader = Reader(Signature((Spec("x", "FP64", (-1, 3)),), ()))
    with pytest.raises(BadRequest, match="is no inference request"):
        reader.read(b"")
    assert reader.read(b"", "0").inputs[0].values.shape == (0, 3)


def test_a_header_of_any_length_is_refused() -> None:
    with pytest.raises(BadRequest, match="the body has 2 bytes"):
        Reader(Signature((Spec("x", "FP64", (3,)),), ())).read(b"{}", "1" * 5_000)
