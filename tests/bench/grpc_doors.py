"""Direct calls over gRPC: one core for the server, one for a client with 32 connections, in turn with a peer."""

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
from tests.bench.calls import deployment
from tests.bench.clock import RUNS, ratio
from tests.bench.doors import CONNECTIONS, OURS, READY, SECONDS, Burst, at_least, load, sent, trained_stage
from tests.bench.goals import Goal, Outcome
from tests.bench.processes import Server, answering
from tests.bench.stage import CHECKOUT, MODEL, Stage
from tests.bench.training import Floats, Trained

from mainstem.events.catalogue import encode
from mainstem.inference import open_inference_pb2 as pb

_INFER = "/inference.GRPCInferenceService/ModelInfer"


async def measure(stage: Stage, trained: Trained) -> list[Outcome]:
    """Return what clients get of either of our servers and of another."""
    await stage.bus.publisher.publish([encode(event) for event in deployment(stage, trained)])
    digest = trained.onnx.removeprefix("sha256:")
    model = Path(stage.env["MAINSTEM_ARTIFACTS"], digest[:2], digest)
    message = _as_message(trained.x[:1])
    seen: dict[str, list[Burst]] = {"fast": [], "grpcio": [], "grpc.aio": []}
    async with AsyncExitStack() as stack:
        servers = await _servers(stack, stage, model)
        for run in range(RUNS + 1):
            for name, server in servers.items():
                burst = await load(
                    "tests.bench.grpc_pump", server, server.grpc, (_INFER, CONNECTIONS, SECONDS), message
                )
                if name != "grpc.aio":
                    await sent(server)
                if run:  # the first warms up
                    seen[name].append(burst)
    return _outcomes(seen)


async def _servers(stack: AsyncExitStack, stage: Stage, model: Path) -> dict[str, Server]:
    """Start all; what each of ours records goes to a spool of its own."""
    peer = (sys.executable, "-m", "tests.bench.grpc_peer")
    about_peer = {"PYTHONPATH": str(CHECKOUT), "BENCH_MODEL": str(model)}
    servers = {
        name: await stack.enter_async_context(
            answering(OURS, {**stage.env, "MAINSTEM_INSTANCE": name, "MAINSTEM_GRPC_SERVER": name}, READY)
        )
        for name in ("fast", "grpcio")
    }
    return {**servers, "grpc.aio": await stack.enter_async_context(answering(peer, about_peer, "/"))}


def _outcomes(seen: dict[str, list[Burst]]) -> list[Outcome]:
    def times(name: str, of: str, goal: Goal) -> Outcome:
        ours, theirs = ([getattr(burst, of) for burst in seen[each]] for each in (name, "grpc.aio"))
        return Outcome(f"{_SUBJECTS[of]}, {name}", "grpc.aio by hand", ratio(ours, theirs), "times", goal)

    return [
        times("fast", "per_second", at_least(4)),
        times("grpcio", "per_second", at_least(1.5)),
        times("fast", "cpu_us", Goal(0.25)),
        times("fast", "p99_us", Goal(0.25)),
    ]


_SUBJECTS = {
    "per_second": "gRPC answers a second",
    "cpu_us": "CPU time of a gRPC call",
    "p99_us": "gRPC p99 at 32 connections",
}


def _as_message(rows: Floats) -> bytes:
    request = pb.ModelInferRequest(model_name=MODEL)
    request.inputs.add(name="features", datatype="FP64", shape=rows.shape)
    request.raw_input_contents.append(np.ascontiguousarray(rows).tobytes())
    content: bytes = request.SerializeToString()
    return content


async def _main() -> list[Outcome]:
    async with trained_stage() as (stage, trained):
        return await measure(stage, trained)


if __name__ == "__main__":
    print(json.dumps([outcome.document() for outcome in asyncio.run(_main())]))
