"""What the head of a request decides: the wish for another protocol, addresses, HEAD, and what is served to nobody."""

import asyncio
import re
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from libs.direct.tests.conftest import Wire
from libs.direct.tests.direct_connections import HOST, raw
from typing_extensions import override

from mainstem.direct import Call, Door, Handler, Limits, Upstream

TEXT = ((b"content-type", b"text/plain"),)
LIMITS = Limits(header_bytes=2_000, body_bytes=10_000)
#: As the client of Java asks.
WISH = (
    b"Connection: Upgrade, HTTP2-Settings",
    b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
    b"Upgrade: h2c",
)
LAST = b"GET /page HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n"


class Elsewhere(Upstream):
    """Gives back what it is asked."""

    @override
    def answer(self, client: asyncio.Transport, request: bytes) -> None:
        client.write(request)
        client.close()


class Served:
    """Echoes at `/echo`, has a page, and a failure; everything else is elsewhere."""

    def __init__(self) -> None:
        self.door = Door(self.route, Elsewhere(HOST, 9), LIMITS)
        self.port = 0
        self.bodies: list[bytes] = []

    def route(self, method: bytes, path: bytes, _: object) -> Handler | None:
        found: dict[bytes, Handler] = {
            b"/echo": self.echo,
            b"/page": self.page,
            b"/busy": self.busy,
            b"/fail": self.fail,
        }
        return found.get(path) if method in {b"GET", b"HEAD", b"POST"} else None

    def echo(self, call: Call) -> None:
        self.bodies.append(call.body)
        call.answer(200, TEXT, b"<%b>" % call.body)

    def page(self, call: Call) -> None:
        call.answer(200, TEXT, b"a page")

    def busy(self, call: Call) -> None:
        call.answer(503, TEXT, b"busy")

    def fail(self, _: Call) -> None:
        raise ArithmeticError("nobody thought of this")


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = Served()
    async with served.door.listening(HOST, 0) as served.port:
        yield served


async def spoken(served: Served, *parts: bytes) -> bytes:
    """Send bytes, each part as a piece of its own, and return all that comes back until the other side closes."""
    async with raw(served) as (reader, writer), asyncio.timeout(5):
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        return await reader.read()


async def told(served: Served, *parts: bytes) -> bytes:
    """Return what is written when these bytes come, each part by itself."""
    connection, wire = served.door(), Wire()
    connection.connection_made(wire)
    for part in parts:
        connection.data_received(part)
        await asyncio.sleep(0)
    connection.connection_lost(None)
    return bytes(wire.written)


def post(body: bytes, *headers: bytes, path: bytes = b"/echo") -> bytes:
    lines = [b"POST %b HTTP/1.1" % path, b"host: here", b"content-length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def statuses(found: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", found)]


# -- another protocol --


async def test_a_wish_for_another_protocol_is_passed_over_and_the_request_served(served: Served) -> None:
    found = await spoken(served, post(b"one", *WISH) + post(b"two", *WISH) + post(b"three") + LAST)
    assert re.findall(rb"<(.*?)>|a page", found) == [b"one", b"two", b"three", b""]
    assert statuses(found) == [200] * 4


@pytest.mark.parametrize("size", [1, 7, 100])
async def test_such_a_request_may_come_in_pieces(served: Served, size: int) -> None:
    whole = post(b"one", *WISH) + post(b"two", *WISH) + LAST
    found = await spoken(served, *(whole[at : at + size] for at in range(0, len(whole), size)))
    assert (statuses(found), served.bodies) == ([200] * 3, [b"one", b"two"])


async def test_such_a_body_may_be_long_come_in_chunks_or_wait_to_be_asked_for(served: Served) -> None:
    chunks = b"POST /echo HTTP/1.1\r\nhost: h\r\n%b\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    long, asks = bytes(9_999), post(b"me", *WISH, b"expect: 100-continue")
    found = await spoken(served, post(long, *WISH) + chunks % b"\r\n".join(WISH) + asks + LAST)
    assert (statuses(found), served.bodies) == ([200, 200, 100, 200, 200], [long, b"abc", b"me"])


async def test_such_a_head_is_known_when_it_comes_again(served: Served) -> None:
    for _ in range(2):
        await spoken(served, post(b"one", *WISH) + LAST)
    assert [head.length for head in served.door.heads.values()] == [3, 0]
    assert served.bodies == [b"one", b"one"]


async def test_who_answers_elsewhere_is_not_asked_for_another_protocol(served: Served) -> None:
    found = await spoken(served, post(b"body", *WISH, path=b"/elsewhere"))
    assert found.startswith(b"POST /elsewhere HTTP/1.1\r\nhost: here\r\n")
    assert found.endswith(b"\r\nconnection: close\r\ncontent-length: 4\r\n\r\nbody")
    assert b"upgrade" not in found.lower()


async def test_a_wish_takes_away_no_limit(served: Served) -> None:
    for sent, status in (
        (post(bytes(10_001), *WISH), 413),
        (post(b"", *WISH, b"a: " + b"b" * 2_000), 431),
        (post(b"x", *WISH, b"content-length: 2"), 400),
        (post(b"x", *WISH, b"transfer-encoding: chunked"), 400),
    ):
        assert statuses(await spoken(served, sent)) == [status]
    assert not served.bodies


FIELDS = st.sampled_from(
    [
        *(b"a: b", b"a:", b"a: b  ", b"A: \xff", b"connection: close", b"connection: keep-alive", b"host: two"),
        *(b"expect: 100-continue", b"content-length: 3", b"content-length: 03", b"content-length: 3 ", b"a: b\r\n c"),
        *(b"transfer-encoding: chunked", b"transfer-encoding: gzip, chunked", b"Transfer-Encoding : chunked"),
        *(b"x-upgrade: h2c", b"upgrade-insecure-requests: 1", b"proxy-connection: upgrade", b"a: Upgrade: h2c"),
    ]
)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    line=st.sampled_from([b"POST /echo HTTP/1.1", b"POST /echo?a HTTP/1.0", b"POST http://h/echo HTTP/1.1"]),
    fields=st.lists(FIELDS, max_size=4),
    at=st.integers(0, 4),
    cuts=st.lists(st.integers(0, 400), max_size=4),
)
async def test_nothing_but_the_wish_changes_its_meaning(
    served: Served, line: bytes, fields: list[bytes], at: int, cuts: list[int]
) -> None:
    def request(wish: bytes) -> bytes:
        lines = [line, b"host: here", b"connection: upgrade", *fields[:at], wish, *fields[at:]]
        return b"\r\n".join(lines) + b"\r\n\r\n" + b"3\r\nabc\r\n0\r\n\r\n" + LAST

    plain = await told(served, request(b"wish: h2c"))
    wished = request(b"UPGRADE: h2c")
    pieces = [wished[begin:end] for begin, end in pairwise(sorted({0, *cuts, len(wished)})) if begin < len(wished)]
    assert await told(served, *pieces) == plain
    assert not served.door.held


# -- addresses --


@pytest.mark.parametrize(
    "address", [b"http://h/echo", b"HTTP://h:80/echo?a=/b", b"https://u@[::1]:8/echo", b"/echo?a=http://b/c"]
)
async def test_an_address_with_a_host_is_served_as_the_one_without(served: Served, address: bytes) -> None:
    found = await spoken(served, post(b"one", path=address) + post(b"two", path=address) + LAST)
    assert (statuses(found), served.bodies) == ([200] * 3, [b"one", b"two"])


@pytest.mark.parametrize(
    ("address", "path", "host"),
    [
        (b"http://there:81/a?b=c", b"/a?b=c", b"there:81"),
        (b"http://there", b"/", b"there"),
        (b"http://there?b", b"/?b", b"there"),
        (b"/a?b=http://there/", b"/a?b=http://there/", b"here"),
    ],
)
async def test_who_answers_elsewhere_is_asked_for_the_path_and_told_the_host_of_the_address(
    served: Served, address: bytes, path: bytes, host: bytes
) -> None:
    found = await spoken(served, post(b"", path=address))
    assert found.startswith(b"POST %b HTTP/1.1\r\nhost: %b\r\n" % (path, host))


async def test_what_is_asked_of_the_server_as_a_whole_is_answered_and_the_connection_kept(served: Served) -> None:
    found = await spoken(served, b"OPTIONS * HTTP/1.1\r\nhost: h\r\n\r\n" + LAST)
    assert statuses(found) == [405, 200]
    assert b"\r\nallow: \r\n" in found
    assert b'\r\n\r\n{"error":"' in found


# -- HEAD --


@pytest.mark.parametrize("path", [b"/page", b"/busy"])
async def test_head_gives_what_get_gives_without_the_body(served: Served, path: bytes) -> None:
    get = await spoken(served, b"GET %b HTTP/1.1\r\nhost: h\r\n\r\n" % path + LAST)
    bodiless = b"HEAD %b HTTP/1.1\r\nhost: h\r\n\r\n" % path
    found = await spoken(served, bodiless, bodiless + LAST)
    head, _, rest = get.partition(b"\r\n\r\n")
    assert found == (head + b"\r\n\r\n") * 2 + rest[rest.index(b"HTTP/1.1") :]


async def test_a_failure_has_no_body_either_where_only_the_head_is_asked_for(served: Served) -> None:
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: told.append(about["exception"]))
    found = await spoken(served, b"HEAD /fail HTTP/1.1\r\nhost: h\r\n\r\n" + LAST)
    assert (statuses(found), found.count(b"{"), len(told)) == ([500, 200], 0, 1)


# -- what is served to nobody --

GET, POST = b"GET /page HTTP/1.1\r\n", b"POST /echo HTTP/1.1\r\n"
REFUSED = {
    "no host": (GET + b"\r\n", 400),
    "two hosts": (GET + b"host: a\r\nhost: a\r\n\r\n", 400),
    "no host, but one in the address": (b"GET http://h/page HTTP/1.1\r\n\r\n", 400),
    "a tunnel": (b"CONNECT h:80 HTTP/1.1\r\nhost: h\r\n\r\nbytes", 501),
    "a packed transfer": (POST + b"host: h\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "a packed transfer in two lines": (
        POST + b"host: h\r\ntransfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        501,
    ),
}


@pytest.mark.parametrize("kind", sorted(REFUSED))
@pytest.mark.parametrize("wish", [b"", b"\r\n".join(WISH) + b"\r\n"])
async def test_a_head_that_is_for_nobody_is_refused_once_and_the_connection_closed(
    served: Served, kind: str, wish: bytes
) -> None:
    sent, status = REFUSED[kind]
    line, _, rest = sent.partition(b"\r\n")
    found = await spoken(served, line + b"\r\n" + wish + rest + LAST)
    assert statuses(found) == [status]
    assert b"connection: close" in found
    assert b'{"error":"' in found
    assert not served.bodies


async def test_old_requests_need_no_host(served: Served) -> None:
    assert statuses(await spoken(served, b"GET /page HTTP/1.0\r\n\r\n")) == [200]


@pytest.mark.parametrize("coding", [b"chunked", b"Chunked", b"chunked "])
async def test_a_body_in_chunks_is_taken(served: Served, coding: bytes) -> None:
    head = POST + b"host: h\r\ntransfer-encoding: %b\r\n\r\n" % coding
    found = await spoken(served, head + b"2\r\nab\r\n0\r\n\r\n" + LAST)
    assert (statuses(found), served.bodies) == ([200, 200], [b"ab"])
