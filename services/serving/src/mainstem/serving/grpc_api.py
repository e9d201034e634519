"""gRPC: the Open Inference Protocol v2, and the health service that probes ask."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import wraps
from importlib.metadata import version
from types import MappingProxyType
from typing import Protocol, Self
from uuid import uuid4

import grpc
from google.protobuf.message import DecodeError

from mainstem.events.errors import MainstemError
from mainstem.inference import messages
from mainstem.inference import open_inference_pb2 as pb
from mainstem.inference.errors import BadRequest, NoAnswer, NotReady, TooLarge, Unknown
from mainstem.serving import wire
from mainstem.serving.ports import Oracle, Question
from mainstem.telemetry import metrics

SERVICE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"
MAX_MESSAGE_BYTES = 16 << 20

_STATUS: dict[type[MainstemError], grpc.StatusCode] = {
    TooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    BadRequest: grpc.StatusCode.INVALID_ARGUMENT,
    Unknown: grpc.StatusCode.NOT_FOUND,
    NotReady: grpc.StatusCode.UNAVAILABLE,
    NoAnswer: grpc.StatusCode.INTERNAL,
}


class _Message(Protocol):
    """A message of the protocol, of whatever kind."""

    @classmethod
    def FromString(cls, content: bytes) -> Self:
        """Read the message from its bytes."""

    def SerializeToString(self) -> bytes:
        """Return the message as bytes."""


Metadata = Mapping[str, str | bytes]
Method = Callable[[_Message, Metadata], _Message]
Stream = Callable[[AsyncIterator[bytes], grpc.aio.ServicerContext], AsyncIterator[_Message]]


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
            "ModelStatistics": (self.statistics, pb.ModelStatisticsRequest),
            "RepositoryIndex": (self.index, pb.RepositoryIndexRequest),
            "RepositoryModelLoad": (self.load, pb.RepositoryModelLoadRequest),
            "RepositoryModelUnload": (self.unload, pb.RepositoryModelUnloadRequest),
        }
        server.add_generic_rpc_handlers(
            (
                _service(SERVICE, methods, {"ModelStreamInfer": self.stream}),
                _service(HEALTH, {"Check": (self.health, pb.HealthCheckRequest)}),
            )
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

    def index(self, request: pb.RepositoryIndexRequest, _: Metadata) -> pb.RepositoryIndexResponse:
        """List the versions that answer, or are to; only those that can when that is asked for."""
        rows = [wire.indexed(each) for each in self._oracle.index() if each.state == "READY" or not request.ready]
        return pb.RepositoryIndexResponse(models=rows)

    def load(self, request: pb.RepositoryModelLoadRequest, _: Metadata) -> pb.RepositoryModelLoadResponse:
        """Tell that a model is loaded, as every version in effect is without being asked."""
        self._oracle.about(request.model_name, None)
        return pb.RepositoryModelLoadResponse()

    def unload(self, request: pb.RepositoryModelUnloadRequest, _: Metadata) -> pb.RepositoryModelUnloadResponse:
        """Refuse: what answers is decided elsewhere."""
        raise wire.unloading(self._oracle.about(request.model_name, None))

    def statistics(self, request: pb.ModelStatisticsRequest, _: Metadata) -> pb.ModelStatisticsResponse:
        """Tell what was done for the calls of a model, or of all."""
        found = self._oracle.usage(request.name or None, request.version or None)
        return pb.ModelStatisticsResponse(model_stats=[wire.used(each) for each in found])

    def model_ready(self, request: pb.ModelReadyRequest, _: Metadata) -> pb.ModelReadyResponse:
        """Tell whether a model answers."""
        self._oracle.about(request.name, request.version or None)
        return pb.ModelReadyResponse(ready=True)

    def infer(self, request: pb.ModelInferRequest, metadata: Metadata) -> pb.ModelInferResponse:
        """Answer; raw when asked raw, typed when asked typed."""
        trace = metadata.get("traceparent")
        with metrics.PREDICT_SECONDS.labels("grpc").time():
            asked = messages.read(request)
            asked_version = request.model_version or None
            rows, wanted = wire.rows(asked, len(self._oracle.about(request.model_name, asked_version).features))
            answer = self._oracle.answer(
                Question(
                    request.model_name,
                    asked_version,
                    asked.id or uuid4().hex,
                    "grpc",
                    rows,
                    wire.entity_of(asked.parameters),
                    trace.encode() if isinstance(trace, str) else trace,
                )
            )
            return messages.write(wire.given(answer, wanted))

    async def stream(
        self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        """Answer each request of a stream in its order; one that cannot be answered has the reason in its place."""
        metadata = dict(context.invocation_metadata() or ())
        async for content in requests:
            try:
                answer = self.infer(_read(pb.ModelInferRequest, content), metadata)
            except tuple(_STATUS) as fault:
                yield pb.ModelStreamInferResponse(error_message=str(fault))
            else:
                yield pb.ModelStreamInferResponse(infer_response=answer)


def _read(kind: type[_Message], content: bytes) -> _Message:
    try:
        return kind.FromString(content)
    except DecodeError as fault:
        raise BadRequest(f"the request is no {kind.__name__}: {fault}") from fault


def _service(
    name: str,
    methods: Mapping[str, tuple[Method, type[_Message]]],
    streams: Mapping[str, Stream] = MappingProxyType({}),
) -> grpc.GenericRpcHandler:
    handlers = {
        method: grpc.unary_unary_rpc_method_handler(_spoken(answer, request), response_serializer=_written)
        for method, (answer, request) in methods.items()
    }
    handlers |= {
        method: grpc.stream_stream_rpc_method_handler(answer, response_serializer=_written)
        for method, answer in streams.items()
    }
    return grpc.method_handlers_generic_handler(name, handlers)


def _written(response: _Message) -> bytes:
    return response.SerializeToString()


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
