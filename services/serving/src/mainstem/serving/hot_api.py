"""The paths of HTTP that applications call all the time, without a framework around them; see ADR 19."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple
from urllib.parse import unquote

import orjson

from mainstem.direct import Call, Handler, Headers
from mainstem.events.errors import MainstemError
from mainstem.inference import Answer as Given
from mainstem.inference import Signature, rest
from mainstem.inference.errors import DeadlineExceeded, NotReady, TooLarge
from mainstem.serving import wire
from mainstem.serving.allowance import Allowance
from mainstem.serving.answers import MAX_ROWS
from mainstem.serving.batching import Batcher
from mainstem.serving.bodies import STATUS, packed, refused, unpacked
from mainstem.serving.engine import INPUT
from mainstem.serving.meters import count_refused
from mainstem.serving.models import Inference, Models
from mainstem.serving.ports import Answer, Question
from mainstem.telemetry import metrics

_JSON: Final[Headers] = ((b"content-type", rest.JSON_TYPE.encode()),)
_JSON_LENGTH: Final = rest.JSON_LENGTH.encode()
_MODELS: Final = b"/v2/models/"
_STATISTICS: Final = b"/v2/models/stats"
_READY: Final = b"/v2/health/ready"
#: Paths of probes. That the process answers is all that `live` means.
_HEALTH: Final = {b"/livez", b"/v2/health/live", _READY}
#: Pages of the service by which it is operated: whoever else asks for pages leaves these a way.
OPERATED: Final = (b"/readyz", b"/metrics")
#: Methods of probes; what HEAD leaves out is left out by the door.
_LOOKED: Final = {b"GET", b"HEAD"}
#: Reads what says of itself what it is. A body that is one tensor and nothing else does not.
_READER: Final = rest.Reader(Signature((), ()))
#: A longer body is looked at before it is read. Entities are described by no more columns than this, or the features.
_LOOKED_AT_BYTES, FEW_COLUMNS = 64 << 10, 16
_ERRORS: Final = tuple(STATUS)
#: Headers of a call to infer that are looked at.
_READ: Final = (_JSON_LENGTH, b"content-encoding", b"accept-encoding", b"traceparent")


class _To(NamedTuple):
    """What a call to infer says before its body."""

    model: str
    version: str | None
    length: bytes | None
    encoding: bytes | None
    accepted: bytes | None
    trace: bytes | None


class HotApi:
    """Serves models and their health; every other path is somebody else's.

    Where every model has the one input and the one output of ours, there is a batcher: it takes the calls that are flat
    JSON, which are most, without the steps that other forms need.
    """

    def __init__(self, models: Models, batcher: Batcher | None = None, deadline_s: float = 1.0) -> None:
        """Answer by these; nobody waits longer than `deadline_s`."""
        self._models = models
        self._batcher = batcher
        self._deadline_s = deadline_s
        self._allowance = Allowance(deadline_s)
        self._seconds = metrics.PREDICT_SECONDS.labels("http")

    def route(self, method: bytes, path: bytes, headers: Sequence[tuple[bytes, bytes]]) -> Handler | None:
        """Return who serves a path; None where that is not here."""
        if method in _LOOKED and path in _HEALTH:
            return self._healthy if path == _READY else _live
        if not path.startswith(_MODELS):
            return None
        model, *rest = (unquote(part.decode("latin-1")) for part in path[len(_MODELS) :].split(b"/"))
        version = None
        if rest[:1] == ["versions"] and rest[1:]:
            version, rest = rest[1], rest[2:]
        match method, rest:
            case b"POST", ["infer"]:
                said = {name: value for name, value in headers if name in _READ}
                return self._inferring(_To(model, version, *map(said.get, _READ)))
            case b"GET", ["ready"]:
                return partial(self._tell, self._ready, model, version)
            case b"GET", [] if path != _STATISTICS:
                return partial(self._tell, self._models.metadata, model, version)
        return None

    def _healthy(self, call: Call) -> None:
        fault = self._models.fault()
        if fault is not None:
            return _refuse(call, NotReady(fault))
        return call.answer(200, _JSON, b'{"ready":true}')

    def _ready(self, model: str, version: str | None) -> Mapping[str, object]:
        self._models.ready(model, version)
        return {"name": model, "ready": True}

    def _tell(
        self, said: Callable[[str, str | None], Mapping[str, object]], model: str, version: str | None, call: Call
    ) -> None:
        try:
            found = said(model, version)
        except _ERRORS as fault:
            return _refuse(call, fault)
        return call.answer(200, _JSON, orjson.dumps(found))

    def _inferring(self, to: _To) -> Handler:
        """Return who answers such calls."""
        if self._batcher is None or to.length is not None or to.encoding is not None:
            return partial(self._infer, to)
        return partial(self._infer_plain, self._batcher, to)

    def _infer_plain(self, batcher: Batcher, to: _To, call: Call) -> None:
        began, read = time.monotonic(), call.read
        if len(call.body) > _LOOKED_AT_BYTES and (fault := self._too_many(to, call.body)):
            count_refused("http", fault)
            return _refuse(call, fault)
        plain = rest.read_plain(INPUT, call.body) if self._allowance.has_time(read, began) else None
        if plain is None:
            return self._infer(to, call)
        asked, name = plain.parameters, plain.id or wire.new_id()
        until = read + (wire.within(asked.timeout, self._deadline_s) if asked.timeout else self._deadline_s)
        entity = asked.entity or None
        question = Question(to.model, to.version, name, "http", plain.values, entity, to.trace, plain.columns, until)
        return batcher.put(question, partial(self._give_plain, call, to.accepted, began))

    def _infer(self, to: _To, call: Call) -> None:
        began, read = time.monotonic(), call.read
        if not self._allowance.has_time(read, began):
            late = DeadlineExceeded(wire.CROWDED)
            count_refused("http", late)
            return _refuse(call, late)
        try:
            body = call.body if to.encoding is None else unpacked(call.body, to.encoding.decode("latin-1"))
            if len(body) > _LOOKED_AT_BYTES and (fault := self._too_many(to, body)):
                raise fault
            reader = _READER if to.length != b"0" else rest.Reader(self._models.signature(to.model, to.version))
            asked = reader.read(body, None if to.length is None else to.length.decode("latin-1"))
            until, name = read + wire.timeout_of(asked.parameters, self._deadline_s), asked.id or wire.new_id()
        except _ERRORS as fault:
            count_refused("http", fault)
            return _refuse(call, fault)
        inference = Inference(to.model, to.version, name, "http", asked, to.trace, until)
        return self._models.infer(inference, partial(self._give, call, to.accepted, began))

    def _too_many(self, to: _To, body: bytes) -> MainstemError | None:
        """Refuse JSON that holds more values than a call may: reading it would keep all others waiting.

        There is a comma between any two, so that they need not be read to be counted; texts may have some of their own.
        """
        if self._batcher is None:
            return None
        try:
            (_, width), *_ = [spec.shape for spec in self._models.signature(to.model, to.version).inputs]
        except _ERRORS as fault:
            return fault
        end = int(to.length) if to.length is not None and to.length.isdigit() else len(body)
        if body.count(b",", 0, end) <= 2 * MAX_ROWS * max(width, FEW_COLUMNS):
            return None
        return TooLarge(f"there are more values than {MAX_ROWS} rows of model {to.model!r} have; send them in parts")

    def _give_plain(self, call: Call, accepted: bytes | None, began: float, found: Answer | MainstemError) -> None:
        if isinstance(found, MainstemError) or found.prediction is None:
            given = found if isinstance(found, MainstemError) else wire.given(found, wire.ALL)
            return self._give(call, accepted, began, given)
        self._seconds.observe(time.monotonic() - began, found.traceparent)
        content = wire.plain(found, found.prediction)
        if accepted:
            return _send(call, *packed(content, rest.JSON_HEADERS, accepted.decode("latin-1")))
        return call.answer(200, _JSON, content)

    def _give(self, call: Call, accepted: bytes | None, began: float, found: Given | MainstemError) -> None:
        trace = None if isinstance(found, MainstemError) else found.traceparent
        self._seconds.observe(time.monotonic() - began, trace)
        if isinstance(found, MainstemError):
            return _refuse(call, found)
        try:
            content, headers = rest.write(found)
        except _ERRORS as fault:
            return _refuse(call, fault)
        if accepted:
            content, headers = packed(content, headers, accepted.decode("latin-1"))
        return _send(call, content, headers)


def _send(call: Call, content: bytes, headers: Mapping[str, str]) -> None:
    if headers is rest.JSON_HEADERS:
        return call.answer(200, _JSON, content)
    return call.answer(200, tuple((name.encode(), value.encode()) for name, value in headers.items()), content)


def _live(call: Call) -> None:
    call.answer(200, _JSON, b'{"live":true}')


def _refuse(call: Call, fault: MainstemError) -> None:
    status, content = refused(fault)
    call.answer(status, _JSON, content)
