"""Serving's door, as a batch asks it: calls in raw tensors, again where the door says later; see ADR 24."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import msgspec
import numpy as np
import numpy.typing as npt
import orjson

from mainstem.cli.batch.line import Line, Lost, Reply
from mainstem.cli.calls import CallRefused
from mainstem.events.errors import Rejected, Unavailable
from mainstem.inference import Tensor
from mainstem.inference.rest import JSON_LENGTH, RAW_TYPE
from mainstem.inference.tensors import to_bytes

#: A call that is not answered is asked again for so long.
PATIENCE_S: Final = 60.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 1.0
#: Answers that say later: not taken in time, too many, a proxy without its server, not ready, or that too late.
_AGAIN: Final = {408, 429, 502, 503, 504}
#: Of these the ones behind which the call may have been answered.
_UNSURE: Final = {502, 504}
#: While the spools hold more than this the log is waited for: what fills them is room that other callers need.
SPOOLED: Final = 128 << 20
_SPOOL_BYTES: Final = re.compile(rb"^mainstem_spool_bytes\{[^}]*\} (\S+)", re.MULTILINE)


class About(NamedTuple):
    """A version that answers: what it reads."""

    features: Sequence[str]
    feature_set: str
    definition: str


class Answered(NamedTuple):
    """What the door says to a call: the version, and a score a row; `prediction` is the id of the first, if recorded.

    Where features were looked up: the instant (RFC 3339), how many records, and the sources too old.
    """

    version: int
    scores: npt.NDArray[np.float64]
    prediction: str | None
    features_at: str | None
    features_applied: int | None
    stale: str | None


class _Head(msgspec.Struct):
    model_version: str
    parameters: dict[str, Any] = {}


class _Metadata(msgspec.Struct):
    properties: dict[str, str]


class _Fault(msgspec.Struct):
    error: str


_read_head = msgspec.json.Decoder(_Head).decode
_read_metadata = msgspec.json.Decoder(_Metadata).decode
_read_fault = msgspec.json.Decoder(_Fault).decode


class Door:
    """Asks one model, or one version of it."""

    def __init__(self, url: str, model: str, version: str | None, lines: int) -> None:
        self._url = url
        #: Calls that may be under way at the same time.
        self.lines = lines
        self._model = f"/v2/models/{quote(model, safe='')}"
        self._path = f"{self._model}/versions/{quote(version, safe='')}" if version else self._model
        self._lines = asyncio.LifoQueue[Line]()
        #: How often something was asked again.
        self.again = 0
        #: Calls that were asked again, or given up, though they may have been answered: their rows may stand in the
        #: log, or stand there twice.
        self.unsure = 0

    @classmethod
    @asynccontextmanager
    async def at(cls, url: str, model: str, version: str | None, *, lines: int) -> AsyncIterator["Door"]:
        """Keep so many connections while the block runs."""
        door, kept = cls(url, model, version, lines), [Line(url) for _ in range(lines)]
        for line in kept:
            door._lines.put_nowait(line)
        try:
            yield door
        finally:
            for line in kept:
                line.close()

    async def about(self, version: int | None = None) -> About:
        """Return what a version reads, or the one that is asked. Raises as `infer` does, and Rejected if unmanaged."""
        path = self._path if version is None else f"{self._model}/versions/{version}"
        said = _read_metadata((await self._ask("GET", path)).body).properties
        if "unmanaged" in said:
            raise Rejected(f"nothing is recorded of what {self._url} answers; a batch is for models of the platform")
        return About(orjson.loads(said["features"]), said["feature_set"], said["feature_definition"])

    async def infer(self, name: str, tensors: Sequence[Tensor], entity: str | None) -> Answered:
        """Ask under a name, about an entity if there is one.

        Raises CallRefused, and Unavailable when no answer comes for `PATIENCE_S`.
        """
        tail = [to_bytes(tensor.values) for tensor in tensors]
        inputs = [
            {
                "name": tensor.name,
                "datatype": tensor.datatype,
                "shape": tensor.values.shape,
                "parameters": {"binary_data_size": len(content)},
            }
            for tensor, content in zip(tensors, tail, strict=True)
        ]
        parameters = {"binary_data_output": True} | ({} if entity is None else {"entity": entity})
        head = orjson.dumps({"id": name, "inputs": inputs, "parameters": parameters})
        about = {"content-type": RAW_TYPE, JSON_LENGTH: str(len(head))}
        reply = await self._ask("POST", f"{self._path}/infer", b"".join((head, *tail)), about)
        return _answered(reply, len(tensors[0].values))

    async def room(self) -> None:
        """Return when the spools have room. Raises Unavailable when they do not shrink for `PATIENCE_S`."""
        least, until, pause = float("inf"), monotonic() + PATIENCE_S, _FIRST_PAUSE_S
        while (waiting := await self._spooled()) > SPOOLED:
            if waiting < least:
                least, until = waiting, monotonic() + PATIENCE_S
            elif monotonic() > until:
                what = f"{waiting / 1e6:.0f} MB of answers wait for the log, and no fewer"
                raise Unavailable(f"{what} for {PATIENCE_S:g} s; see `mainstem status`")
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    async def _spooled(self) -> float:
        """Return how many bytes the spools hold; none where nobody tells, as when only the workers answer."""
        reply, _ = await self._once("GET", "/metrics", b"", None)
        return sum(map(float, _SPOOL_BYTES.findall(reply.body))) if reply is not None else 0.0

    async def _ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
        until, pause = monotonic() + PATIENCE_S, _FIRST_PAUSE_S
        while True:
            reply, why = await self._once(method, path, body, headers)
            if reply is not None and reply.status == 200:
                return reply
            if reply is not None and reply.status not in _AGAIN:
                raise CallRefused(why)
            if monotonic() > until:
                raise Unavailable(f"{self._url} did not answer for {PATIENCE_S:g} s: {why}; see `mainstem status`")
            self.again += 1
            await asyncio.sleep(max(pause, _told(reply)))
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    async def _once(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str] | None
    ) -> tuple[Reply | None, str]:
        """Return the answer, if one came, and what is wrong with it."""
        line = await self._lines.get()
        try:
            reply = await line.ask(method, path, body, headers)
        except Lost as fault:
            self.unsure += method == "POST"
            return None, str(fault)
        except asyncio.CancelledError:
            self.unsure += method == "POST"
            raise
        except OSError as fault:  # a timeout is one, too
            return None, str(fault) or repr(fault)
        finally:
            self._lines.put_nowait(line)
        self.unsure += method == "POST" and reply.status in _UNSURE
        return reply, _complaint(reply)


def _answered(reply: Reply, rows: int) -> Answered:
    length = int(reply.headers.get(JSON_LENGTH.encode(), b"0"))
    try:
        head, values = _read_head(reply.body[:length]), np.frombuffer(reply.body, "<f8", offset=length)
        scores = values.reshape(rows, 2)[:, 1]
    except (msgspec.MsgspecError, ValueError) as fault:
        raise CallRefused(f"the answer to {rows} rows is none: {fault}") from fault
    told = head.parameters
    where = (told.get(name) for name in ("prediction_id", "features_at", "features_applied", "stale"))
    return Answered(int(head.model_version), scores, *where)


def _complaint(reply: Reply) -> str:
    """Return what the door says is wrong."""
    with suppress(msgspec.MsgspecError, UnicodeDecodeError):
        return _read_fault(reply.body).error
    return f"status {reply.status}"


def _told(reply: Reply | None) -> float:
    """Return for how long the door wants to be left alone (s)."""
    said = b"0" if reply is None else reply.headers.get(b"retry-after", b"0")
    return min(float(said), PATIENCE_S) if said.isdigit() else 0.0
