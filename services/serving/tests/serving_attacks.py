"""What callers that mean no good do to a worker over HTTP; its model is `storm` and takes three numbers."""

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from mainstem.testkit.waiting import running

Attack = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]

MIB = 1 << 20
URL = b"/v2/models/storm/infer"
#: Connections on which nothing happens.
IDLE = 10_000


def body(rows: int, **more: object) -> bytes:
    """Return a request about so many rows."""
    tensor = {"name": "features", "datatype": "FP64", "shape": [rows, 3], "data": [1.0, 2.0, 3.0] * rows}
    return json.dumps({"inputs": [tensor], **more}).encode()


def post(content: bytes, *headers: bytes) -> bytes:
    """Return a request of HTTP."""
    lines = [b"POST " + URL + b" HTTP/1.1", b"host: h", b"content-length: %d" % len(content), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + content


async def repeated(attack: Attack, connect: Connect) -> None:
    """Do the same again and again, each time on a connection of its own."""
    while True:
        with suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await connect()
            try:
                await attack(reader, writer)
            finally:
                writer.close()
        await asyncio.sleep(0.01)


@asynccontextmanager
async def attacked(connect: Connect, attack: Attack, callers: int) -> AsyncIterator[None]:
    """Have so many callers do the same again and again; what they find wrong ends it at the end of the block."""
    async with AsyncExitStack() as stack:
        for _ in range(callers):
            await stack.enter_async_context(running(repeated(attack, connect)))
        yield


async def slow_loris(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for byte in (b"%c" % byte for byte in b"POST " + URL + b" HTTP/1.1\r\nx-slow: " + b"y" * 10_000):
        writer.write(byte)
        await asyncio.sleep(0.1)


async def half_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(post(body(1))[:-5])
    writer.write_eof()
    assert await reader.read() == b""


async def poured(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, content: bytes) -> bytes:
    """Send piece by piece what may be too much, and return the first line that is said to it.

    A piece is small, so that callers that share a core with this one have it in between.
    """

    async def pour() -> None:
        for at in range(0, len(content), 1 << 16):
            writer.write(content[at : at + (1 << 16)])
            await writer.drain()

    pouring = asyncio.create_task(pour())
    try:
        line = await reader.readline()
        await asyncio.wait([pouring], timeout=0.5)  # as one does who does not listen
        return line
    finally:
        pouring.cancel()
        await asyncio.wait([pouring])


async def endless_headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    content = b"GET / HTTP/1.1\r\nhost: h\r\n" + b"a: %b\r\n" % (b"b" * 1_000) * 10_000
    assert b" 431 " in await poured(reader, writer, content)


async def endless_header(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    assert b" 431 " in await poured(reader, writer, b"GET / HTTP/1.1\r\nhost: h\r\na: " + b"b" * 10_000_000)


async def endless_trailers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = b"POST " + URL + b" HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n%b\r\n0\r\n" % (len(body(1)), body(1))
    assert b" 431 " in await poured(reader, writer, head + chunk + b"a: %b\r\n" % (b"b" * 1_000) * 10_000)


async def declared_gigabyte(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"POST " + URL + b" HTTP/1.1\r\nhost: h\r\ncontent-length: 1073741824\r\n\r\n" + bytes(MIB))
    assert b" 413 " in await reader.readline()


async def chunked_gigabyte(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"POST " + URL + b" HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n")
    for _ in range(1_024):
        writer.write(b"100000\r\n" + bytes(MIB) + b"\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


BOMB = post(zlib.compress(b" " * (15 * MIB), 9), b"content-encoding: deflate")


async def bomb(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(BOMB)
    assert b" 413 " in await reader.readline()
    await asyncio.sleep(0.2)


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for _ in range(100):
        writer.write(post(body(1)) * 1_000)
        async with asyncio.timeout(0.5):
            await writer.drain()  # nobody reads the answers


ZEROS = b'{"inputs":[{"name":"features","datatype":"FP64","shape":[1800000,3],"data":[%b0]}]}' % (b"0," * 5_399_999)
PACKED_ZEROS = post(zlib.compress(ZEROS, 9), b"content-encoding: deflate")
TOO_MANY = post(body(5_000))


async def too_many_values(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(PACKED_ZEROS)
    assert b" 413 " in await reader.readline()


async def too_many_rows(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(TOO_MANY)
    assert b" 413 " in await reader.readline()


#: By name what a caller does, and how many do so at once.
ATTACKS: dict[str, tuple[Attack, int]] = {
    "slow loris": (slow_loris, 500),
    "half closed": (half_closed, 20),
    "10 MB of headers": (endless_headers, 4),
    "a header of 10 MB": (endless_header, 4),
    "10 MB of trailers": (endless_trailers, 4),
    "1 GB that is announced": (declared_gigabyte, 4),
    "1 GB in chunks": (chunked_gigabyte, 4),
    "bombs": (bomb, 2),
    "floods": (flood, 4),
    "10 MB of values, packed": (too_many_values, 2),
    "5,000 rows": (too_many_rows, 4),
}
