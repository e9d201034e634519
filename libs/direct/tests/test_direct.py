"""A door for the few fast paths: what clients of all kinds get, and what a connection may cost."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from itertools import pairwise

import httpx
import pytest
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from libs.direct.tests.direct_connections import HOST, raw
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from typing_extensions import override

from mainstem.direct import Call, Door, Handler, Head, Limits, Upstream, upstream
from mainstem.testkit.waiting import until

TEXT = ((b"content-type", b"text/plain"),)


class Served:
    """Echoes at `/echo`, answers `/later` when it is told to; everything else is the application's."""

    def __init__(self, limits: Limits) -> None:
        self.later: list[Call] = []
        self.app = Starlette(routes=[Route("/cold", self.cold, methods=["GET", "POST"]), Route("/long", self.long)])
        self.door = Door(self.route, Upstream(HOST, 9), limits)
        self.port = 0

    def route(self, method: bytes, path: bytes, _: object) -> Handler | None:
        hot: dict[tuple[bytes, bytes], Handler] = {
            (b"POST", b"/echo"): self.echo,
            (b"GET", b"/later"): self.later.append,
            (b"POST", b"/fail"): self.fail,
        }
        return hot[b"POST", b"/gone"] if path == b"/unroutable" else hot.get((method, path))

    def fail(self, call: Call) -> None:
        raise ArithmeticError(f"nobody thought of {call.body!r}")

    def echo(self, call: Call) -> None:
        call.answer(200, TEXT, call.body)

    async def cold(self, request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"{request.method} {request.url.query} {(await request.body()).decode()}")

    async def long(self, _: Request) -> PlainTextResponse:
        return PlainTextResponse("0123456789" * 400_000)


@pytest.fixture
def limits() -> Limits:
    return Limits(header_bytes=2_000, body_bytes=10_000, request_s=0.2, idle_s=0.4, connections=5)


@pytest.fixture
async def served(limits: Limits) -> AsyncIterator[Served]:
    served = Served(limits)
    rest = uvicorn.Server(uvicorn.Config(served.app, host=HOST, port=0, log_config=None, lifespan="off"))
    running = asyncio.create_task(rest.serve())
    await until(lambda: rest.started)
    served.door.upstream = Upstream(HOST, rest.servers[0].sockets[0].getsockname()[1])
    server = await asyncio.get_running_loop().create_server(served.door, HOST, 0)
    served.port = server.sockets[0].getsockname()[1]
    yield served
    server.close()
    await served.door.drain()
    rest.should_exit = True
    await running


@pytest.fixture
async def client(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://{HOST}:{served.port}") as client:
        yield client


async def spoken(served: Served, *parts: bytes) -> bytes:
    """Send bytes and return all that comes back until the other side closes."""
    async with raw(served) as (reader, writer):
        for part in parts:
            writer.write(part)
            await writer.drain()
        async with asyncio.timeout(5):
            return await reader.read()


def post(body: bytes, *headers: bytes, path: bytes = b"/echo") -> bytes:
    lines = [b"POST %b HTTP/1.1" % path, b"host: here", b"content-length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


async def test_fast_paths_and_the_others_are_answered_on_one_port(client: httpx.AsyncClient) -> None:
    for number in range(3):
        assert (await client.post("/echo", content=f"n{number}")).text == f"n{number}"
        assert (await client.post("/cold?a=1", content=f"n{number}")).text == f"POST a=1 n{number}"
        assert (await client.get("/echo")).status_code == 404
    assert (await client.get("/cold")).text == "GET  "


async def test_a_body_in_chunks_is_one_body_on_either_path(client: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for part in (b"a", b"bc", b"", b"d"):
            yield part

    assert (await client.post("/echo", content=chunks())).text == "abcd"
    assert (await client.post("/cold", content=chunks())).text == "POST  abcd"


async def test_a_long_answer_comes_whole_to_who_reads_slowly(served: Served) -> None:
    async with raw(served) as (reader, writer):
        writer.write(b"GET /long HTTP/1.1\r\nhost: here\r\n\r\n")
        found = b""
        async with asyncio.timeout(20):
            while part := await reader.read(100_000):
                found += part
                await asyncio.sleep(0)
    assert found.endswith(b"0123456789" * 400_000)


async def test_the_fast_paths_are_answered_when_the_others_are_away(served: Served) -> None:
    served.door.upstream = Upstream(HOST, 9)
    assert (await spoken(served, b"GET /cold HTTP/1.1\r\nhost: h\r\n\r\n")).startswith(b"HTTP/1.1 503 ")
    assert (await spoken(served, post(b"here", b"connection: close"))).endswith(b"here")


async def test_who_asks_for_a_page_with_ways_of_its_own_gets_it_however_many_wait_for_others(served: Served) -> None:
    held: list[asyncio.StreamWriter] = []

    async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readline()
        if b"slow" in asked:
            held.append(writer)
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nready")
            writer.close()

    async with await asyncio.start_server(page, HOST, 0) as rest, AsyncExitStack() as stack:
        served.door.upstream = Upstream(HOST, rest.sockets[0].getsockname()[1], [b"/readyz"])
        for number in range(256):
            _, writer = await stack.enter_async_context(raw(served))
            writer.write(b"GET /slow HTTP/1.1\r\nhost: here\r\n\r\n")
            await until(lambda many=number: len(held) > many)
        for path, status in ((b"/page", b"503"), (b"/readyz", b"200"), (b"/readyz?verbose", b"200")):
            assert (await spoken(served, b"GET %b HTTP/1.1\r\nhost: h\r\n\r\n" % path)).split()[1] == status
        for number in range(16):
            _, writer = await stack.enter_async_context(raw(served))
            writer.write(b"GET /readyz?slow HTTP/1.1\r\nhost: here\r\n\r\n")
            await until(lambda many=number: len(held) > 256 + many)
        assert (await spoken(served, b"GET /readyz HTTP/1.1\r\nhost: h\r\n\r\n")).startswith(b"HTTP/1.1 503 ")
        for writer in held:
            writer.close()
        await until(lambda: not served.door.upstream.busy)
        for _ in range(300):  # as many ways are free as before
            assert (await spoken(served, b"GET /page HTTP/1.1\r\nhost: h\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_who_leaves_before_the_answer_leaves_nothing_behind(served: Served) -> None:
    async with raw(served) as (reader, writer):
        writer.write(b"GET /long HTTP/1.1\r\nhost: here\r\n\r\n")
        assert await reader.read(10)
    await until(lambda: not served.door.upstream.busy)


async def test_who_does_not_fetch_the_end_of_an_answer_is_left(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "_LONGEST_S", 0.2)
    monkeypatch.setattr(upstream, "_LINGER_S", 0.2)
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect((HOST, served.port))
        slow.sendall(b"GET /long HTTP/1.1\r\nhost: here\r\n\r\n")
        await until(lambda: served.door.upstream.busy)
        await until(lambda: not served.door.upstream.busy)
        got = b"".join(iter(lambda: slow.recv(1 << 20), b""))
    assert len(got) < 4_000_000


async def test_answers_leave_in_the_order_of_the_requests(served: Served) -> None:
    later = b"GET /later HTTP/1.1\r\nhost: here\r\n\r\n"
    async with raw(served) as (reader, writer):
        writer.write(later + post(b"second") + later + post(b"fourth"))
        await until(lambda: len(served.later) == 2)
        served.later[1].answer(200, TEXT, b"third")
        served.later[0].answer(200, TEXT, b"first")
        async with asyncio.timeout(5):
            found = await reader.readuntil(b"fourth")
    assert [found.index(word) for word in (b"first", b"second", b"third", b"fourth")] == sorted(
        found.index(word) for word in (b"first", b"second", b"third", b"fourth")
    )


#: Heads that come again, with some that are read step by step or end the connection.
HEADS = st.sampled_from([(), (b"a: 1",), (b"a: 2",), (b"Expect: 100-continue",), (b"connection: close",)])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    asked=st.lists(st.tuples(st.binary(max_size=30), HEADS), min_size=1, max_size=8),
    cuts=st.lists(st.integers(0, 900), max_size=6),
)
async def test_a_head_that_is_known_says_what_it_said_when_it_was_read(
    served: Served, asked: list[tuple[bytes, tuple[bytes, ...]]], cuts: list[int]
) -> None:
    content = b"".join(post(body, *headers) for body, headers in asked)
    parts = [content[begin:end] for begin, end in pairwise(sorted({0, *cuts, len(content)})) if begin < len(content)]
    last = post(b"", b"connection: close")
    known = await spoken(served, *parts, last)
    served.door.heads.clear()
    assert await spoken(served, content + last) == known


async def test_a_head_that_came_whole_is_known_and_one_that_is_read_step_by_step_is_not(served: Served) -> None:
    async with raw(served) as (reader, writer):
        for asked in (post(b"<a>"), post(b"<b>"), post(b"<cd>", b"Expect: 100-continue"), post(b"<e>", b"a: b")):
            writer.write(asked)
            async with asyncio.timeout(5):
                await reader.readuntil(b">")
    assert [head.length for head in served.door.heads.values()] == [3, 3]


@pytest.mark.parametrize(
    "odd",
    [
        b"\r\n\r\n" + post(b"<one>"),
        b"\r\n" + post(b"<one>"),
        b"POST /echo HTTP/1.1\nhost: h\ncontent-length: 9\n\n<\r\n\r\none>",
        b"POST /echo HTTP/1.1\r\nhost: h\r\ncontent-length: 9\n\r\n<\r\n\r\none>",
        b"POST /echo HTTP/1.1\r\nhost: h\r\na: b\r\n c\r\ncontent-length: 5\r\n\r\n<one>",
    ],
)
async def test_what_is_not_the_whole_head_is_not_remembered_as_one(served: Served, odd: bytes) -> None:
    await spoken(served, odd + post(b"", b"connection: close"))
    assert not served.door.heads


async def test_no_more_heads_are_known_than_there_is_room_for(served: Served) -> None:
    for number in range(1_500):
        served.door.remember(b"%d" % number, Head(served.echo, keep_alive=True, length=0))
    assert len(served.door.heads) == 500


@pytest.mark.parametrize("known", [False, True])
async def test_nothing_is_taken_behind_a_request_that_ends_the_connection(served: Served, known: bool) -> None:
    last = b"GET /later HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n"
    if known:
        served.door.remember(last, Head(served.later.append, keep_alive=False, length=0))
    async with raw(served) as (reader, writer):
        writer.write(last * 3)
        await until(lambda: served.later)
        served.later[0].answer(200, TEXT, b"one")
        async with asyncio.timeout(5):
            found = await reader.read()
    assert (found.count(b"HTTP/1.1 "), found[-3:], len(served.later)) == (1, b"one", 1)


@pytest.fixture
async def raised() -> list[BaseException]:
    """Return what the loop is told of."""
    found: list[BaseException] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: found.append(told["exception"]))
    return found


@pytest.mark.parametrize("known", [False, True])
async def test_a_handler_that_fails_fails_its_call_alone(
    served: Served, raised: list[BaseException], known: bool
) -> None:
    asked = [post(b"%02d" % number, path=b"/fail" if number % 2 else b"/echo") for number in range(64)]
    if known:
        await spoken(served, asked[0], asked[1], post(b"", b"connection: close"))
    raised.clear()
    found = await spoken(served, b"".join(asked), post(b"last", b"connection: close"))
    lines = re.findall(rb"HTTP/1\.1 (\d+) ", found)
    assert lines == [b"200", b"500"] * 32 + [b"200"]
    assert found.endswith(b"last")
    assert found.count(b"the server's; its log says which") == 32
    assert [str(fault) for fault in raised] == [f"nobody thought of {b'%02d' % at!r}" for at in range(1, 64, 2)]


async def test_a_route_that_fails_is_told_and_ends_the_connection(served: Served, raised: list[BaseException]) -> None:
    found = await spoken(served, post(b"first"), post(b"x", path=b"/unroutable"), post(b"never"))
    assert re.findall(rb"HTTP/1\.1 (\d+) ", found) == [b"200", b"500"]
    assert [type(fault.__context__) for fault in raised] == [KeyError]


async def test_a_slow_path_waits_for_the_fast_ones_before_it(served: Served) -> None:
    async with raw(served) as (reader, writer):
        writer.write(b"GET /later HTTP/1.1\r\nhost: here\r\n\r\nGET /cold HTTP/1.1\r\nhost: here\r\n\r\n")
        await until(lambda: len(served.later) == 1)
        served.later[0].answer(200, TEXT, b"first")
        async with asyncio.timeout(5):
            found = await reader.read()
    assert found.index(b"first") < found.index(b"GET  ")


@pytest.mark.parametrize("size", [1, 7, 50])
async def test_a_request_may_come_in_pieces(served: Served, size: int) -> None:
    whole = post(b"in pieces", b"connection: close")
    found = await spoken(served, *(whole[at : at + size] for at in range(0, len(whole), size)))
    assert found.endswith(b"\r\n\r\nin pieces")
    assert b"connection: close" in found


@pytest.mark.parametrize("length", [b"content-length: 10001", b"transfer-encoding: chunked\r\n" + b"a: b\r\n" * 128])
async def test_who_asks_is_not_told_to_go_on_with_what_is_refused(served: Served, length: bytes) -> None:
    found = await spoken(served, b"POST /echo HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\n%b\r\n\r\n" % length)
    assert re.findall(rb"HTTP/1\.1 (\d+) ", found) in ([b"413"], [b"431"])


async def test_who_asks_to_be_told_is_told_behind_the_answers_before(served: Served) -> None:
    asked = b"POST /echo HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
    async with raw(served) as (reader, writer), asyncio.timeout(5):
        writer.write(b"GET /later HTTP/1.1\r\nhost: here\r\n\r\n" + asked)
        await until(lambda: served.later and next(iter(served.door.connections))._request is not None)
        served.later[0].answer(200, TEXT, b"before")
        assert (await reader.readuntil(b"before")).startswith(b"HTTP/1.1 200 ")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"ab")
        assert (await reader.readuntil(b"ab")).startswith(b"HTTP/1.1 200 ")


async def test_who_asks_to_be_told_is_told_to_go_on(served: Served) -> None:
    async with raw(served) as (reader, writer):
        writer.write(b"POST /echo HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        async with asyncio.timeout(5):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"ok")
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 OK")


async def test_the_end_of_the_other_side_does_not_lose_an_answer(served: Served) -> None:
    async with raw(served) as (reader, writer):
        writer.write(b"GET /later HTTP/1.1\r\nhost: here\r\n\r\n")
        writer.write_eof()
        await until(lambda: len(served.later) == 1)
        served.later[0].answer(200, TEXT, b"late")
        async with asyncio.timeout(5):
            assert (await reader.read()).endswith(b"late")


async def test_an_answer_to_who_is_gone_is_dropped(served: Served) -> None:
    async with raw(served) as (_, writer):
        writer.write(b"GET /later HTTP/1.1\r\nhost: here\r\n\r\n")
        await until(lambda: len(served.later) == 1)
    served.later[0].answer(200, TEXT, b"nobody")
    await until(lambda: not served.door.connections)


async def test_stopping_answers_what_was_taken(served: Served) -> None:
    async with raw(served) as (reader, writer), raw(served) as (idle, _):
        writer.write(b"GET /later HTTP/1.1\r\nhost: here\r\n\r\n")
        await until(lambda: len(served.later) == 1)
        stopping = asyncio.create_task(served.door.drain(5))
        async with asyncio.timeout(5):
            assert await idle.read() == b""
            served.later[0].answer(200, TEXT, b"taken")
            assert (await reader.read()).endswith(b"taken")
            await stopping


REFUSED: dict[str, tuple[bytes, int]] = {
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00", 400),
    "a header without a name": (b"GET / HTTP/1.1\r\n: x\r\n\r\n", 400),
    "two lengths": (b"POST /echo HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", 400),
    "a length and chunks": (b"POST /echo HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400),
    "a negative length": (b"POST /echo HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400),
    "a chunk of no size": (b"POST /echo HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400),
    "headers without end": (b"GET /echo HTTP/1.1\r\n" + b"a: %b\r\n" % (b"b" * 100) * 30, 431),
    "an address without end": (b"GET /" + b"a" * 3_000, 431),
    "a header whose name has no end": (b"GET /echo HTTP/1.1\r\n" + b"a" * 60_000, 431),
    "a header that has no end": (b"GET /echo HTTP/1.1\r\na: " + b"b" * 60_000, 431),
    "a field behind the body that has no end": (
        b"POST /echo HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n2\r\nme\r\n0\r\na: " + b"b" * 60_000,
        431,
    ),
    "a word about a chunk that has no end": (
        b"POST /echo HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n2;a=" + b"b" * 60_000,
        431,
    ),
    "a large body": (b"POST /echo HTTP/1.1\r\nhost: h\r\ncontent-length: 10001\r\n\r\n", 413),
    "a large body in chunks": (
        b"POST /echo HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n" + b"1000\r\n%b\r\n" % bytes(4096) * 3,
        413,
    ),
}


@pytest.mark.parametrize("kind", sorted(REFUSED))
async def test_what_is_no_request_is_refused_and_the_connection_closed(served: Served, kind: str) -> None:
    sent, status = REFUSED[kind]
    found = await spoken(served, sent)
    assert found.startswith(b"HTTP/1.1 %d " % status), found
    assert b"connection: close" in found
    assert b'{"error":"' in found


async def test_who_is_slow_is_told_and_closed_and_who_is_idle_is_closed(served: Served, limits: Limits) -> None:
    loop = asyncio.get_running_loop()
    async with raw(served) as (slow, writer), raw(served) as (idle, _):
        writer.write(b"POST /echo HTTP/1.1\r\nconte")
        await until(
            lambda: [each.busy for each in served.door.connections].count(True) == 1 < len(served.door.connections)
        )
        served.door.sweep(loop.time())
        assert len(served.door.connections) == 2
        served.door.sweep(loop.time() + limits.request_s + limits.idle_s)
        async with asyncio.timeout(5):
            assert (await slow.read()).startswith(b"HTTP/1.1 408 ")
            assert await idle.read() == b""


async def test_connections_beyond_the_most_are_told_to_come_later(served: Served, limits: Limits) -> None:
    opened = [await asyncio.open_connection(HOST, served.port) for _ in range(limits.connections)]
    await until(lambda: len(served.door.connections) == limits.connections)
    assert (await spoken(served, b"")).startswith(b"HTTP/1.1 503 ")
    for _, writer in opened:
        writer.close()
    await until(lambda: not served.door.connections)
    assert (await spoken(served, post(b"again", b"connection: close"))).endswith(b"again")


async def test_many_requests_at_once_keep_the_memory_of_a_connection_bounded(served: Served) -> None:
    later = b"GET /later HTTP/1.1\r\nhost: here\r\n\r\n"
    async with raw(served) as (reader, writer):
        writer.write(later * 3_000)
        await until(lambda: len(served.later) >= 64)
        taken: Callable[[], int] = lambda: len(served.later)  # noqa: E731
        answered = 0
        async with asyncio.timeout(10):
            while answered < 3_000:
                for call in served.later[answered : taken()]:
                    call.answer(200, TEXT, b"x")
                answered = taken()
                await asyncio.sleep(0)
            found = b""
            while found.count(b"HTTP/1.1 200 OK") < 3_000:
                found += await reader.read(1 << 20)


class Wire(asyncio.Transport):
    """Takes what a connection writes."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    @override
    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    @override
    def close(self) -> None:
        self.closed = True

    @override
    def abort(self) -> None:
        self.closed = True

    @override
    def write_eof(self) -> None:
        """Do nothing."""

    @override
    def is_closing(self) -> bool:
        return self.closed

    @override
    def pause_reading(self) -> None:
        """Do nothing."""

    @override
    def resume_reading(self) -> None:
        """Do nothing."""

    @override
    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.closed = True  # what the application does with it is not asked here


WHOLE = post(b"0123456789", b"connection: keep-alive", b"expect: 100-continue") * 2


@settings(max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0, len(WHOLE)), st.binary(max_size=4), st.integers(0, 4)), max_size=4),
    cuts=st.lists(st.integers(0, len(WHOLE)), max_size=5),
)
async def test_whatever_comes_is_answered_or_refused(
    served: Served, changes: list[tuple[int, bytes, int]], cuts: list[int]
) -> None:
    data = WHOLE
    for at, put_in, left_out in changes:
        data = data[:at] + put_in + data[at + left_out :]
    connection, wire = served.door(), Wire()
    connection.connection_made(wire)
    for begin, end in pairwise(sorted({0, *cuts, len(data)})):
        connection.data_received(data[begin:end])
    for _ in range(10):
        await asyncio.sleep(0)  # what is not for this turn of the loop is for the next

    def over() -> bool:
        connection.check(asyncio.get_running_loop().time() + 1_000)
        return wire.closed

    await until(over)  # on a busy machine it takes more turns
    lines = re.findall(rb"^HTTP/1\.1 (\d+) ", wire.written, re.MULTILINE)
    application = {404, 405}  # its words for what it does not have
    assert {int(status) for status in lines} <= {100, 200, 400, 408, 413, 431, 501, 503} | application
    connection.connection_lost(None)
