"""HTTP: the Open Inference Protocol v2."""

from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from importlib.metadata import version
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from mainstem.inference import rest
from mainstem.inference.errors import NotReady, Unknown
from mainstem.runtime import Problem, body_bytes
from mainstem.serving import wire
from mainstem.serving.bodies import STATUS, packed, refused, unpacked
from mainstem.serving.ports import Oracle, Question
from mainstem.telemetry import metrics

Endpoint = Callable[[Request], Awaitable[Response]]


class Api:
    """The routes, and what answers them."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        served: list[tuple[str, Endpoint, str]] = [
            ("/v2", self.server, "GET"),
            ("/v2/", self.server, "GET"),
            ("/v2/health/live", self.live, "GET"),
            ("/v2/health/ready", self.ready, "GET"),
        ]
        for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            served += [(model, self.model, "GET"), (f"{model}/ready", self.model_ready, "GET")]
            served += [(f"{model}/infer", self.infer, "POST"), (f"{model}/stats", self.statistics, "GET")]
        served += [
            ("/v2/models/stats", self.statistics, "GET"),
            ("/v2/repository/index", self.index, "POST"),
            ("/v2/repository/models/{model}/load", self.load, "POST"),
            ("/v2/repository/models/{model}/unload", self.unload, "POST"),
        ]
        served.sort(key=lambda each: "{" in each[0])
        routes = [Route(path, _spoken(endpoint), methods=[method]) for path, endpoint, method in served]
        return [*routes, Route("/v2/{rest:path}", _spoken(self.nothing), methods=["GET", "POST"])]

    async def live(self, _: Request) -> Response:
        """Tell that the process answers."""
        return JSONResponse({"live": True})

    async def ready(self, _: Request) -> Response:
        """Tell whether every model in effect can answer."""
        faults = self._oracle.faults()
        if faults:
            raise NotReady("; ".join(f"{name}: {fault}" for name, fault in faults.items()))
        return JSONResponse({"ready": True})

    async def server(self, _: Request) -> Response:
        """Tell who this is and which extensions it speaks."""
        return JSONResponse(
            {"name": "mainstem", "version": version("mainstem-serving"), "extensions": list(wire.EXTENSIONS)}
        )

    async def model(self, request: Request) -> Response:
        """Tell inputs and outputs of a model."""
        return JSONResponse(wire.metadata(self._oracle.about(*_asked_model(request))))

    async def model_ready(self, request: Request) -> Response:
        """Tell whether a model answers."""
        return JSONResponse({"name": self._oracle.about(*_asked_model(request)).model, "ready": True})

    async def infer(self, request: Request) -> Response:
        """Answer."""
        model, asked_version = _asked_model(request)
        body = unpacked(await body_bytes(request), request.headers.get("content-encoding"))
        with metrics.PREDICT_SECONDS.labels("http").time():
            width = len(self._oracle.about(model, asked_version).features)
            asked = wire.reader(width).read(body, request.headers.get(rest.JSON_LENGTH))
            rows, wanted = wire.rows(asked, width)
            trace = request.headers.get("traceparent")
            answer = self._oracle.answer(
                Question(
                    model,
                    asked_version,
                    asked.id or uuid4().hex,
                    "http",
                    rows,
                    wire.entity_of(asked.parameters),
                    None if trace is None else trace.encode(),
                )
            )
            content, headers = rest.write(wire.given(answer, wanted))
        content, headers = packed(content, headers, request.headers.get("accept-encoding", ""))
        return Response(content, headers=headers)

    async def index(self, request: Request) -> Response:
        """List the versions that answer, or are to; only those that can when the body says `ready`."""
        asked = wire.read_index(await body_bytes(request))
        rows = [wire.indexed(each) for each in self._oracle.index() if each.state == "READY" or not asked]
        return JSONResponse(rows)

    async def load(self, request: Request) -> Response:
        """Tell that a model is loaded, as every version in effect is without being asked."""
        self._oracle.about(request.path_params["model"], None)
        return JSONResponse({})

    async def unload(self, request: Request) -> Response:
        """Refuse: what answers is decided elsewhere."""
        raise wire.unloading(self._oracle.about(request.path_params["model"], None))

    async def statistics(self, request: Request) -> Response:
        """Tell what was done for the calls of a model, or of all."""
        model, version = request.path_params.get("model"), request.path_params.get("version")
        return JSONResponse({"model_stats": [wire.used(each) for each in self._oracle.usage(model, version)]})

    async def nothing(self, request: Request) -> Response:
        """Say that there is nothing at this path, in the protocol's own words."""
        raise Unknown(f"{request.method} {request.url.path} is not served; see GET /v2 for what is")


def _spoken(endpoint: Endpoint) -> Endpoint:
    """Return the endpoint with its errors in the form that clients of the protocol read."""

    @wraps(endpoint)
    async def spoken(request: Request) -> Response:
        try:
            return await endpoint(request)
        except tuple(STATUS) as fault:
            status, content = refused(fault)
            return Response(content, status, media_type=rest.JSON_TYPE)
        except Problem as fault:
            return JSONResponse({"error": str(fault)}, fault.status)

    return spoken


def _asked_model(request: Request) -> tuple[str, str | None]:
    return request.path_params["model"], request.path_params.get("version")
