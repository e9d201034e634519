"""gRPC for methods with one request and one answer: from the socket to a method without a task, a context or a future.

Calls are HTTP/2 in plain text, as `grpc.insecure_channel` speaks it. Streams are not served; see ADR 22.
"""

from collections.abc import Mapping
from functools import partial

from typing_extensions import override

from mainstem.direct.blocks import Fields, Known
from mainstem.direct.calls import Call, Held, UnaryLimits
from mainstem.direct.http2 import Http2Connection
from mainstem.direct.listener import Listener, Turns
from mainstem.direct.unary import Head, Method, read_head

_LIMITS = UnaryLimits()

#: Methods by their path, `/package.Service/Method`.
Methods = Mapping[bytes, Method[Call]]


def _read(methods: Methods, unknown: str, fields: Fields) -> Head[Call]:
    return read_head(fields, methods, unknown)


class GrpcDoor(Turns, Listener[Http2Connection]):
    """gRPC on one listening socket."""

    def __init__(
        self, methods: Methods, limits: UnaryLimits = _LIMITS, *, unknown: str = "there is no such method"
    ) -> None:
        """Serve methods; whoever calls another one hears `unknown`."""
        self.connections: set[Http2Connection] = set()
        self.limits = limits
        self.held = Held()
        self.known: Known[Head[Call]] = Known(partial(_read, methods, unknown))

    @override
    def __call__(self) -> Http2Connection:
        return Http2Connection(self)
