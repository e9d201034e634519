"""HTTP/1.1 and gRPC from the socket to a handler, for processes that do little else: no framework, no task a call."""

from mainstem.direct.call import Call, Handler, Head, Route
from mainstem.direct.calls import Call as UnaryCall
from mainstem.direct.calls import UnaryLimits
from mainstem.direct.door import Door
from mainstem.direct.garbage import collect_seldom
from mainstem.direct.grpc_door import GrpcDoor, Methods
from mainstem.direct.limits import Limits, most_unpacked
from mainstem.direct.responses import FAILED, RETRY_S, Headers
from mainstem.direct.unary import MESSAGE_CHARACTERS, Status
from mainstem.direct.upstream import Upstream

__all__ = [
    "FAILED",
    "MESSAGE_CHARACTERS",
    "RETRY_S",
    "Call",
    "Door",
    "GrpcDoor",
    "Handler",
    "Head",
    "Headers",
    "Limits",
    "Methods",
    "Route",
    "Status",
    "UnaryCall",
    "UnaryLimits",
    "Upstream",
    "collect_seldom",
    "most_unpacked",
]
