"""HTTP for people and probes: health, metrics, errors as problem documents, bearer tokens."""

import json
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from mainstem.auth import Principal, Principals, Right, allows
from mainstem.events.errors import MainstemError, Rejected, Unavailable
from mainstem.runtime.health import Health
from mainstem.telemetry import metrics

Endpoint = Callable[[Request], Awaitable[Response]]
#: Makes an answer of an error: its status, its code, and what is wrong.
Tell = Callable[[int, str, str], Response]

MAX_BODY_BYTES = 16 << 20


class Problem(MainstemError):
    """An answer that is not a success: what, which id, what to do."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code


def problem(status: int, code: str, detail: str) -> Response:
    """Return a problem document (RFC 9457)."""
    body = {"type": f"mainstem:{code}", "title": code.replace("_", " "), "status": status, "detail": detail}
    return JSONResponse(body, status, media_type="application/problem+json")


async def json_body(request: Request) -> object:
    """Return the JSON body; raise Problem 413 for a large and 400 for a malformed one, or one with U+0000 in it."""
    body = await body_bytes(request)
    if b"\\u0000" in body:
        raise Problem(400, "malformed_body", "the body holds the character U+0000, which is no text; leave it out")
    try:
        found: object = json.loads(body)
        if b"\\ud" in body.lower():
            json.dumps(found, ensure_ascii=False).encode()  # half of a pair alone is no text
    except (ValueError, RecursionError) as fault:
        raise Problem(400, "malformed_json", f"the body is no JSON: {fault}") from fault
    return found


async def body_bytes(request: Request, most: int = MAX_BODY_BYTES) -> bytes:
    """Return the body; raise Problem 413 when it has more bytes than `most`."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise Problem(413, "too_large", f"the body has more than {most} bytes; send it in parts")
    return bytes(body)


def authenticate(request: Request, principals: Principals, right: Right) -> Principal:
    """Return who asks; raise Problem 401 without a known token and 403 without the right."""
    principal = identify(request, principals)
    if not allows(principal, right):
        raise Problem(403, "not_allowed", f"{principal.name} has not the right '{right.value}'; ask who has")
    return principal


def identify(request: Request, principals: Principals) -> Principal:
    """Return who asks, whatever they may do; raise Problem 401 without a known token."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    principal = principals.authenticate(token) if scheme.lower() == "bearer" else None
    if principal is None:
        raise Problem(401, "unknown_token", "send `Authorization: Bearer <token>` with a token of the principals file")
    return principal


def application(health: Health, routes: Sequence[BaseRoute] = (), tell: Tell = problem) -> Starlette:
    """Return the ASGI application of a service: probes and metrics, unless it has those itself, and its own routes.

    What a route raises is answered in the form of `tell`, also what nobody expected; that is raised again, for the log.
    """

    async def live(_: Request) -> Response:
        return JSONResponse({"live": True})

    async def ready(_: Request) -> Response:
        faults = health.faults()
        return JSONResponse({"ready": not faults, "faults": faults}, 503 if faults else 200)

    async def exposition(request: Request) -> Response:
        content, media_type = metrics.exposition(accept=request.headers.get("accept", ""))
        return Response(content, media_type=media_type)

    own = [Route("/livez", live), Route("/readyz", ready), Route("/metrics", exposition)]
    named = {route.path for route in routes if isinstance(route, Route)}
    return Starlette(
        routes=[*(route for route in own if route.path not in named), *routes],
        exception_handlers=_handlers(tell),
        middleware=[Middleware(_Addresses, tell)],
    )


class _Addresses:
    """Refuses addresses with U+0000 in them: a name like that can stand in no table, so asking for it is a mistake."""

    def __init__(self, app: ASGIApp, tell: Tell) -> None:
        self._app = app
        self._tell = tell

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http" and ("\0" in scope["path"] or b"%00" in scope["query_string"]):
            app = self._tell(400, "malformed_address", "the address holds the character U+0000; leave it out")
        await app(scope, receive, send)


def _handlers(tell: Tell) -> Mapping[type[Exception], Callable[..., Awaitable[Response]]]:
    """Return what answers each error that a route may raise."""

    async def of_problem(_: Request, fault: Problem) -> Response:
        return tell(fault.status, fault.code, str(fault))

    async def of_unavailable(_: Request, fault: Unavailable) -> Response:
        return tell(503, "unavailable", f"{fault}; nothing was done, try again")

    async def of_rejected(_: Request, fault: Rejected) -> Response:
        return tell(422, "rejected", str(fault))

    async def of_unexpected(_: Request, __: Exception) -> Response:
        return tell(500, "unexpected", "the request failed for a reason that is the server's; its log says which")

    return {
        Problem: of_problem,
        Unavailable: of_unavailable,
        Rejected: of_rejected,
        Exception: of_unexpected,
    }


async def listen(app: Starlette, host: str, port: int, at: socket.socket | None = None) -> None:
    """Serve `app` until cancelled, on a socket that is bound or else on host and port.

    On a signal it ends what it has begun to answer, then passes the signal on.
    """
    config = uvicorn.Config(
        app, host=host, port=port, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1
    )
    await uvicorn.Server(config).serve(None if at is None else [at])
