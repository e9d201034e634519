"""Callers that mean no good, at a real worker: it stays as large as it is, and who means well is answered meanwhile."""

import asyncio
import json
import resource
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from services.serving.tests.serving_attacks import ATTACKS, IDLE, MIB, URL, attacked, body
from services.serving.tests.serving_settings import alone

from mainstem.serving.crew import Crew, posts
from mainstem.testkit.waiting import running, until

pytestmark = [pytest.mark.fault, pytest.mark.alone]

HOST = "127.0.0.1"
HAMMER = Path(__file__).parents[3] / "tools" / "hammer.py"


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
