"""Direct calls: the serving process itself answers over HTTP and gRPC, against an echo and bare onnxruntime."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from math import isnan

import grpc
from tests.bench.clock import OTHERS, OWN, RUNS, Figure, Spent, spend
from tests.bench.processes import HOST, Server, answering
from tests.bench.serving import bare_session
from tests.bench.stage import CHECKOUT, FEATURES, MODEL, ON_SERVERS, Stage
from tests.bench.training import Trained

from mainstem.cli.local import graph
from mainstem.events.catalogue import encode
from mainstem.events.envelope import Event, begin
from mainstem.events.registry import DeploymentSet, VersionApproved, VersionPromoted
from mainstem.inference import open_inference_pb2 as pb
from mainstem.testkit.examples import example
from mainstem.testkit.projects import applied

CALLS, CALLERS = 400, 4
#: Past the time of all rows: this version answers direct calls alone.
_FROM = "2020-01-01T00:00:00.000000Z"

Row = list[float | None]
Ask = Callable[[], Awaitable[object]]
Line = Callable[[Server, Row], AbstractAsyncContextManager[Ask]]


async def calls(stage: Stage, trained: Trained) -> list[Figure]:
    """Ask about one row at a time, over both protocols in turn."""
    await stage.bus.publisher.publish([encode(event) for event in deployment(stage, trained)])
    lines: dict[str, Line] = {"HTTP": _http, "gRPC": _grpc}
    figures = {name: Figure("serving", f"a prediction over {name}", ON_SERVERS) for name in lines}
    bare = bare_session(stage, trained)
    row = [None if isnan(value) else value for value in trained.x[0].tolist()]
    async with (
        answering(graph.SERVICES["serving"].argv, stage.env, f"/v2/models/{MODEL}/ready") as ours,
        answering((sys.executable, "-m", "tests.bench.echo"), {"PYTHONPATH": str(CHECKOUT)}, "/") as echo,
    ):
        os.sched_setaffinity(0, OTHERS)
        for run in range(RUNS + 1):
            one = spend(lambda: bare(1), len(trained.x))
            for name, line in lines.items():
                spent, echoed = await _burst(ours, line, row), await _burst(echo, line, row)
                if run:  # the first warms up
                    figures[name].add(spent, {f"an echo over {name}": echoed, "onnxruntime alone, row by row": one})
        os.sched_setaffinity(0, OWN)
    return list(figures.values())


def deployment(stage: Stage, trained: Trained) -> list[Event]:
    """Return what the registry says when a version goes into production."""
    compiled = stage.definition.feature_sets[FEATURES].compiled
    shared = {"model": MODEL, "version": 1, "onnx": trained.onnx}
    deployed = example(
        DeploymentSet,
        **shared,
        feature_set=FEATURES,
        feature_definition=compiled.id,
        features=list(compiled.names),
        profile=trained.profile,
        arms=[],
        effective_from=_FROM,
    )
    said = [example(VersionApproved, **shared), example(VersionPromoted, model=MODEL, version=1), deployed]
    events = [begin(fact, command_id="bench", source="/bench", actor="bench", recorded_us=0) for fact in said]
    by_promotion = replace(events[2].envelope, causation=events[1].envelope.id)
    return [applied(stage.definition), *events[:2], Event(by_promotion, deployed)]


async def _burst(server: Server, line: Line, row: Row) -> Spent:
    """Ask so many times, by several callers at once; return what the server took for a call."""
    async with AsyncExitStack() as stack:
        asks = [await stack.enter_async_context(line(server, row)) for _ in range(CALLERS)]
        await asyncio.gather(*(ask() for ask in asks))
        cpu, wall = server.cpu_us(), time.perf_counter()
        await asyncio.gather(*(_repeat(ask, CALLS // CALLERS) for ask in asks))
        return Spent((server.cpu_us() - cpu) / CALLS, (time.perf_counter() - wall) / CALLS * 1e6)


async def _repeat(ask: Ask, times: int) -> None:
    for _ in range(times):
        await ask()


@asynccontextmanager
async def _http(server: Server, row: Row) -> AsyncIterator[Ask]:
    tensor = {"name": "features", "datatype": "FP64", "shape": [1, len(row)], "data": row}
    body = json.dumps({"inputs": [tensor], "parameters": {"entity": "AA1"}}).encode()
    head = f"POST /v2/models/{MODEL}/infer HTTP/1.1\r\nhost: bench\r\ncontent-length: {len(body)}\r\n\r\n"
    reader, writer = await asyncio.open_connection(HOST, server.http)

    async def ask() -> None:
        writer.write(head.encode() + body)
        found = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b" 200 " not in found:
            raise RuntimeError(f"the server said {found.decode()}")
        await reader.readexactly(int(found.partition(b"content-length:")[2].partition(b"\r\n")[0]))

    yield ask
    writer.close()


@asynccontextmanager
async def _grpc(server: Server, row: Row) -> AsyncIterator[Ask]:
    request = pb.ModelInferRequest(model_name=MODEL)
    request.parameters["entity"].string_param = "AA1"
    tensor = request.inputs.add(name="features", datatype="FP64", shape=[1, len(row)])
    tensor.contents.fp64_contents.extend(float("nan") if value is None else value for value in row)
    content = request.SerializeToString()
    async with grpc.aio.insecure_channel(f"{HOST}:{server.grpc}") as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        yield lambda: infer(content)
