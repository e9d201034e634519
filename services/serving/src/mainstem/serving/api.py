"""HTTP: what the Open Inference Protocol v2 has beside the models, and the metrics of all workers."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import wraps
from http import HTTPStatus
from importlib import resources
from importlib.metadata import version

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route, compile_path, request_response

from mainstem.direct import RETRY_S
from mainstem.inference import rest
from mainstem.inference.errors import NotReady, Unknown
from mainstem.runtime import body_bytes
from mainstem.serving import wire
from mainstem.serving.bodies import STATUS, refused
from mainstem.serving.crew import Crew
from mainstem.serving.models import Repository
from mainstem.serving.orders import Figures
from mainstem.telemetry import metrics

#: What is served over HTTP, here and by the workers.
_DOCUMENT = resources.files("mainstem.serving").joinpath("openapi.json").read_bytes()
_PATHS = {compile_path(path)[0]: said for path, said in orjson.loads(_DOCUMENT)["paths"].items()}

Endpoint = Callable[[Request], Awaitable[Response]]


#: Paths of a model, and of one of its versions.
_MODELS = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")


class Api:
    """The pages of the protocol. Those that applications call all the time are here for who asks in another way."""

    def __init__(self, models: Repository) -> None:
        self._models = models

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        served: list[tuple[str, Endpoint, str]] = [
            ("/v2", self.server, "GET"),
            ("/v2/", self.server, "GET"),
            ("/openapi.json", self.openapi, "GET"),
            ("/v2/health/live", self.live, "GET"),
            ("/v2/health/ready", self.ready, "GET"),
            ("/v2/models/stats", self.statistics, "GET"),
            ("/v2/repository/index", self.index, "POST"),
            ("/v2/repository/models/{model}/load", self.load, "POST"),
            ("/v2/repository/models/{model}/unload", self.unload, "POST"),
        ]
        for path in _MODELS:
            pages = (("", self.metadata), ("/ready", self.model_ready), ("/stats", self.statistics))
            served += [(path + page, endpoint, "GET") for page, endpoint in pages]
        routes = [Route(path, _spoken(endpoint), methods=[method]) for path, endpoint, method in served]
        return [*routes, Mount("/", request_response(_spoken(self.nothing)))]

    async def server(self, _: Request) -> Response:
        """Tell who this is and which extensions it speaks."""
        return JSONResponse(
            {"name": wire.NAME, "version": version("mainstem-serving"), "extensions": list(wire.EXTENSIONS)}
        )

    async def live(self, _: Request) -> Response:
        """Tell that the process answers."""
        return JSONResponse({"live": True})

    async def ready(self, _: Request) -> Response:
        """Tell that every model that is to answer can. Raises NotReady."""
        fault = self._models.fault()
        if fault is not None:
            raise NotReady(fault)
        return JSONResponse({"ready": True})

    async def metadata(self, request: Request) -> Response:
        """Tell inputs and outputs of a model."""
        return JSONResponse(self._models.metadata(*_named(request)))

    async def model_ready(self, request: Request) -> Response:
        """Tell that a model answers. Raises NotReady."""
        self._models.ready(*_named(request))
        return JSONResponse({"name": request.path_params["model"], "ready": True})

    async def index(self, request: Request) -> Response:
        """List every version there is; only those that answer when the body says `ready`."""
        asked = wire.read_index(await body_bytes(request))
        rows = [wire.indexed(each) for each in self._models.index() if each.state == "READY" or not asked]
        return JSONResponse(rows)

    async def load(self, request: Request) -> Response:
        """Load a model."""
        wire.bring_nothing(wire.read_parameters(await body_bytes(request)))
        await self._models.load(request.path_params["model"])
        return JSONResponse({})

    async def unload(self, request: Request) -> Response:
        """Unload a model."""
        wire.read_parameters(await body_bytes(request))
        await self._models.unload(request.path_params["model"])
        return JSONResponse({})

    async def statistics(self, request: Request) -> Response:
        """Tell what was done for the calls of a model, or of all."""
        model, version = request.path_params.get("model"), request.path_params.get("version")
        return JSONResponse({"model_stats": await self._models.statistics(model, version)})

    async def openapi(self, _: Request) -> Response:
        """Tell all of this in a form that programs read."""
        return Response(_DOCUMENT, media_type=rest.JSON_TYPE)

    async def nothing(self, request: Request) -> Response:
        """Say that there is nothing at this path, or not by this method, in the protocol's own words."""
        allowed = _allowed(request.url.path)
        if allowed:
            error = {"error": f"{request.url.path} takes {allowed}, not {request.method}"}
            return JSONResponse(error, HTTPStatus.METHOD_NOT_ALLOWED, {"allow": allowed})
        raise Unknown(f"{request.method} {request.url.path} is not served; GET /openapi.json says what is")


def error(status: int, _: str, why: str) -> Response:
    """Return an error as the protocol has it."""
    return JSONResponse({"error": why}, status, _later(status))


def metrics_of(crew: Crew) -> BaseRoute:
    """Return the page with the metrics of this process and of those of a crew, added up."""
    pages = _Pages()

    async def exposition(request: Request) -> Response:
        content, media_type = await pages.of(await crew.figures(), request.headers.get("accept", ""))
        return Response(content, media_type=media_type)

    return Route("/metrics", exposition)


class _Pages:
    """The metrics as text, in each form made once of the same figures, and not on the loop."""

    def __init__(self) -> None:
        self._making = asyncio.Lock()
        self._figures: Sequence[Figures] = ()
        self._pages: dict[str, metrics.Exposition] = {}

    async def of(self, figures: Sequence[Figures], accept: str) -> metrics.Exposition:
        """Return the metrics of this process and of others, in a form that is accepted."""
        form = metrics.form(accept)
        async with self._making:
            if figures is not self._figures:
                self._figures, self._pages = figures, {}
            if form not in self._pages:
                others = [each.metrics for each in figures]
                self._pages[form] = await asyncio.to_thread(metrics.exposition, others, accept)
            return self._pages[form]


def _allowed(path: str) -> str:
    """Return the methods that a path takes, for the header `Allow`; nothing for a path that there is not."""
    found = {name.upper() for pattern, said in _PATHS.items() if pattern.match(path) for name in said}
    if "GET" in found:
        found.add("HEAD")
    return ", ".join(sorted(found - {"PARAMETERS"}))


def _spoken(endpoint: Endpoint) -> Endpoint:
    """Return the endpoint with its errors in the form that clients of the protocol read."""

    @wraps(endpoint)
    async def spoken(request: Request) -> Response:
        try:
            return await endpoint(request)
        except tuple(STATUS) as fault:
            status, content = refused(fault)
            return Response(content, status, _later(status), media_type=rest.JSON_TYPE)

    return spoken


def _later(status: int) -> Mapping[str, str] | None:
    """Return the header that says when to ask again, where that is of use."""
    return {"retry-after": str(RETRY_S)} if status == HTTPStatus.SERVICE_UNAVAILABLE else None


def _named(request: Request) -> tuple[str, str | None]:
    return request.path_params["model"], request.path_params.get("version")
