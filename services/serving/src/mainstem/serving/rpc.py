"""The methods of gRPC, whatever carries them: the bytes of a request in, the bytes of an answer or an error out."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from math import inf
from typing import Final, Protocol, Self, TypeVar

import msgspec
from google.protobuf.message import DecodeError

from mainstem.direct import FAILED, Status
from mainstem.events.errors import MainstemError
from mainstem.inference import Answer as Given
from mainstem.inference import Parameters, fields, health_pb2, messages
from mainstem.inference import open_inference_pb2 as pb
from mainstem.inference.errors import BadRequest, DeadlineExceeded, NoAnswer, NotReady, TooLarge, Unknown
from mainstem.serving import wire
from mainstem.serving.allowance import Allowance
from mainstem.serving.batching import Batcher
from mainstem.serving.meters import count_refused
from mainstem.serving.models import Inference, Models
from mainstem.serving.ports import Answer, Question
from mainstem.telemetry import metrics

SERVICE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"
MAX_MESSAGE_BYTES = 16 << 20

STATUS: dict[type[MainstemError], Status] = {
    TooLarge: Status.RESOURCE_EXHAUSTED,
    BadRequest: Status.INVALID_ARGUMENT,
    Unknown: Status.NOT_FOUND,
    DeadlineExceeded: Status.DEADLINE_EXCEEDED,
    NotReady: Status.UNAVAILABLE,
    NoAnswer: Status.INTERNAL,
}
_ERRORS: Final = tuple(STATUS)

#: Is given the bytes of an answer, or why there is none.
Done = Callable[[bytes | MainstemError], None]


class Caller(msgspec.Struct, frozen=True, gc=False):
    """What is known of a call besides its request."""

    #: When it was there (s, monotonic), and when an answer comes too late for who made it.
    read: float
    until: float = inf
    traceparent: bytes | None = None


#: Takes the bytes of a request.
Method = Callable[[bytes, Caller, Done], None]


class _Message(Protocol):
    """A message of the protocol, of whatever kind."""

    @classmethod
    def FromString(cls, content: bytes) -> Self:
        """Read the message from its bytes."""

    def SerializeToString(self) -> bytes:
        """Return the message as bytes."""


_Kind = TypeVar("_Kind", bound=_Message)


def status(fault: MainstemError) -> Status:
    """Return the status of a call that gets this error."""
    return next((status for kind, status in STATUS.items() if isinstance(fault, kind)), Status.INTERNAL)


def read(kind: type[_Kind], content: bytes) -> _Kind:
    """Return the message that stands in bytes. Raises BadRequest."""
    try:
        return kind.FromString(content)
    except DecodeError as fault:
        raise BadRequest(f"the request is no {kind.__name__}: {fault}") from fault


class Rpc:
    """The methods, and the models behind them.

    Where every model has the one input and the one output of ours, there is a batcher: it takes the calls that are one
    raw tensor, which are most, without the steps that other forms need.
    """

    def __init__(self, models: Models, batcher: Batcher | None = None, deadline_s: float = 1.0) -> None:
        """Answer by these; nobody waits longer than `deadline_s`."""
        self._models = models
        self._batcher = batcher
        self._deadline_s = deadline_s
        self._allowance = Allowance(deadline_s)
        self._begun: set[asyncio.Task[None]] = set()
        self._seconds = metrics.PREDICT_SECONDS.labels("grpc")

    def methods(self) -> dict[tuple[str, str], Method]:
        """Return the methods by service and name."""
        return {
            (SERVICE, "ServerLive"): _telling(pb.ServerLiveRequest, _live),
            (SERVICE, "ServerReady"): _telling(pb.ServerReadyRequest, self._ready),
            (SERVICE, "ModelReady"): _telling(pb.ModelReadyRequest, self._model_ready),
            (SERVICE, "ServerMetadata"): _telling(pb.ServerMetadataRequest, _server),
            (SERVICE, "ModelMetadata"): _telling(pb.ModelMetadataRequest, self._model),
            (SERVICE, "ModelInfer"): self.infer,
            (SERVICE, "ModelStatistics"): self._later(pb.ModelStatisticsRequest, self._statistics),
            (SERVICE, "RepositoryIndex"): _telling(pb.RepositoryIndexRequest, self._index),
            (SERVICE, "RepositoryModelLoad"): self._later(pb.RepositoryModelLoadRequest, self._load),
            (SERVICE, "RepositoryModelUnload"): self._later(pb.RepositoryModelUnloadRequest, self._unload),
            (HEALTH, "Check"): _telling(health_pb2.HealthCheckRequest, self._health),
        }

    def infer(self, content: bytes, caller: Caller, done: Done) -> None:
        """Answer; raw when asked raw, typed when asked typed."""
        began = time.monotonic()
        try:
            if caller.until <= began:
                raise DeadlineExceeded("the deadline was over before the call could be begun; wait longer")
            if not self._allowance.has_time(caller.read, began):
                raise DeadlineExceeded(wire.CROWDED)
            asked = fields.read(content)
            request = asked.request
            until = min(caller.until, caller.read + self._within(request.parameters))
            name, trace = request.id or wire.new_id(), caller.traceparent
            rows = None if self._batcher is None else wire.raw_rows(request)
            if self._batcher is not None and rows is not None:
                entity = wire.entity_of(request.parameters) if request.parameters else None
                question = Question(asked.model, asked.version, name, "grpc", rows, entity, trace, None, until)
                return self._batcher.put(question, partial(self._give_raw, done, began))
        except _ERRORS as fault:
            count_refused("grpc", fault)
            return done(fault)
        inference = Inference(asked.model, asked.version, name, "grpc", request, trace, until)
        return self._models.infer(inference, partial(self._give, done, began))

    def _within(self, parameters: Parameters) -> float:
        """Return how long a caller waits (s). Raises BadRequest."""
        return wire.timeout_of(parameters, self._deadline_s) if parameters else self._deadline_s

    def _give_raw(self, done: Done, began: float, found: Answer | MainstemError) -> None:
        if isinstance(found, MainstemError) or found.as_of is not None:
            given = found if isinstance(found, MainstemError) else wire.given(found, wire.ALL_RAW)
            return self._give(done, began, given)
        self._seconds.observe(time.monotonic() - began, found.traceparent)
        return done(wire.raw(found))

    def _give(self, done: Done, began: float, found: Given | MainstemError) -> None:
        trace = None if isinstance(found, MainstemError) else found.traceparent
        self._seconds.observe(time.monotonic() - began, trace)
        if isinstance(found, MainstemError):
            return done(found)
        try:
            content = messages.write(found).SerializeToString()
        except _ERRORS as fault:
            return done(fault)
        return done(content)

    def state(self, service: str) -> health_pb2.HealthCheckResponse:
        """Tell how a service is, as health checks have it; "" is the server."""
        states = health_pb2.HealthCheckResponse
        if service not in ("", SERVICE):
            return states(status=states.SERVICE_UNKNOWN)
        return states(status=states.SERVING if self._models.fault() is None else states.NOT_SERVING)

    def _health(self, request: health_pb2.HealthCheckRequest) -> health_pb2.HealthCheckResponse:
        """Tell a probe whether every model in effect can answer."""
        if request.service not in ("", SERVICE):
            raise Unknown(f"there is no service {request.service!r} here")
        return self.state(request.service)

    def _ready(self, _: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        """Tell whether every model in effect can answer."""
        return pb.ServerReadyResponse(ready=self._models.fault() is None)

    def _model(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        """Tell inputs and outputs of a model."""
        return pb.ModelMetadataResponse(**self._models.metadata(request.name, request.version or None))

    def _model_ready(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        """Tell whether a model answers."""
        self._models.ready(request.name, request.version or None)
        return pb.ModelReadyResponse(ready=True)

    def _index(self, request: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
        """List every version there is; only those that answer when that is asked for."""
        rows = [wire.indexed(each) for each in self._models.index() if each.state == "READY" or not request.ready]
        return pb.RepositoryIndexResponse(models=rows)

    async def _load(self, request: pb.RepositoryModelLoadRequest) -> pb.RepositoryModelLoadResponse:
        """Load a model."""
        wire.bring_nothing(request.parameters)
        await self._models.load(request.model_name)
        return pb.RepositoryModelLoadResponse()

    async def _unload(self, request: pb.RepositoryModelUnloadRequest) -> pb.RepositoryModelUnloadResponse:
        """Unload a model."""
        await self._models.unload(request.model_name)
        return pb.RepositoryModelUnloadResponse()

    async def _statistics(self, request: pb.ModelStatisticsRequest) -> pb.ModelStatisticsResponse:
        """Tell what was done for the calls of a model, or of all."""
        found = await self._models.statistics(request.name or None, request.version or None)
        return pb.ModelStatisticsResponse(model_stats=found)

    def _later(self, kind: type[_Message], tell: Callable[[_Message], Awaitable[_Message]]) -> Method:
        """Return the method that answers a message when that is known."""

        async def answered(content: bytes, done: Done) -> None:
            try:
                found = (await tell(read(kind, content))).SerializeToString()
            except _ERRORS as fault:
                return done(fault)
            except Exception:  # nobody expected it: whoever waits is told, and it is passed on
                done(NoAnswer(FAILED))
                raise
            return done(found)

        def method(content: bytes, _: Caller, done: Done) -> None:
            task = asyncio.get_running_loop().create_task(answered(content, done))
            self._begun.add(task)
            task.add_done_callback(self._begun.discard)

        return method


def _live(_: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
    """Tell that the process answers."""
    return pb.ServerLiveResponse(live=True)


def _server(_: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
    """Tell who this is and which extensions it speaks."""
    from importlib.metadata import version  # noqa: PLC0415  (slow to import)

    return pb.ServerMetadataResponse(
        name=wire.NAME, version=version("mainstem-serving"), extensions=wire.GRPC_EXTENSIONS
    )


def _telling(kind: type[_Message], tell: Callable[[_Message], _Message]) -> Method:
    """Return the method that answers a message at once."""

    def method(content: bytes, _: Caller, done: Done) -> None:
        try:
            found = tell(read(kind, content)).SerializeToString()
        except _ERRORS as fault:
            return done(fault)
        return done(found)

    return method
