"""A worker's doors, in the process of the test."""

import asyncio
import resource
from contextlib import AsyncExitStack, closing, suppress

import pytest
from services.serving.tests.serving_settings import alone

from mainstem.bus.spool import Spool
from mainstem.direct.frames import PREFACE, Flag, Kind, frame
from mainstem.serving import app, worker
from mainstem.serving.crew import posts
from mainstem.serving.files import TooFewFiles
from mainstem.telemetry import Tracer

HOST = "127.0.0.1"
PING = b"GET /v2/health/live HTTP/1.1\r\nhost: here\r\n\r\n"
GREETING = PREFACE + frame(Kind.SETTINGS, 0, 0)


@pytest.fixture
async def settings(tmp_path, monkeypatch):
    """Have a worker listen that may have nine connections."""
    files = 640 + 9
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, files))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: None)
    settings = alone(tmp_path, grpc_server="fast")
    with closing(Spool(tmp_path / "spool", 1 << 20)) as spool, closing(Tracer("serving", None)) as tracer:
        async with asyncio.timeout(20), AsyncExitStack() as stack:
            await worker.Worker(posts(settings, 9)[0], spool, tracer).listen(stack)
            yield settings


async def kept(port, greeting, sign):
    """Open nine connections; return how many were not closed before the sign came that they are taken."""
    opened, found = [], 0
    for _ in range(9):
        reader, writer = await asyncio.open_connection(HOST, port)
        opened.append(writer)
        writer.write(greeting)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            found += bool(await reader.readuntil(sign))
    for writer in opened:
        writer.close()
    return found


async def test_connections_over_http_and_grpc_share_the_files_that_a_worker_may_open(settings):
    assert await kept(settings.http_port, PING, b" 200 OK") == 5
    assert await kept(settings.grpc_port, GREETING, frame(Kind.SETTINGS, Flag.ACK, 0)) == 3


async def test_serving_refuses_to_start_where_no_connection_could_be_open_and_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 647))
    monkeypatch.setattr(app, "Settings", lambda: alone(tmp_path))
    monkeypatch.setattr(app, "configure", lambda _: None)
    monkeypatch.setattr(app, "take_over", lambda *_: pytest.fail("it began"))
    with pytest.raises(TooFewFiles, match=r"647 files open here \(`ulimit -Hn`\).* raise the limit"):
        await app.main()
