"""Serving in this process: the real thing from the bytes to the model, without a spool."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
from onnx import TensorProto, helper, numpy_helper
from typing_extensions import override

from mainstem.bus.spool import Spool
from mainstem.direct import Call, Upstream
from mainstem.direct.responses import rendered
from mainstem.serving.answers import Answers
from mainstem.serving.batching import Batcher
from mainstem.serving.board import Board
from mainstem.serving.domain import Activation, LogTime
from mainstem.serving.engine import Model
from mainstem.serving.hot_api import HotApi
from mainstem.serving.lookups import Lookups
from mainstem.serving.managed import Answering
from mainstem.telemetry import Tracer

MODEL, WIDTH = "storm", 3
_DIGEST = "sha256:" + "0" * 64


class NoSpool(Spool):
    """Keeps nothing."""

    def __init__(self) -> None:
        self.incarnation = "ab" * 16

    @property
    @override
    def next_number(self) -> int:
        return 0

    @override
    def append(self, payload: bytes, count: int, *, leave: int = 0) -> int:
        return 0


def onnx_model() -> bytes:
    """Return a model with an answer to all numbers: the logistic function of a quarter of their sum, NaN as 0."""
    weights = np.array([[-0.25, 0.25]] * WIDTH)
    nodes = [
        helper.make_node("IsNaN", ["features"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "features"], ["filled"]),
        helper.make_node("MatMul", ["filled", "weights"], ["linear"]),
        helper.make_node("Sigmoid", ["linear"], ["probabilities"]),
    ]
    taken = helper.make_tensor_value_info("features", TensorProto.DOUBLE, [None, WIDTH])
    given = helper.make_tensor_value_info("probabilities", TensorProto.DOUBLE, [None, 2])
    constants = [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(np.zeros(()), "zero")]
    graph = helper.make_graph(nodes, "sum", [taken], [given], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    content: bytes = model.SerializeToString()
    return content


@dataclass
class Caller:
    """Who made a call, as far as the call knows."""

    heard: float = field(default=float("inf"))

    def send_answered(self) -> None:
        """Do nothing: the call has its answer."""


async def nobody() -> Sequence[Mapping[str, object]]:
    """Return what was counted: nothing."""
    return []


class Serving:
    """What a worker has."""

    def __init__(self) -> None:
        self.board = Board()
        self.board.load(_DIGEST, Model(onnx_model(), WIDTH))
        names = tuple(f"f{number}" for number in range(WIDTH))
        self.board.swap([Activation("d1", MODEL, 1, _DIGEST, "gusts", _DIGEST, names, 0, {})])
        self.answers = Answers(self.board, LogTime(), NoSpool(), Tracer("fuzz", None), Lookups("nowhere:1", Path()))
        self.batcher = Batcher(self.answers)
        self.models = Answering(self.board, nobody, self.batcher)
        self.api = HotApi(self.models, self.batcher, deadline_s=60.0)

    def asked(self, body: bytes, headers: list[tuple[bytes, bytes]]) -> tuple[int, bytes]:
        """Return status and body of the answer to a call."""
        handler = self.api.route(b"POST", b"/v2/models/%b/infer" % MODEL.encode(), headers)
        call = Call(Caller(), body, keep_alive=True)
        if handler is None:
            raise LookupError("nobody answers")
        handler(call)
        self.batcher.flush()
        head, _, content = (call.answered or b"").partition(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1]), content


class Aborted(Exception):
    """A call of gRPC ended with a status."""


class Context:
    """What a method of gRPC knows of its call."""

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """Return no header."""
        return ()

    def time_remaining(self) -> float | None:
        """Return that nobody waits."""
        return None

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        """End the call."""
        raise Aborted(f"{code.name} {details}")


class Wire(asyncio.Transport):
    """Takes what a connection writes."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self._closed = False

    @override
    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closed:
            raise AssertionError(f"written after the end: {bytes(data)!r}")
        self.written += bytes(data)

    @override
    def close(self) -> None:
        self._closed = True

    @override
    def abort(self) -> None:
        self._closed = True

    @override
    def write_eof(self) -> None:
        """Do nothing: nothing is written afterwards."""

    @override
    def is_closing(self) -> bool:
        return self._closed

    @override
    def pause_reading(self) -> None:
        """Do nothing."""

    @override
    def resume_reading(self) -> None:
        """Do nothing."""


class NoUpstream(Upstream):
    """Answers at once that nothing is there."""

    @override
    def answer(self, client: asyncio.Transport, request: bytes) -> None:
        client.write(rendered(404, (), b"{}", keep_alive=False))
        client.close()
