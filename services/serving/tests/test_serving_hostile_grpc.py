"""The same over gRPC, on either server: floods of frames, messages without an end, callers that say nothing more."""

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import hpack
import numpy as np
import pytest
from services.serving.tests.conftest import make_service
from services.serving.tests.test_serving_hostile import attacked, working

from mainstem.bus.spool import Spool
from mainstem.direct.frames import NUMBER, PREFACE, Code, Flag, Kind, Setting, frame, settings
from mainstem.direct.unary import PREFIX
from mainstem.inference import open_inference_pb2 as pb
from mainstem.serving.memory import MemoryStore
from mainstem.serving.rpc import MAX_MESSAGE_BYTES, SERVICE
from mainstem.storage import Artifacts
from mainstem.testkit.records import Log
from mainstem.testkit.waiting import until

pytestmark = [pytest.mark.fault, pytest.mark.alone]

CHECKOUT = Path(__file__).parents[3]
METHOD = f"/{SERVICE}/ModelInfer"
IDLE = 1_000
GREETING = PREFACE + frame(Kind.SETTINGS, 0, 0) + frame(Kind.SETTINGS, Flag.ACK, 0)
#: No table, so that the block is the same each time.
HEADERS = b"\x20" + hpack.Encoder().encode(
    [
        *((":method", "POST"), (":scheme", "http"), (":path", METHOD), (":authority", "h")),
        *(("te", "trailers"), ("content-type", "application/grpc")),
    ],
    huffman=False,
)


def message(rows=1):
    asked = pb.ModelInferRequest(model_name="storm")
    asked.inputs.add(name="features", datatype="FP64", shape=[rows, 3])
    asked.raw_input_contents.append(np.ones((rows, 3)).tobytes())
    return asked.SerializeToString()


def begun(number):
    return frame(Kind.HEADERS, Flag.END_HEADERS, number, HEADERS)


def call(number):
    return begun(number) + frame(Kind.DATA, Flag.END_STREAM, number, PREFIX.pack(0, len(ASKED)) + ASKED)


def reset(number):
    return frame(Kind.RST_STREAM, 0, number, NUMBER.pack(Code.CANCEL))


ASKED = message()


@pytest.fixture(scope="module")
async def workers(tmp_path_factory):
    """Start a worker of either server."""
    async with AsyncExitStack() as stack:
        found = {}
        for server in ("fast", "grpcio"):
            folder = tmp_path_factory.mktemp(server)
            spool = Spool(folder / "spool", 1 << 20)
            stack.callback(spool.close)
            service = make_service(MemoryStore(), Artifacts(folder / "artifacts"), spool, Log())
            found[server] = await stack.enter_async_context(working(service, folder, server))
        yield found


async def neighbours(worker):
    """Return how long callers wait (p99, s) that ask again and again; none of them may be refused."""
    pump = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.grpc_pump", str(worker.grpc_port), METHOD, "4", "0.5"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=CHECKOUT,
    )
    out, _ = await pump.communicate(ASKED)
    assert pump.returncode == 0, "a neighbour was refused, or got no answer"
    return json.loads(out)["p99_us"] / 1e6


async def heard(reader):
    """Read until the other side has no more to say, or does not end for a while."""
    async with asyncio.timeout(0.3):
        while await reader.read(1 << 16):
            pass


async def rapid_resets(reader, writer):
    writer.write(GREETING + b"".join(call(number) + reset(number) for number in range(1, 4_001, 2)))
    await heard(reader)


async def settings_frames(reader, writer):
    writer.write(GREETING + frame(Kind.SETTINGS, 0, 0) * 5_000)
    await heard(reader)


async def pings(reader, writer):
    writer.write(GREETING + frame(Kind.PING, 0, 0, bytes(8)) * 5_000)
    await heard(reader)


async def endless_headers(reader, writer):
    more = frame(Kind.CONTINUATION, 0, 1, b"\0\1a\x7f\x81\x07" + b"b" * 256)
    writer.write(GREETING + frame(Kind.HEADERS, 0, 1, HEADERS) + more * 5_000)
    await heard(reader)


async def announced_gigabyte(reader, writer):
    writer.write(GREETING + begun(1) + frame(Kind.DATA, 0, 1, PREFIX.pack(0, 1 << 30) + bytes(10_000)))
    await heard(reader)


async def unfinished_messages(reader, writer):
    """Send what may be sent of messages before the window is widened, and never the end."""
    writer.write(GREETING)
    for number in range(1, 201, 2):
        writer.write(begun(number) + frame(Kind.DATA, 0, number, PREFIX.pack(0, MAX_MESSAGE_BYTES) + bytes(10_000)))
        writer.write(frame(Kind.DATA, 0, number, bytes(16_384)) * 3)
        await writer.drain()
    await asyncio.Event().wait()


async def half_closed(reader, writer):
    writer.write(GREETING + call(1)[:-5])
    writer.write_eof()
    await heard(reader)


async def unread_answers(_, writer):
    writer.write(GREETING)
    for begin in range(1, 20_001, 200):
        writer.write(b"".join(call(number) for number in range(begin, begin + 200, 2)))
        async with asyncio.timeout(0.3):
            await writer.drain()


async def window_updates(reader, writer):
    """Have as many answers wait as may, and let none of them out."""
    writer.write(GREETING + settings({Setting.INITIAL_WINDOW_SIZE: 0}))
    writer.write(b"".join(call(number) for number in range(1, 512, 2)))
    writer.write(frame(Kind.WINDOW_UPDATE, 0, 0, NUMBER.pack(1)) * 20_000)
    await heard(reader)


ATTACKS = {
    "rapid resets": (rapid_resets, 4),
    "settings": (settings_frames, 4),
    "pings": (pings, 4),
    "updates of windows": (window_updates, 4),
    "endless headers": (endless_headers, 4),
    "1 GB that is announced": (announced_gigabyte, 4),
    "messages without an end": (unfinished_messages, 30),
    "half closed": (half_closed, 20),
    "answers that nobody reads": (unread_answers, 4),
}


#: What grpcio is tried with. Messages without an end occupy all the calls that it takes; of a flood of whole calls it
#: refuses some at random, neighbours' too, once 1,000 wait in its core.
OF_BOTH = ("rapid resets", "half closed")
TRIALS = [*(("fast", kind) for kind in ATTACKS), *(("grpcio", kind) for kind in OF_BOTH)]


@pytest.mark.parametrize(("server", "kind"), TRIALS)
async def test_neighbours_are_answered_and_the_worker_stays_as_large_as_it_is(workers, figures, server, kind):
    worker = workers[server]
    before = worker.rss()
    async with attacked(worker.open_grpc, *ATTACKS[kind]):
        p99_s, grown = await neighbours(worker), worker.rss() - before
    figures(f"{server}, {kind}: p99 of neighbours {p99_s * 1e3:.1f} ms, {grown:+.0f} MiB")
    assert grown < 160
    assert p99_s < 0.5


@pytest.mark.parametrize("server", ["fast", "grpcio"])
async def test_a_thousand_that_do_nothing_cost_little(workers, figures, server):
    worker = workers[server]
    before, opened = worker.rss(), []
    while len(opened) < IDLE:
        opened += await asyncio.gather(*(worker.open_grpc() for _ in range(100)))
    for _, writer in opened:
        writer.write(GREETING)
    await until(lambda: worker.process.num_fds() > IDLE)
    p99_s, grown = await neighbours(worker), worker.rss() - before
    figures(f"{server}, {IDLE} idle: p99 of neighbours {p99_s * 1e3:.1f} ms, {grown:+.0f} MiB")
    for _, writer in opened:
        writer.close()
    await until(lambda: worker.process.num_fds() < IDLE)
    assert grown < 160
    assert p99_s < 0.5
