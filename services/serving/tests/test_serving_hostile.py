"""Callers that mean no good, at a real worker: it stays as large as it is, and who means well is answered meanwhile."""

import asyncio
import json
import resource
import sys
import zlib
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest
from services.serving.tests.serving_settings import alone

from mainstem.serving.crew import Crew, posts
from mainstem.testkit.waiting import running, until

pytestmark = [pytest.mark.fault, pytest.mark.alone]

HOST = "127.0.0.1"
HAMMER = Path(__file__).parents[3] / "tools" / "hammer.py"
MIB = 1 << 20
URL = b"/v2/models/storm/infer"
IDLE = 10_000


def body(rows, **more):
    tensor = {"name": "features", "datatype": "FP64", "shape": [rows, 3], "data": [1.0, 2.0, 3.0] * rows}
    return json.dumps({"inputs": [tensor], **more}).encode()


def post(content, *headers):
    lines = [b"POST " + URL + b" HTTP/1.1", b"host: h", b"content-length: %d" % len(content), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + content


class Worker:
    """A worker in its process."""

    def __init__(self, pid, port, grpc_port, folder):
        self.process = psutil.Process(pid)
        self.port = port
        self.grpc_port = grpc_port
        self.folder = folder

    def rss(self):
        return self.process.memory_info().rss / MIB

    async def open(self):
        return await asyncio.open_connection(HOST, self.port)

    async def open_grpc(self):
        return await asyncio.open_connection(HOST, self.grpc_port)

    async def hammered(self, content, *arguments):
        """Have the load tool ask; return what it saw."""
        file = self.folder / f"body-{len(content)}"
        file.write_bytes(content)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(HAMMER), f"http://{HOST}:{self.port}{URL.decode()}", "--body", str(file)),
            *("-o", "json", *map(str, arguments)),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        return json.loads(out)


@asynccontextmanager
async def working(service, folder, grpc_server="grpcio", **shape):
    """Start a worker that has a model and 0.5 s for each call."""
    await service.deploy(bias=0.5, **shape)
    settings = alone(folder, grpc_server=grpc_server, serving_deadline_ms=500)
    crew = Crew(posts(settings, 9))
    async with running(crew.run()):
        crew.route(service.board)
        await until(lambda: all(worker.serial for worker in crew._workers))
        found = Worker(crew._workers[0]._process.pid, settings.http_port, settings.grpc_port, folder)
        await found.hammered(body(1), "-c", 8, "-s", 1)
        yield found


@pytest.fixture
async def worker(service, tmp_path):
    async with working(service, tmp_path) as found:
        yield found


async def repeated(attack, connect):
    while True:
        with suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await connect()
            try:
                await attack(reader, writer)
            finally:
                writer.close()
        await asyncio.sleep(0.01)


@asynccontextmanager
async def attacked(connect, attack, callers):
    """Have so many callers do the same again and again."""
    async with AsyncExitStack() as stack:
        for _ in range(callers):
            await stack.enter_async_context(running(repeated(attack, connect)))
        yield


async def slow_loris(_, writer):
    for byte in (b"%c" % byte for byte in b"POST " + URL + b" HTTP/1.1\r\nx-slow: " + b"y" * 10_000):
        writer.write(byte)
        await asyncio.sleep(0.1)


async def half_closed(reader, writer):
    writer.write(post(body(1))[:-5])
    writer.write_eof()
    assert await reader.read() == b""


async def endless_headers(reader, writer):
    writer.write(b"GET / HTTP/1.1\r\n" + b"a: %b\r\n" % (b"b" * 1_000) * 10_000)
    assert b" 431 " in await reader.readline()


async def endless_header(reader, writer):
    writer.write(b"GET / HTTP/1.1\r\na: " + b"b" * 10_000_000)
    assert b" 431 " in await reader.readline()


async def endless_trailers(reader, writer):
    chunk = b"%x\r\n%b\r\n0\r\n" % (len(body(1)), body(1))
    writer.write(b"POST " + URL + b" HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n" + chunk)
    writer.write(b"a: %b\r\n" % (b"b" * 1_000) * 10_000)
    assert b" 431 " in await reader.readline()


async def declared_gigabyte(reader, writer):
    writer.write(b"POST " + URL + b" HTTP/1.1\r\ncontent-length: 1073741824\r\n\r\n" + bytes(MIB))
    assert b" 413 " in await reader.readline()


async def chunked_gigabyte(reader, writer):
    writer.write(b"POST " + URL + b" HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n")
    for _ in range(1_024):
        writer.write(b"100000\r\n" + bytes(MIB) + b"\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


BOMB = post(zlib.compress(b" " * (15 * MIB), 9), b"content-encoding: deflate")


async def bomb(reader, writer):
    writer.write(BOMB)
    assert b" 413 " in await reader.readline()
    await asyncio.sleep(0.2)


async def flood(_, writer):
    for _ in range(100):
        writer.write(post(body(1)) * 1_000)
        async with asyncio.timeout(0.5):
            await writer.drain()  # nobody reads the answers


ATTACKS = {
    "slow loris": (slow_loris, 500),
    "half closed": (half_closed, 20),
    "10 MB of headers": (endless_headers, 4),
    "a header of 10 MB": (endless_header, 4),
    "10 MB of trailers": (endless_trailers, 4),
    "1 GB that is announced": (declared_gigabyte, 4),
    "1 GB in chunks": (chunked_gigabyte, 4),
    "bombs": (bomb, 2),
    "floods": (flood, 4),
}


async def watched(worker):
    """Return how long neighbours wait (p99, s); none of them may be refused."""
    found = await worker.hammered(body(1), "-c", 4, "-s", 1.5, "-r", 200)
    assert found["errors"] == 0, found
    return found["p99"]


@pytest.mark.parametrize("kind", sorted(ATTACKS))
async def test_neighbours_are_answered_and_the_worker_stays_as_large_as_it_is(worker, figures, kind):
    before, alone = worker.rss(), await watched(worker)
    async with attacked(worker.open, *ATTACKS[kind]):
        beside = await watched(worker)
        grown = worker.rss() - before
    figures(f"{kind}: p99 of neighbours {alone * 1e3:.1f} -> {beside * 1e3:.1f} ms, {grown:+.0f} MiB")
    assert grown < 160
    assert beside < 0.5


async def test_ten_thousand_that_do_nothing_cost_little(worker, figures):
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < 2 * IDLE:
        pytest.skip(f"NOT RUN: a process may have {most} files open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    before, alone = worker.rss(), await watched(worker)
    opened = []
    while len(opened) < IDLE:
        opened += await asyncio.gather(*(worker.open() for _ in range(200)))
    await until(lambda: worker.process.num_fds() > IDLE)
    beside, grown = await watched(worker), worker.rss() - before
    figures(f"{IDLE} idle: p99 of neighbours {alone * 1e3:.1f} -> {beside * 1e3:.1f} ms, {grown:+.0f} MiB")
    for _, writer in opened:
        writer.close()
    await until(lambda: worker.process.num_fds() < 1_000)
    assert grown < 160
    assert beside < 0.5


async def test_three_times_what_it_can_do_is_answered_for_a_third_and_refused_in_time(service, tmp_path, figures):
    """A call takes the model some time, so that the load tool can send three times what the worker answers."""
    async with working(service, tmp_path, idle=1_024) as worker:
        before, peak = worker.rss(), await worker.hammered(body(32), "-c", 8, "-s", 2)
        over = await worker.hammered(body(32), "-c", 2_000, "-s", 3, "-r", 3 * peak["rate"])
        grown = worker.rss() - before
    share, refused = over["rate"] / peak["rate"], over["statuses"]["503"]
    figures(
        f"3x: {share:.2f} of the peak of {peak['rate']:.0f}/s, {refused['count']} refused after "
        f"{refused['p50']:.3f} s (p99 {refused['p99']:.3f}) of 0.5, {grown:+.0f} MiB"
    )
    assert peak["errors"] == 0
    assert set(over["statuses"]) == {"200", "503"}, over  # answered or refused, and nobody hangs
    assert grown < 160
    assert share > 0.4  # the load tool and others have a part of the machine
