"""What the head of a request decides before anybody is asked: who may serve it, and what is served to nobody."""

from functools import partial
from typing import Final

from mainstem.direct.call import Call, Handler, Route
from mainstem.direct.request import Request
from mainstem.direct.responses import Headers

#: Versions whose requests need not say which host they mean.
_WITHOUT_HOST: Final = {"0.9", "1.0"}
#: What is meant is the server, and there is nothing to be done with it.
_NO_METHOD: Final[Headers] = ((b"content-type", b"application/json"), (b"allow", b""))
_SERVER: Final = b'{"error":"no method is for the server as a whole; ask for a path, such as /v2"}'


def refusal(method: bytes, version: str, request: Request) -> tuple[int, str] | None:
    """Return status and reason if no request with such a head is served, whatever it is for; None otherwise."""
    if method == b"CONNECT":
        return 501, "this is no proxy: CONNECT is for nothing here"
    hosts = request.said(b"host")
    if len(hosts) > 1 or (not hosts and version not in _WITHOUT_HOST):
        return 400, f"a request of HTTP/{version} has one header Host, this one has {len(hosts) or 'none'}"
    codings = b",".join(request.said(b"transfer-encoding"))
    if codings and codings.strip().lower() != b"chunked":
        return 501, "of transfer codings only chunked is known here; name others as Content-Encoding"
    return None


def server(route: Route, method: bytes, request: Request) -> Handler | None:
    """Return who serves a request, and leaves out what would be the body if it asks for the head alone.

    None is for what is not served here.
    """
    handler = _nothing if request.path == b"*" else route(method, request.path, request.headers)
    return partial(_bare, handler) if method == b"HEAD" and handler is not None else handler


def _nothing(call: Call) -> None:
    call.answer(405, _NO_METHOD, _SERVER)


def _bare(handler: Handler, call: Call) -> None:
    call.bare = True
    handler(call)
