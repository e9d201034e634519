"""The hand-written way through a message means what protobuf says it means."""

import os
import random
import time
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from libs.inference.tests.test_inference_rest import DATATYPES, arrays, same

from mainstem.inference import fields
from mainstem.inference import open_inference_pb2 as pb
from mainstem.inference.errors import BadRequest
from mainstem.inference.fields import Asked
from mainstem.inference.tensors import to_bytes

SECONDS = float(os.environ.get("FUZZ_SECONDS", "1"))
SEED = int(os.environ.get("FUZZ_SEED", "9113"))
NAMES = st.text(max_size=5)
CHOICES = ("bool_param", st.booleans()), ("int64_param", st.integers(-9, 9)), ("string_param", NAMES)


def one(read: Any, content: bytes) -> Asked | str:
    try:
        found: Asked = read(content)
    except BadRequest as fault:
        return str(fault)
    return found


def agree(content: bytes) -> None:
    """Check that both ways read the same, or refuse for the same reason."""
    ours, theirs = one(fields.read, content), one(fields.read_any, content)
    if isinstance(ours, str) or isinstance(theirs, str):
        assert ours == theirs
        return
    assert (ours.model, ours.version) == (theirs.model, theirs.version)
    assert (ours.request.id, ours.request.parameters) == (theirs.request.id, theirs.request.parameters)
    assert (ours.request.outputs, ours.request.raw) == (theirs.request.outputs, theirs.request.raw)
    for mine, other in zip(ours.request.inputs, theirs.request.inputs, strict=True):
        assert (mine.name, mine.datatype) == (other.name, other.datatype)
        assert same(mine.values, other.values)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Return a message, of the common form more often than not."""
    message = pb.ModelInferRequest(model_name=draw(NAMES), model_version=draw(NAMES), id=draw(NAMES))
    for name in draw(st.lists(NAMES, max_size=2)):
        field, values = draw(st.sampled_from(CHOICES))
        setattr(message.parameters[name], field, draw(values))
    for _ in range(draw(st.sampled_from([1, 1, 1, 1, 0, 2]))):
        datatype = draw(st.sampled_from(DATATYPES))
        values = draw(arrays(datatype))
        tensor = message.inputs.add(name=draw(NAMES), datatype=datatype, shape=values.shape)
        for name in draw(st.sampled_from([[], [], [], ["a"], ["shared_memory_region"], ["classification"]])):
            tensor.parameters[name].int64_param = 1
        message.raw_input_contents.append(to_bytes(values))
    for name in draw(st.sampled_from([[], [], [], ["a"]])):
        message.outputs.add(name=name)
    content: bytes = message.SerializeToString()
    return content


@settings(max_examples=300)
@given(content=requests())
def test_a_message_means_what_protobuf_reads(content: bytes) -> None:
    agree(content)
    agree(content)  # known by now


@settings(max_examples=300)
@given(content=requests(), data=st.data())
def test_a_message_that_is_broken_is_refused_as_protobuf_does(content: bytes, data: st.DataObject) -> None:
    broken = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(broken)))
        cut = data.draw(st.integers(0, 2))
        broken[at : at + cut] = data.draw(st.binary(max_size=3))
    agree(bytes(broken))


def fuzz(seconds: float) -> int:
    """Compare both ways on what is almost a message, for a while; return on how many."""
    dice, count, end = random.Random(SEED), 0, time.monotonic() + seconds
    message = pb.ModelInferRequest(model_name="storm", id="mine")
    message.parameters["entity"].string_param = "LGA"
    message.inputs.add(name="features", datatype="FP64", shape=[1, 3])
    message.raw_input_contents.append(np.arange(3.0).tobytes())
    whole: bytes = message.SerializeToString()
    while time.monotonic() < end:
        broken = bytearray(whole)
        for _ in range(dice.randint(1, 3)):
            at, cut = dice.randrange(len(broken)), dice.randrange(4)
            broken[at : at + cut] = dice.randbytes(dice.randrange(4))
        agree(bytes(broken))
        count += 1
    return count


def test_both_ways_agree_on_whatever_is_sent() -> None:
    assert fuzz(SECONDS) > 100 * SECONDS


def test_a_fault_that_is_planted_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = fields._next

    def careless(content: bytes, at: int) -> tuple[int, int, int]:
        tag, begin, end = right(content, at)
        return tag, begin, min(end, len(content))

    monkeypatch.setattr(fields, "_next", careless)
    with pytest.raises(AssertionError):
        fuzz(max(SECONDS, 20))


@settings(max_examples=100)
@given(contents=st.lists(requests(), min_size=2, max_size=3))
def test_messages_behind_each_other_are_one_as_protobuf_has_it(contents: list[bytes]) -> None:
    agree(b"".join(contents))


def test_an_id_that_is_no_text_is_refused_though_another_follows() -> None:
    message = pb.ModelInferRequest(model_name="storm", id="mine")
    message.inputs.add(name="features", datatype="FP64", shape=[1, 3])
    message.raw_input_contents.append(np.arange(3.0).tobytes())
    content = fields.field(0x1A, b"\xff") + message.SerializeToString()
    with pytest.raises(BadRequest):
        fields.read(content)
    agree(content)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 3_000_000])
def test_a_field_has_its_length_before_it(size: int) -> None:
    content = bytes(size)
    (found,) = pb.ModelInferRequest.FromString(fields.field(0x3A, content)).raw_input_contents
    assert found == content


@pytest.mark.parametrize("shape", [[1] * 70, [0, 1 << 62], [0, 1 << 40, 1 << 40]])
def test_a_shape_that_no_array_has_is_refused(shape: list[int]) -> None:
    message = pb.ModelInferRequest(model_name="storm", id="mine")
    message.inputs.add(name="features", datatype="FP64", shape=shape)
    message.raw_input_contents.append(bytes(8 * prod(shape)))
    with pytest.raises(BadRequest):
        fields.read(message.SerializeToString())
    agree(message.SerializeToString())


def test_the_common_form_is_read_without_protobuf() -> None:
    message = pb.ModelInferRequest(model_name="storm", id="mine")
    message.inputs.add(name="features", datatype="FP64", shape=[1, 3])
    message.raw_input_contents.append(np.arange(3.0).tobytes())
    found = fields._read_common(message.SerializeToString())
    assert found is not None
    assert found.request.inputs[0].values.tolist() == [[0.0, 1.0, 2.0]]
