"""What a connection may cost, and all together: whoever is on the other side."""

import asyncio
import socket
import tracemalloc
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from errno import EMFILE
from typing import Any
from unittest import mock

import pytest
import uvloop
from libs.direct.tests.direct_connections import HOST, raw

from mainstem.direct import Call, Door, Handler, Limits, Upstream
from mainstem.direct.request import Request
from mainstem.testkit.waiting import running, until

TEXT = ((b"content-type", b"text/plain"),)
PING = b"GET /echo HTTP/1.1\r\nhost: here\r\n\r\n"
LARGE = bytes(1 << 20)


def on_both_loops(test: Callable[[], Coroutine[object, None, None]]) -> Callable[..., None]:
    """Make a test of a coroutine, on the loop of the workers and on that of Python."""

    def run(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(test())

    run.__name__ = test.__name__
    return pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])(run)


class Served:
    """Echoes, and gives what is large."""

    def __init__(self, limits: Limits) -> None:
        self.door = Door(self.route, Upstream(HOST, 9), limits)
        self.port = 0
        self.served: list[bytes] = []

    def route(self, method: bytes, path: bytes, _: object) -> Handler | None:
        return {b"/echo": self.echo, b"/large": self.large}.get(path)

    def echo(self, call: Call) -> None:
        self.served.append(call.body)
        call.answer(200, TEXT, call.body)

    def large(self, call: Call) -> None:
        call.answer(200, TEXT, LARGE)


@asynccontextmanager
async def serving(limits: Limits) -> AsyncIterator[Served]:
    served = Served(limits)
    async with asyncio.timeout(20), served.door.listening(HOST, 0) as port:
        served.port = port
        yield served


def begun(size: int) -> bytes:
    """Return a request that lacks the end of its body."""
    return b"POST /echo HTTP/1.1\r\nhost: here\r\ncontent-length: %d\r\n\r\n%b" % (size + 1, bytes(size))


@on_both_loops
async def test_a_flood_of_one_caller_leaves_room_for_the_others() -> None:
    async with serving(Limits(pipelined=8)) as served, raw(served) as (flood, one), raw(served) as (other, two):
        one.write(PING)
        await flood.readuntil(b"\r\n\r\n")
        two.write(PING)
        await other.readuntil(b"\r\n\r\n")
        one.write(PING * 1_000)
        two.write(b"POST /echo HTTP/1.1\r\nhost: here\r\ncontent-length: 2\r\n\r\nme")
        await until(lambda: len(served.served) == 1_003)
        assert served.served.index(b"me") < 500


@on_both_loops
async def test_who_sends_everything_at_once_and_ends_is_answered_in_full() -> None:
    async with serving(Limits(pipelined=8)) as served, raw(served) as (reader, writer):
        writer.write(PING * 500)
        writer.write_eof()
        assert (await reader.read()).count(b"200 OK") == 500


@on_both_loops
async def test_all_that_is_not_whole_is_counted_together_and_given_back() -> None:
    async with serving(Limits(held_bytes=100_000)) as served:
        async with raw(served) as (first, one), raw(served) as (second, two):
            one.write(begun(60_000))
            await until(lambda: served.door.held >= 60_000)
            two.write(begun(60_000))
            assert b" 503 " in await second.readline()
            one.write(b"!")
            assert b" 200 " in await first.readline()
            await until(lambda: served.door.held == 0)
            one.write(begun(60_000))
            await until(lambda: served.door.held >= 60_000)
        await until(lambda: served.door.held == 0)


@on_both_loops
async def test_headers_are_counted_too_and_those_that_never_end_are_held() -> None:
    async with serving(Limits(headers=50, held_bytes=2_000)) as served, raw(served) as (reader, writer):
        writer.write(b"GET /echo HTTP/1.1\r\n" + b"a: b\r\n" * 60)
        assert b" 431 " in await reader.readline()
        async with raw(served) as (other, endless):
            endless.write(b"GET /echo HTTP/1.1\r\n" + b"a: %b\r\n" % (b"b" * 1_000) * 3)
            assert b" 503 " in await other.readline()
        await until(lambda: served.door.held == 0)


@on_both_loops
async def test_what_comes_behind_a_refusal_is_read_slowly_so_that_nobody_waits_for_it() -> None:
    async with serving(Limits(headers=50, linger_pause_s=60)) as served, raw(served) as (reader, writer):
        writer.write(b"GET /echo HTTP/1.1\r\n" + b"a: b\r\n" * 60)
        assert b" 431 " in await reader.readline()
        (refused,) = served.door.connections
        writer.write(bytes(3 << 20))
        await until(lambda: refused._forgotten > 0)
        async with raw(served) as (other, asking):
            asking.write(PING)
            assert b" 200 " in await other.readline()
        assert refused._forgotten <= 256 << 10  # one read
    async with serving(Limits(headers=50)) as served, raw(served) as (reader, writer):
        writer.write(b"GET /echo HTTP/1.1\r\n" + b"a: b\r\n" * 500_000)
        await writer.drain()  # so whoever sends that much comes to the end, and hears why
        assert b" 431 " in await reader.readline()


CHUNKED = b"POST /echo HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n2\r\nme\r\n0\r\n"


@on_both_loops
async def test_fields_behind_a_body_are_counted_with_the_headers_and_are_none() -> None:
    said: list[object] = []
    async with serving(Limits(headers=50, header_bytes=3_000)) as served, raw(served) as (reader, writer):

        def route(_: bytes, __: bytes, headers: object) -> Handler:
            said.append(headers)
            return served.echo

        served.door.route = route
        writer.write(CHUNKED + b"inference-header-content-length: 7\r\n\r\n" + CHUNKED + b"a: b\r\n" * 48 + b"\r\n")
        assert await reader.readuntil(b"me")
        assert await reader.readuntil(b"me")
        assert said == [[(b"host", b"here"), (b"transfer-encoding", b"chunked")]] * 2
        writer.write(CHUNKED + b"a: b\r\n" * 60)
        assert b" 431 " in await reader.readline()
        async with raw(served) as (other, endless):
            endless.write(CHUNKED + b"a: %b\r\n" % (b"b" * 1_000) * 5)
            assert b" 431 " in await other.readline()
        assert len(said) == 2


@on_both_loops
async def test_who_is_refused_can_read_why_though_it_goes_on_sending() -> None:
    async with serving(Limits(body_bytes=10_000)) as served, raw(served) as (reader, writer):
        writer.write(b"POST /echo HTTP/1.1\r\nhost: here\r\ncontent-length: 1073741824\r\n\r\n")
        for _ in range(30):
            writer.write(bytes(100_000))
            await writer.drain()
        found = await reader.read()
        assert found.startswith(b"HTTP/1.1 413 ")
        assert found.count(b"HTTP/1.1") == 1
        served.door.sweep(asyncio.get_running_loop().time() + 3)
        await until(lambda: not served.door.connections)


@on_both_loops
async def test_who_does_not_fetch_its_answers_is_cut_off() -> None:
    async with serving(Limits(request_s=5)) as served, raw(served) as (_, writer):
        writer.write(b"GET /large HTTP/1.1\r\nhost: here\r\n\r\n" * 50)
        await until(lambda: served.door.connections)
        (connection,) = served.door.connections
        await until(lambda: connection._unread_since is not None)
        assert connection._reading is False
        served.door.sweep(asyncio.get_running_loop().time() + 4)
        assert served.door.connections
        served.door.sweep(asyncio.get_running_loop().time() + 6)
        await until(lambda: not served.door.connections)


@on_both_loops
async def test_who_does_not_fetch_the_last_answer_is_cut_off_too() -> None:
    async with serving(Limits(request_s=5)) as served, raw(served) as (_, writer):
        writer.write(b"GET /large HTTP/1.1\r\nhost: here\r\n\r\n" * 50)
        writer.write_eof()
        await until(lambda: served.door.connections)
        (connection,) = served.door.connections
        await until(lambda: connection._unread_since is not None)
        served.door.sweep(asyncio.get_running_loop().time() + 6)
        await until(lambda: not served.door.connections)


@on_both_loops
async def test_what_is_read_in_one_turn_of_the_loop_has_one_time() -> None:
    times: list[float] = []
    async with serving(Limits()) as served, raw(served) as (_, writer):

        def route(*_: object) -> Handler:
            return lambda call: (times.append(call.read), call.answer(200, TEXT, b""))[1]

        served.door.route = route
        writer.write(PING * 3)
        await until(lambda: len(times) == 3)
        writer.write(PING)
        await until(lambda: len(times) == 4)
        assert times[0] == times[1] == times[2] <= times[3]
        assert abs(asyncio.get_running_loop().time() - times[3]) < 5


@pytest.mark.parametrize("size", [1, 2, 100, 8_191, 8_192, 20_000, 70_000])
def test_a_body_in_many_parts_takes_the_memory_of_one(size: int) -> None:
    request, number = Request(0.0, 0), 400_000 // size
    tracemalloc.start()
    try:
        for at in range(number):
            request.add(b"%c" % (at % 251) * size)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1.3 * number * size
    assert request.body_bytes == number * size
    assert request.body == b"".join(b"%c" % (at % 251) * size for at in range(number))


BUSY, LINES, NEWCOMERS = b"POST /echo HTTP/1.1\r\nhost: here\r\ncontent-length: 4\r\n\r\nbusy", 8, 200


@on_both_loops
async def test_who_comes_while_others_are_served_all_the_time_waits_for_few_of_these() -> None:
    async with serving(Limits()) as served, AsyncExitStack() as stack:

        async def keep_busy() -> None:
            async with raw(served) as (reader, writer):
                while True:
                    writer.write(BUSY)
                    await reader.readuntil(b"busy")

        for _ in range(LINES):
            await stack.enter_async_context(running(keep_busy()))
        await until(lambda: len(served.served) > 100)
        queued = [stack.enter_context(socket.create_connection((HOST, served.port))) for _ in range(NEWCOMERS)]
        for each in queued:
            each.sendall(BUSY.replace(b"busy", b"news"))
        before = served.served.count(b"busy")
        await until(lambda: served.served.count(b"news") == NEWCOMERS)
        assert served.served.count(b"busy") - before < NEWCOMERS


@on_both_loops
async def test_who_comes_while_there_is_no_room_is_taken_when_there_is_some() -> None:
    faults, accept = [OSError(EMFILE, "too many open files")] * 2, socket.socket.accept
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    def accepting(listening: socket.socket) -> Any:
        if faults:
            raise faults.pop()
        return accept(listening)

    with mock.patch.object(socket.socket, "accept", accepting):
        async with serving(Limits()) as served, raw(served) as (reader, writer):
            writer.write(PING)
            assert b" 200 " in await reader.readline()
    assert [context["message"] for context in told] == ["a connection was not taken"] * 2
