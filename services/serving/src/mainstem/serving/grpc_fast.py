"""gRPC on our own frames, for methods with one request and one answer; see ADR 22."""

from functools import partial
from typing import Final

from mainstem.direct import GrpcDoor, UnaryCall, UnaryLimits
from mainstem.events.errors import MainstemError
from mainstem.serving.rpc import MAX_MESSAGE_BYTES, Caller, Method, Rpc, status

LIMITS: Final = UnaryLimits(message_bytes=MAX_MESSAGE_BYTES)
_UNKNOWN = "no such method is served here; those with streams, and reflection, need MAINSTEM_GRPC_SERVER=grpcio"


def door(rpc: Rpc, limits: UnaryLimits = LIMITS) -> GrpcDoor:
    """Return what serves the methods."""
    methods = {
        f"/{service}/{name}".encode(): partial(_take, method) for (service, name), method in rpc.methods().items()
    }
    return GrpcDoor(methods, limits, unknown=_UNKNOWN)


def _take(method: Method, call: UnaryCall) -> None:
    caller = Caller(call.read, call.deadline, call.head.fields.get(b"traceparent"))
    method(call.message, caller, partial(_give, call))


def _give(call: UnaryCall, found: bytes | MainstemError) -> None:
    if isinstance(found, bytes):
        call.answer(found)
    else:
        call.refuse(status(found), str(found))
