"""What is fuzzed: each target makes one input into an outcome, and raises for what must not happen."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from random import Random

import numpy as np
from tests.fuzz import calls
from tests.fuzz.served import MODEL, Aborted, Context, NoUpstream, Serving, Wire

from mainstem.direct import Door, Limits, Status
from mainstem.events.errors import MainstemError
from mainstem.inference import Answer, Request, Signature, Spec, rest
from mainstem.inference import open_inference_pb2 as pb
from mainstem.serving import grpc_api, grpc_fast, wire
from mainstem.serving.engine import INPUT
from mainstem.serving.rpc import Rpc

#: What an answer over HTTP may say; nothing of it is a fault of the server.
STATUSES = {200, 400, 404, 405, 408, 413, 431, 501, 503}
#: What is no request, or too long for one, is either of these: whatever is seen first.
REFUSALS = {400, 413, 431, 501}
CODES = {"INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED"}
#: So many bytes of a message a stream takes at once.
_WINDOW = 60_000
#: So often the loop turns before nothing more is expected of it.
_TURNS = 1_000

_DATATYPES = ("BOOL", "INT8", "UINT64", "INT64", "FP16", "FP32", "FP64", "BYTES")
SIGNATURES = [
    *(Signature((Spec("x", datatype, (-1, 2)),), (Spec("y", datatype, (-1,)),)) for datatype in _DATATYPES),
    Signature((Spec("a", "INT64", (2,)), Spec("b", "BYTES", (-1,)), Spec("c", "FP32", (1, -1, 2))), ()),
]
READERS = [rest.Reader(signature) for signature in SIGNATURES]

#: No array has these: without cells it would be too large, or it has too many dimensions.
NO_SHAPES = ([0, 1 << 40, 1 << 40], [1 << 40, 0], [1] * 70)

#: Returns what came of an input; chance is the same for the same seed.
Check = Callable[[bytes, Random], Awaitable[str]]


@dataclass(frozen=True)
class Target:
    """Something that takes bytes from strangers."""

    check: Check
    corpus: Sequence[bytes]
    words: Sequence[bytes]


def shape_of(said: str) -> str:
    """Return an outcome without what is only this input's."""
    return re.sub(r"\d+|'[^']*'|\[[^]]*\]", "#", said)[:40]


class Http:
    """Bytes on a connection: requests are answered, in order, however they are cut; nothing hangs."""

    prefix = b"".join(
        b"POST /v2/models/%b/infer HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n%b"
        % (MODEL.encode(), len(body), body)
        for body in (
            b'{"id":"p%d","inputs":[{"name":"features","shape":[1,3],"datatype":"FP64","data":[1,2,3]}]}' % number
            for number in range(2)
        )
    )

    def __init__(self) -> None:
        self._serving = Serving()
        limits = Limits(header_bytes=4_000, headers=40, body_bytes=20_000, held_bytes=100_000, pipelined=8)
        self._door = Door(self._serving.api.route, NoUpstream("nowhere", 1), limits)

    async def check(self, given: bytes, random: Random) -> str:
        """Raise unless what came before is answered, and the rest in the same way whole and in pieces."""
        cuts = sorted(random.randint(0, len(given)) for _ in range(random.choice((1, 1, 2, 5, 30))))
        whole = await self._sent([self.prefix + given])
        cut = await self._sent([self.prefix, *(given[begin:end] for begin, end in pairwise([0, *cuts, len(given)]))])
        if len(whole) != len(cut) or whole[:-1] != cut[:-1] or (whole[-1] in REFUSALS) != (cut[-1] in REFUSALS):
            raise AssertionError(f"whole it gives {whole}, cut at {cuts} {cut}")
        if whole[:2] != [200, 200]:
            raise AssertionError(f"what came before is not answered: {whole}")
        return str(whole[2:])

    async def _sent(self, parts: Sequence[bytes]) -> list[int]:
        """Return the statuses of what came back."""
        wire, connection = Wire(), self._door()
        connection.connection_made(wire)
        for part in parts:
            connection.data_received(part)
            await asyncio.sleep(0)
        await self._settled(lambda: not connection._kept and not connection._waiting)
        if not wire.is_closing():
            connection.eof_received()
        await self._settled(lambda: not connection._waiting)
        connection.check(asyncio.get_running_loop().time() + 1_000)
        if not wire.is_closing():
            raise AssertionError("the connection is left open")
        connection.connection_lost(None)
        if self._door.held or self._door.connections:
            raise AssertionError(f"{self._door.held} bytes and {len(self._door.connections)} connections are left")
        return _statuses(wire.written)

    async def _settled(self, condition: Callable[[], bool]) -> None:
        for _ in range(_TURNS):
            if condition():
                return
            await asyncio.sleep(0)
        raise AssertionError("it does not come to an end")


def _statuses(written: bytes) -> list[int]:
    """Return the statuses of answers; raise AssertionError for what is none."""
    found = []
    while written:
        head, end, rest_of = written.partition(b"\r\n\r\n")
        line = re.match(rb"HTTP/1\.1 (\d{3}) [\w -]+(?:\r\n|$)", head)
        if not end or line is None:
            raise AssertionError(f"this is no answer: {written[:200]!r}")
        status = int(line[1])
        if status != 100:
            length = re.search(rb"\r\ncontent-length: (\d+)", head)
            if length is None or status not in STATUSES:
                raise AssertionError(f"this is no answer of ours: {head!r}")
            if rest_of and not rest_of.startswith(b"HTTP/1.1 "):  # as behind the head of an answer to HEAD
                said = re.search(rb"\r\ninference-header-content-length: (\d+)", head) or length
                json.loads(rest_of[: int(said[1])])
                rest_of = rest_of[int(length[1]) :]
            found.append(status)
        written = rest_of
    return found


class Json:
    """Bodies that are JSON, for one model through the whole path, for others through the decoder."""

    def __init__(self) -> None:
        self._serving = Serving()

    async def check(self, given: bytes, random: Random) -> str:
        """Raise unless it is answered or refused, and means the same on the short way and on the long."""
        said = answered(self._serving, given, [])
        _agree(given)
        decoded(given, None, random)
        return said


def _agree(given: bytes) -> None:
    """Raise unless what is read the short way is what is read the long way."""
    plain = rest.read_plain(INPUT, given)
    if plain is not None:
        request = READERS[0].read(given)
        said = plain.id, plain.parameters
        if said != (request.id, rest.Asked(**request.parameters)) or request.outputs is not None:  # type: ignore[arg-type]
            raise AssertionError("read as plain it is another request")
        if plain.columns is None:
            (tensor,) = request.inputs
            np.testing.assert_array_equal(plain.values, tensor.values)
        elif plain.columns != wire.described(request.inputs):
            raise AssertionError("read as plain it describes other entities")


def answered(serving: Serving, body: bytes, headers: list[tuple[bytes, bytes]]) -> str:
    """Return what came of a call; raise for what is no answer."""
    status, content = serving.asked(body, headers)
    if status == 200:
        return "200"
    if status not in STATUSES:
        raise AssertionError(f"{status}: {content!r}")
    return f"{status} {shape_of(json.loads(content)['error'])}"


def decoded(body: bytes, length: str | None, random: Random) -> None:
    """Have some model's reader read, and write what was read; raise anything but an error of the protocol."""
    number = random.randrange(len(READERS))
    try:
        request: Request = READERS[number].read(body, length)
        SIGNATURES[number].accept(request.inputs)
        request.wanted(SIGNATURES[number])
        rest.write(Answer("m", "1", "i", [(tensor, random.random() < 0.5) for tensor in request.inputs]))
    except MainstemError:
        pass


class Binary:
    """A header, a line end, and a body of JSON with raw tensors behind it."""

    def __init__(self) -> None:
        self._serving = Serving()

    async def check(self, given: bytes, random: Random) -> str:
        """Raise unless it is answered or refused."""
        length, _, body = given.partition(b"\n")
        decoded(body, length.decode("latin-1"), random)
        return answered(self._serving, body, [(rest.JSON_LENGTH.encode(), length)])


class Grpc:
    """The bytes of a ModelInferRequest."""

    def __init__(self) -> None:
        serving = Serving()
        self._infer = grpc_api._spoken(Rpc(serving.models, serving.batcher, deadline_s=60.0).infer)

    async def check(self, given: bytes, __: Random) -> str:
        """Raise unless it is answered or refused."""
        try:
            answer = await self._infer(given, Context())
        except Aborted as ended:
            code, _, details = str(ended).partition(" ")
            if code not in CODES:
                raise AssertionError(str(ended)) from ended
            return f"{code} {shape_of(details)}"
        pb.ModelInferResponse.FromString(answer)
        return "OK"


class Frames:
    """The same bytes on frames of our own, amid the calls of others on one connection."""

    def __init__(self) -> None:
        serving = Serving()
        self._batcher = serving.batcher
        self._door = grpc_fast.door(Rpc(serving.models, serving.batcher, deadline_s=60.0))
        self._good = _common([1, 3])

    async def check(self, given: bytes, random: Random) -> str:
        """Raise unless it is answered or refused, and the others are answered."""
        wire, connection = Wire(), self._door()
        connection.connection_made(wire)
        sent = calls.GREETING + b"".join(map(calls.asked, (1, 3, 5), (self._good, given[:_WINDOW], self._good)))
        cut = random.randint(0, len(sent))
        connection.data_received(sent[:cut])
        connection.data_received(sent[cut:])
        self._batcher.flush()
        await asyncio.sleep(0)
        found = calls.ended(wire.written)
        connection.connection_lost(None)
        status, why = found.get(3, (Status.UNKNOWN, "no answer"))
        if found.get(1) != (Status.OK, "") or found.get(5) != found[1] or status.name not in {"OK", *CODES}:
            raise AssertionError(f"the calls ended as {found}")
        return f"{status.name} {shape_of(why)}"


def tensor(shape: Sequence[int], **said: object) -> dict[str, object]:
    """Return an input as JSON has it."""
    return {"name": "features", "datatype": "FP64", "shape": shape, **said}


def _json_corpus() -> list[bytes]:
    inputs: list[list[dict[str, object]]] = [
        [tensor([1, 3], data=[1.5, None, -3])],
        [tensor([2, 3], data=[[1, 2, 3], [4, 5, 6]])],
        [tensor([0, 3], data=[])],
    ]
    inputs += [
        [{"name": "x", "datatype": datatype, "shape": [1, 2], "data": cells}]
        for datatype, cells in (("BOOL", [True, False]), ("BYTES", ["a", "é"]), ("INT8", [[1, 2]]), ("FP32", [1, 2]))
    ]
    more: dict[str, object] = {
        "id": "me",
        "parameters": {"entity": "LGA", "timeout": 5_000_000, "binary_data_output": True},
        "outputs": [{"name": "probabilities", "parameters": {"binary_data": False}}],
    }
    inputs += [[tensor(shape, data=[1] * prod(shape))] for shape in NO_SHAPES]
    return [json.dumps({"inputs": some, **said}).encode() for some in inputs for said in ({}, more)]


def _binary_corpus() -> list[bytes]:
    raw = np.arange(6.0).tobytes()
    head = json.dumps({"inputs": [tensor([2, 3], parameters={"binary_data_size": len(raw)})]}).encode()
    texts = b"\x01\x00\x00\x00a\x03\x00\x00\x00bcd"
    said = {"name": "x", "datatype": "BYTES", "shape": [1, 2], "parameters": {"binary_data_size": len(texts)}}
    other = json.dumps({"inputs": [said], "parameters": {"binary_data_output": True}}).encode()
    found = [b"%d\n%b%b" % (len(head), head, raw), b"0\n" + raw, b"%d\n%b%b" % (len(other), other, texts)]
    for shape in NO_SHAPES:
        raw = bytes(8 * prod(shape))
        head = json.dumps({"inputs": [tensor(shape, parameters={"binary_data_size": len(raw)})]}).encode()
        found.append(b"%d\n%b%b" % (len(head), head, raw))
    return found


def _grpc_corpus() -> list[bytes]:
    found = []
    for raw in (True, False):
        request = pb.ModelInferRequest(model_name=MODEL, model_version="1", id="me")
        one = request.inputs.add(name=INPUT, datatype="FP64", shape=[2, 3])
        request.parameters["entity"].string_param = "LGA"
        request.outputs.add(name="probabilities")
        if raw:
            request.raw_input_contents.append(np.arange(6.0).tobytes())
        else:
            one.contents.fp64_contents.extend(range(6))
        found.append(request.SerializeToString())
    for datatype, field, cells in (("INT8", "int_contents", [1, 2]), ("BYTES", "bytes_contents", [b"a", b"bc"])):
        request = pb.ModelInferRequest(model_name=MODEL)
        one = request.inputs.add(name=INPUT, datatype=datatype, shape=[1, 2])
        getattr(one.contents, field).extend(cells)
        found.append(request.SerializeToString())
    return [*found, *map(_common, ([2, 3], *NO_SHAPES))]


def _common(shape: Sequence[int]) -> bytes:
    """Return a message of the common form."""
    request = pb.ModelInferRequest(model_name=MODEL, raw_input_contents=[bytes(8 * prod(shape))])
    request.inputs.add(name=INPUT, datatype="FP64", shape=shape)
    content: bytes = request.SerializeToString()
    return content


def _http_corpus() -> list[bytes]:
    body = _json_corpus()[0]
    line = b"POST /v2/models/storm/infer HTTP/1.1\r\nhost: h\r\n"
    whole = b"%bcontent-length: %d\r\n\r\n%b" % (line, len(body), body)
    chunks = b"%btransfer-encoding: chunked\r\n\r\n5\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (
        *(line, body[:5]),
        *(len(body) - 5, body[5:]),
    )
    trailed = chunks[:-2] + b"inference-header-content-length: 7\r\na: b\r\n\r\n"
    get = b"GET /v2/models/storm HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"
    expects = whole.replace(b"\r\n", b"\r\nexpect: 100-continue\r\n", 1)
    return [
        whole,
        whole * 20,
        chunks,
        trailed,
        whole + trailed + chunks + get,
        expects,
        get,
        b"POST /v2/repository/index HTTP/1.1\r\nhost: h\r\n\r\n",
    ]


_HEADERS = (
    *(
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b" ",
        b":",
        b"HTTP/1.0",
        b"HTTP/1.1",
        b"connection: close\r\n",
        b"transfer-encoding: chunked\r\n",
    ),
    *(b"content-length: 5\r\n", b"content-encoding: gzip\r\n", b"upgrade: h2c\r\nconnection: upgrade\r\n"),
    *(
        b"expect: 100-continue\r\n",
        b"accept-encoding: gzip\r\n",
        b"GET ",
        b"POST ",
        b"%2F",
        b"a" * 5_000,
        b"a: b\r\n" * 50,
    ),
    *(
        b"0\r\n\r\n",
        b"0\r\na: b\r\n",
        b"ffffffffffffffff\r\n",
        b"inference-header-content-length: 0\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ),
)
_JSON = (
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b'"',
        b"[" * 2_000,
        b'"binary_data_size":',
        b'"FP16"',
        b'"BYTES"',
        b'"INT8"',
        b'"BOOL"',
    ),
    *(b'"shape":%b' % json.dumps(shape).encode() for shape in NO_SHAPES),
    *(b"\xff", b"\\ud800", b'"data":', b'"shape":', b'"timeout":', b'"entity":', b'"id":', b'"outputs":', b"\x00"),
)

_FIELDS = (b"\x0a", b"\xff\xff\xff\xff\x0f", b"FP16", b"BYTES", b"\x80")

TARGETS: dict[str, Callable[[], Target]] = {
    "http": lambda: Target(Http().check, _http_corpus(), _HEADERS),
    "json": lambda: Target(Json().check, _json_corpus(), _JSON),
    "binary": lambda: Target(
        Binary().check, _binary_corpus(), (*_JSON, b"\n", b"\x00\x00\xf0\x7f", b"\xff\xff\xff\xff")
    ),
    "grpc": lambda: Target(Grpc().check, _grpc_corpus(), _FIELDS),
    "frames": lambda: Target(Frames().check, _grpc_corpus(), _FIELDS),
}
