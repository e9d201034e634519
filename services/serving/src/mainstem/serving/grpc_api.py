"""gRPC: the Open Inference Protocol v2, and the health service that probes ask."""

from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from importlib.metadata import version
from typing import Protocol, Self
from uuid import uuid4

import grpc
import numpy as np
from google.protobuf.message import DecodeError

from mainstem.events.errors import MainstemError
from mainstem.serving import open_inference_pb2 as pb
from mainstem.serving import wire
from mainstem.serving.engine import INPUT, OUTPUT
from mainstem.serving.ports import (
    Answer,
    BadQuestion,
    Floats,
    NoAnswer,
    NotReady,
    Oracle,
    Question,
    TooLarge,
    Unknown,
)
from mainstem.telemetry import metrics

SERVICE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"
MAX_MESSAGE_BYTES = 16 << 20

_STATUS: dict[type[MainstemError], grpc.StatusCode] = {
    TooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    BadQuestion: grpc.StatusCode.INVALID_ARGUMENT,
    Unknown: grpc.StatusCode.NOT_FOUND,
    NotReady: grpc.StatusCode.UNAVAILABLE,
    NoAnswer: grpc.StatusCode.INTERNAL,
}
_CONTENTS = (
    "bool_contents",
    "int_contents",
    "int64_contents",
    "uint_contents",
    "uint64_contents",
    "fp32_contents",
    "fp64_contents",
    "bytes_contents",
)


class _Message(Protocol):
    """A message of the protocol, of whatever kind."""

    @classmethod
    def FromString(cls, content: bytes) -> Self:
        """Read the message from its bytes."""

    def SerializeToString(self) -> bytes:
        """Return the message as bytes."""


Metadata = Mapping[str, str | bytes]
Method = Callable[[_Message, Metadata], _Message]


class GrpcApi:
    """The methods, and what answers them."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle

    async def start(self, address: str) -> tuple[grpc.aio.Server, int]:
        """Start a server at `host:port` and return it with its port; port 0 takes a free one."""
        limits = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES), ("grpc.max_send_message_length", -1)]
        server = grpc.aio.server(options=limits)
        methods = {
            "ServerLive": (self.live, pb.ServerLiveRequest),
            "ServerReady": (self.ready, pb.ServerReadyRequest),
            "ModelReady": (self.model_ready, pb.ModelReadyRequest),
            "ServerMetadata": (self.server, pb.ServerMetadataRequest),
            "ModelMetadata": (self.model, pb.ModelMetadataRequest),
            "ModelInfer": (self.infer, pb.ModelInferRequest),
        }
        server.add_generic_rpc_handlers(
            (_service(SERVICE, methods), _service(HEALTH, {"Check": (self.health, pb.HealthCheckRequest)}))
        )
        port = server.add_insecure_port(address)
        await server.start()
        return server, port

    async def listen(self, host: str, port: int) -> None:
        """Serve until cancelled."""
        server, _ = await self.start(f"{host}:{port}")
        try:
            await server.wait_for_termination()
        finally:
            await server.stop(grace=1)

    def live(self, _: pb.ServerLiveRequest, __: Metadata) -> pb.ServerLiveResponse:
        """Tell that the process answers."""
        return pb.ServerLiveResponse(live=True)

    def ready(self, _: pb.ServerReadyRequest, __: Metadata) -> pb.ServerReadyResponse:
        """Tell whether every model in effect can answer."""
        return pb.ServerReadyResponse(ready=not self._oracle.faults())

    def health(self, request: pb.HealthCheckRequest, _: Metadata) -> pb.HealthCheckResponse:
        """Tell the same to a probe."""
        if request.service not in ("", SERVICE):
            raise Unknown(f"there is no service {request.service!r} here")
        status = pb.HealthCheckResponse.NOT_SERVING if self._oracle.faults() else pb.HealthCheckResponse.SERVING
        return pb.HealthCheckResponse(status=status)

    def server(self, _: pb.ServerMetadataRequest, __: Metadata) -> pb.ServerMetadataResponse:
        """Tell who this is."""
        return pb.ServerMetadataResponse(name="mainstem", version=version("mainstem-serving"))

    def model(self, request: pb.ModelMetadataRequest, _: Metadata) -> pb.ModelMetadataResponse:
        """Tell inputs and outputs of a model."""
        return pb.ModelMetadataResponse(**wire.metadata(self._oracle.about(request.name, request.version or None)))

    def model_ready(self, request: pb.ModelReadyRequest, _: Metadata) -> pb.ModelReadyResponse:
        """Tell whether a model answers."""
        self._oracle.about(request.name, request.version or None)
        return pb.ModelReadyResponse(ready=True)

    def infer(self, request: pb.ModelInferRequest, metadata: Metadata) -> pb.ModelInferResponse:
        """Answer; raw when asked raw, typed when asked typed."""
        trace = metadata.get("traceparent")
        with metrics.PREDICT_SECONDS.labels("grpc").time():
            raw = len(request.raw_input_contents) > 0
            wire.check_outputs([output.name for output in request.outputs])
            answer = self._oracle.answer(
                Question(
                    request.model_name,
                    request.model_version or None,
                    request.id or uuid4().hex,
                    "grpc",
                    _rows(request),
                    wire.entity_of({name: _value(given) for name, given in request.parameters.items()}),
                    trace.encode() if isinstance(trace, str) else trace,
                )
            )
            return _answered(answer, raw=raw)


def _rows(request: pb.ModelInferRequest) -> Floats:
    """Return the one input, raw or typed. Raises BadQuestion."""
    wire.check_input([(tensor.name, tensor.datatype) for tensor in request.inputs])
    (tensor,) = request.inputs
    shape = list(tensor.shape)
    if any(size < 0 for size in shape):
        raise BadQuestion(f"input {INPUT!r} has shape {shape}; every dimension must be known")
    filled = [name for name in _CONTENTS if len(getattr(tensor.contents, name))]
    if request.raw_input_contents:
        if filled or len(request.raw_input_contents) != 1:
            raise BadQuestion("with raw_input_contents there is one entry for each input, and `contents` stays empty")
        return wire.floats(request.raw_input_contents[0], shape)
    if filled not in ([], ["fp64_contents"]):
        raise BadQuestion(f"input {INPUT!r} is {wire.DATATYPE} and has {filled}; send fp64_contents")
    return wire.shaped(np.array(tensor.contents.fp64_contents, np.float64), shape)


def _answered(answer: Answer, *, raw: bool) -> pb.ModelInferResponse:
    response = pb.ModelInferResponse(model_name=answer.model, model_version=str(answer.version), id=answer.id)
    for name, given in answer.parameters().items():
        response.parameters[name].string_param = given
    tensor = response.outputs.add(name=OUTPUT, datatype=wire.DATATYPE, shape=answer.probabilities.shape)
    if raw:
        content = wire.as_bytes(answer.probabilities)
        tensor.parameters["binary_data_size"].int64_param = len(content)
        response.raw_output_contents.append(content)
    else:
        tensor.contents.fp64_contents.extend(answer.probabilities.ravel().tolist())
    return response


def _value(parameter: pb.InferParameter) -> bool | int | float | str:
    found: bool | int | float | str = getattr(parameter, parameter.WhichOneof("parameter_choice") or "string_param")
    return found


def _read(kind: type[_Message], content: bytes) -> _Message:
    try:
        return kind.FromString(content)
    except DecodeError as fault:
        raise BadQuestion(f"the request is no {kind.__name__}: {fault}") from fault


def _service(name: str, methods: Mapping[str, tuple[Method, type[_Message]]]) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(
        name,
        {
            method: grpc.unary_unary_rpc_method_handler(
                _spoken(answer, request),
                response_serializer=lambda response: response.SerializeToString(),
            )
            for method, (answer, request) in methods.items()
        },
    )


def _spoken(
    method: Method, request: type[_Message]
) -> Callable[[bytes, grpc.aio.ServicerContext], Awaitable[_Message]]:
    """Return the method as the server calls it, with the bytes of a request, its errors as status codes."""

    @wraps(method)
    async def spoken(content: bytes, context: grpc.aio.ServicerContext) -> _Message:
        try:
            return method(_read(request, content), dict(context.invocation_metadata() or ()))
        except tuple(_STATUS) as fault:
            code = next(code for kind, code in _STATUS.items() if isinstance(fault, kind))
            await context.abort(code, str(fault))
            raise

    return spoken
