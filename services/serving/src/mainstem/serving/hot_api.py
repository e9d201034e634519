"""The paths of HTTP that applications call all the time, without a framework around them; see ADR 19."""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from random import Random
from typing import Final
from urllib.parse import unquote

import orjson

from mainstem.events.errors import MainstemError
from mainstem.inference import Wanted, rest
from mainstem.runtime.direct import Call, Handler
from mainstem.runtime.responses import Headers
from mainstem.serving import wire
from mainstem.serving.batching import Batcher
from mainstem.serving.bodies import STATUS, packed, refused, unpacked
from mainstem.serving.engine import INPUT
from mainstem.serving.ports import Answer, Oracle, Question
from mainstem.telemetry import metrics

_JSON: Final[Headers] = ((b"content-type", rest.JSON_TYPE.encode()),)
_JSON_LENGTH: Final = rest.JSON_LENGTH.encode()
_WITH_VERSION: Final = 6
_ERRORS: Final = tuple(STATUS)
#: Headers of a call to infer that are looked at.
_READ: Final = {_JSON_LENGTH, b"content-encoding", b"accept-encoding", b"traceparent"}
#: Names calls that have no name; no secret.
_name: Final = Random()


class HotApi:
    """Serves `infer`, `ready` and the health of the server; every other path is the application's."""

    def __init__(self, oracle: Oracle, batcher: Batcher) -> None:
        self._oracle = oracle
        self._batcher = batcher
        self._seconds = metrics.PREDICT_SECONDS.labels("http")

    def route(self, method: bytes, path: bytes, headers: Sequence[tuple[bytes, bytes]]) -> Handler | None:
        """Return who serves a path; None where that is not here."""
        parts = path.split(b"/")[1:]
        if method == b"GET" and path == b"/v2/health/live":
            return _live
        if len(parts) not in (4, _WITH_VERSION) or parts[:2] != [b"v2", b"models"]:
            return None
        model, *version, last = (unquote(part.decode("latin-1")) for part in parts[2:])
        if version and version[0] != "versions":
            return None
        asked_version = version[1] if version else None
        if method == b"POST" and last == "infer":
            return partial(self._infer, model, asked_version, {name: value for name, value in headers if name in _READ})
        if method == b"GET" and last == "ready":
            return partial(self._ready, model, asked_version)
        return None

    def _ready(self, model: str, version: str | None, call: Call) -> None:
        try:
            found = {"name": self._oracle.about(model, version).model, "ready": True}
        except _ERRORS as fault:
            return _refuse(call, fault)
        return call.answer(200, _JSON, orjson.dumps(found))

    def _infer(self, model: str, version: str | None, said: Mapping[bytes, bytes], call: Call) -> None:
        began = time.perf_counter()
        length, encoding = said.get(_JSON_LENGTH), said.get(b"content-encoding")
        try:
            body = call.body if encoding is None else unpacked(call.body, encoding.decode("latin-1"))
            plain = rest.read_plain(INPUT, body) if length is None else None
            if plain is not None:
                (rows, asked_id, parameters), wanted = plain, wire.ALL
            else:
                width = len(self._oracle.about(model, version).features)
                asked = wire.reader(width).read(body, None if length is None else length.decode("latin-1"))
                (rows, wanted), asked_id, parameters = wire.rows(asked, width), asked.id, asked.parameters
            entity = wire.entity_of(parameters) if parameters else None
        except _ERRORS as fault:
            return _refuse(call, fault)
        name = asked_id or f"{_name.getrandbits(128):032x}"
        question = Question(model, version, name, "http", rows, entity, said.get(b"traceparent"))
        return self._batcher.put(question, partial(self._give, call, wanted, said.get(b"accept-encoding"), began))

    def _give(
        self, call: Call, wanted: Sequence[Wanted], accepted: bytes | None, began: float, found: Answer | MainstemError
    ) -> None:
        self._seconds.observe(time.perf_counter() - began)
        if isinstance(found, MainstemError):
            status, content = refused(found)
            return call.answer(status, _JSON, content)
        if wanted is wire.ALL and found.prediction is not None:
            content, headers = wire.plain(found, found.prediction), rest.JSON_HEADERS
        else:
            content, headers = rest.write(wire.given(found, wanted))
        if accepted:
            content, headers = packed(content, headers, accepted.decode("latin-1"))
        if headers is rest.JSON_HEADERS:
            return call.answer(200, _JSON, content)
        return call.answer(200, tuple((name.encode(), value.encode()) for name, value in headers.items()), content)


def _live(call: Call) -> None:
    call.answer(200, _JSON, b'{"live":true}')


def _refuse(call: Call, fault: MainstemError) -> None:
    status, content = refused(fault)
    call.answer(status, _JSON, content)
