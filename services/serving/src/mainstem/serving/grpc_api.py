"""gRPC by grpcio: all that the protocol has, streams and reflection too."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from math import inf
from time import monotonic

import grpc
from grpc_reflection.v1alpha import reflection

from mainstem.direct import MESSAGE_CHARACTERS
from mainstem.events.errors import MainstemError
from mainstem.inference import fields, health_pb2
from mainstem.inference import open_inference_pb2 as pb
from mainstem.inference.errors import BadRequest
from mainstem.serving.rpc import HEALTH, MAX_MESSAGE_BYTES, SERVICE, Caller, Method, Rpc, read, status

#: What a connection may cost. Who pings too often is sent away by what the library sets itself.
_LIMITS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_concurrent_streams", 128),
    ("grpc.max_metadata_size", 16 << 10),
    ("grpc.absolute_max_metadata_size", 64 << 10),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.keepalive_time_ms", 60_000),
)
#: Of all connections together; one that comes besides is refused at once, RESOURCE_EXHAUSTED.
_MOST_CALLS = 1_024
#: Who watches is told within this long.
_WATCH_S = 0.2
_CODES = {code.value[0]: code for code in grpc.StatusCode}
#: Of ModelStreamInferResponse.
_INFER_RESPONSE = 0x12

Stream = Callable[[AsyncIterator[bytes], grpc.aio.ServicerContext], AsyncIterator[bytes]]


class GrpcApi:
    """The server."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    async def start(self, address: str) -> tuple[grpc.aio.Server, int]:
        """Start a server at `host:port` and return it with its port; port 0 takes a free one."""
        server = grpc.aio.server(options=_LIMITS, maximum_concurrent_rpcs=_MOST_CALLS)
        streams: dict[str, dict[str, Stream]] = {
            SERVICE: {"ModelStreamInfer": self.stream},
            HEALTH: {"Watch": self.watch},
        }
        methods = self._rpc.methods()
        for service, more in streams.items():
            unary = {name: method for (of, name), method in methods.items() if of == service}
            server.add_generic_rpc_handlers((_service(service, unary, more),))
        reflection.enable_server_reflection((*streams, reflection.SERVICE_NAME), server)
        port = server.add_insecure_port(address)
        await server.start()
        return server, port

    async def watch(self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        """Tell how a service is now, and whenever that changes; of an unknown one that it is unknown."""
        try:
            asked = await _asked(requests)
        except BadRequest as fault:
            await _refuse(context, fault)
            raise
        told = None
        while True:
            state = self._rpc.state(asked.service)
            if state != told:
                yield state.SerializeToString()
                told = state
            await asyncio.sleep(_WATCH_S)

    async def stream(self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        """Answer each request of a stream in its order; one that cannot be answered has the reason in its place."""
        async for content in requests:
            found = await _answered(self._rpc.infer, content, _caller(context))
            if isinstance(found, MainstemError):
                yield pb.ModelStreamInferResponse(error_message=str(found)[:MESSAGE_CHARACTERS]).SerializeToString()
            else:
                yield fields.field(_INFER_RESPONSE, found)


def _service(name: str, methods: Mapping[str, Method], streams: Mapping[str, Stream]) -> grpc.GenericRpcHandler:
    handlers = {name: grpc.unary_unary_rpc_method_handler(_spoken(method)) for name, method in methods.items()}
    handlers |= {name: grpc.stream_stream_rpc_method_handler(method) for name, method in streams.items()}
    return grpc.method_handlers_generic_handler(name, handlers)


def _spoken(method: Method) -> Callable[[bytes, grpc.aio.ServicerContext], Awaitable[bytes]]:
    """Return the method as the server calls it, its errors as status codes."""

    async def spoken(content: bytes, context: grpc.aio.ServicerContext) -> bytes:
        found = await _answered(method, content, _caller(context))
        if isinstance(found, MainstemError):
            await _refuse(context, found)
            raise found
        return found

    return spoken


async def _refuse(context: grpc.aio.ServicerContext, fault: MainstemError) -> None:
    """End a call with the status of an error, by the exception that the server wants for that."""
    await context.abort(_CODES[status(fault)], str(fault)[:MESSAGE_CHARACTERS])


async def _asked(requests: AsyncIterator[bytes]) -> health_pb2.HealthCheckRequest:
    """Return the one request of who watches. Raises BadRequest."""
    async for content in requests:
        return read(health_pb2.HealthCheckRequest, content)
    raise BadRequest("the call ended without a request; send one HealthCheckRequest")


async def _answered(method: Method, content: bytes, caller: Caller) -> bytes | MainstemError:
    answer: asyncio.Future[bytes | MainstemError] = asyncio.get_running_loop().create_future()

    def done(found: bytes | MainstemError) -> None:
        if not answer.done():
            answer.set_result(found)

    method(content, caller, done)
    return await answer


def _caller(context: grpc.aio.ServicerContext) -> Caller:
    read, left_s = monotonic(), context.time_remaining()
    until = inf if left_s is None else read + left_s
    for name, value in context.invocation_metadata() or ():
        if name == "traceparent":
            return Caller(read, until, value.encode())
    return Caller(read, until)
