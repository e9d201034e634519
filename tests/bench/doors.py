"""Direct calls over HTTP: one core for the server, one for a client with 32 connections, in turn with peers."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import numpy as np
from tests.bench.calls import deployment
from tests.bench.clock import OTHERS, OWN, RUNS, ratio, spend
from tests.bench.features import features
from tests.bench.goals import Goal, Outcome
from tests.bench.ingestion import ingestion
from tests.bench.processes import HOST, Server, answering
from tests.bench.serving import bare_session
from tests.bench.stage import CHECKOUT, FIRST_DAYS, MODEL, Stage, open_stage
from tests.bench.training import Floats, Trained, train_once

from mainstem.bus.reader import LogReader
from mainstem.cli.local import graph
from mainstem.events.catalogue import encode
from mainstem.serving.engine import CHUNK

CONNECTIONS: Final = 32
#: Of each burst; of many rows at once there are more answers to be sent afterwards.
SECONDS, RAW_SECONDS = 1.5, 0.4
_INFER: Final = f"/v2/models/{MODEL}/infer"
READY: Final = f"/v2/models/{MODEL}/ready"
OURS: Final = graph.SERVICES["serving"].argv


@dataclass(frozen=True, slots=True)
class Burst:
    """What a client saw in a while, and what the server took for a call."""

    asked: int
    per_second: float
    p50_us: float
    p99_us: float
    cpu_us: float


@dataclass(frozen=True, slots=True)
class Question:
    """A request: its body, and how much of that is JSON if other bytes follow."""

    body: bytes
    json_length: int = 0


async def measure(stage: Stage, trained: Trained) -> list[Outcome]:
    """Return what clients get of us and of others."""
    await stage.bus.publisher.publish([encode(event) for event in deployment(stage, trained)])
    digest = trained.onnx.removeprefix("sha256:")
    model = Path(stage.env["MAINSTEM_ARTIFACTS"], digest[:2], digest)
    one, many = _as_json(trained.x[:1]), _as_bytes(trained.x[:CHUNK])
    entity = await _as_entity(stage)
    bare = bare_session(stage, trained)
    async with AsyncExitStack() as stack:
        async with answering(OURS, stage.env, READY):
            pass  # from now on it is known what answers
        began = time.perf_counter()
        ours = await stack.enter_async_context(answering(OURS, stage.env, READY))
        first_answer_s = time.perf_counter() - began
        await _looks_up(ours, entity)
        peers = await _peers(stack, stage, model)
        seen: dict[str, list[Burst]] = {}
        alone: list[tuple[float, float, float]] = []
        for run in range(RUNS + 1):
            found = {name: await _burst(server, one, CONNECTIONS) for name, server in peers.items()}
            began_us = ours.cpu_us()
            found["ours"] = await _burst(ours, one, CONNECTIONS)
            await sent(ours)
            whole_us = (ours.cpu_us() - began_us) / found["ours"].asked
            found |= {
                f"{name}, one": await _burst(server, one, 1)
                for name, server in (("ours", ours), ("constant", peers["constant"]))
            }
            found["ours, by entity"] = await _burst(ours, entity, CONNECTIONS)
            await sent(ours)
            found["ours, raw"] = await _burst(ours, many, CONNECTIONS, RAW_SECONDS)
            await sent(ours)
            bare_us = spend(lambda: bare(1), len(trained.x)).cpu_us, spend(bare, len(trained.x)).cpu_us
            if run:  # the first warms up
                alone.append((*bare_us, whole_us))
                for name, burst in found.items():
                    seen.setdefault(name, []).append(burst)
        return [*_outcomes(seen, alone), *_sizes(ours, first_answer_s)]


async def _peers(stack: AsyncExitStack, stage: Stage, model: Path) -> dict[str, Server]:
    python, path = (sys.executable, "-m"), {"PYTHONPATH": str(CHECKOUT)}
    spool = {**stage.env, **path, "MAINSTEM_INSTANCE": "1"}
    return {
        "without a record": await stack.enter_async_context(
            answering((*python, "tests.bench.unrecorded"), spool, READY)
        ),
        "FastAPI": await stack.enter_async_context(
            answering((*python, "tests.bench.fastapi_peer"), {**path, "BENCH_MODEL": str(model)}, "/")
        ),
        "constant": await stack.enter_async_context(answering((*python, "tests.bench.constant"), path, "/")),
    }


async def sent(server: Server) -> None:
    """Wait until every answer is in the log: who sends takes the core from who comes next."""
    async with httpx.AsyncClient(base_url=f"http://{HOST}:{server.http}") as client:
        while True:
            lines = (await client.get("/metrics")).raise_for_status().text.splitlines()
            found = [line for line in lines if line.startswith(("mainstem_predictions_rec", "mainstem_predictions_se"))]
            if len({line.split(" ")[1] for line in found}) == 1:
                return
            await asyncio.sleep(0.2)


async def _burst(server: Server, question: Question, connections: int, seconds: float = SECONDS) -> Burst:
    """Ask for a while over HTTP."""
    arguments = (_INFER, connections, seconds, question.json_length)
    return await load("tests.bench.pump", server, server.http, arguments, question.body)


async def load(module: str, server: Server, port: int, arguments: Sequence[object], body: bytes) -> Burst:
    """Let a client ask for a while, from the other core."""
    os.sched_setaffinity(0, OTHERS)
    pump = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, str(port), *map(str, arguments)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=CHECKOUT,
    )
    os.sched_setaffinity(0, OWN)
    cpu = server.cpu_us()
    out, _ = await pump.communicate(body)
    found = json.loads(out)
    spent_us = (server.cpu_us() - cpu) / found["asked"]
    return Burst(found["asked"], found["per_second"], found["p50_us"], found["p99_us"], spent_us)


def _outcomes(seen: Mapping[str, list[Burst]], alone: list[tuple[float, float, float]]) -> list[Outcome]:
    def times(subject: str, name: str, other: str, of: str, goal: Goal) -> Outcome:
        ours, theirs = ([getattr(burst, of) for burst in seen[each]] for each in (name, other))
        return Outcome(subject, other, ratio(ours, theirs), "times", goal)

    return [
        times("answers a second", "ours", "FastAPI", "per_second", at_least(10)),
        times("answers a second", "ours", "constant", "per_second", at_least(1.6)),
        times("answers a second", "ours", "without a record", "per_second", at_least(0.95)),
        times("answers a second by entity", "ours, by entity", "ours", "per_second", at_least(0.9)),
        times("p99 at 32 connections", "ours", "FastAPI", "p99_us", Goal(0.25)),
        times("p50 at one connection", "ours, one", "constant, one", "p50_us", Goal(1.15)),
        Outcome(
            "CPU time of a call",
            "onnxruntime alone, row by row",
            ratio([burst.cpu_us for burst in seen["ours"]], [one for one, _, _ in alone]),
            "times",
            Goal(3.5),
        ),
        Outcome(
            "CPU time of a call, until it is in the log",
            "onnxruntime alone, row by row",
            ratio([whole for _, _, whole in alone], [one for one, _, _ in alone]),
            "times",
            Goal(3.5),
        ),
        Outcome(
            "rows a second, 64 as raw bytes",
            "onnxruntime alone, 64 at once",
            ratio([burst.per_second * CHUNK for burst in seen["ours, raw"]], [1e6 / many for _, many, _ in alone]),
            "times",
            at_least(0.6),
        ),
    ]


def at_least(bound: float) -> Goal:
    return Goal(bound, at_least=True)


def _sizes(ours: Server, first_answer_s: float) -> list[Outcome]:
    worker = next(pid for pid in ours.children() if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes())
    status = Path(f"/proc/{worker}/status").read_text()
    rss_mib = int(status.partition("VmRSS:")[2].split()[0]) / 1024
    return [
        Outcome("resident memory of a worker", "", rss_mib, "MiB", Goal(100)),
        Outcome("from start to the first answer, as it stood last", "", first_answer_s, "s", Goal(0.6)),
    ]


def _as_json(rows: Floats) -> Question:
    cells = [None if cell != cell else cell for cell in rows.ravel().tolist()]  # noqa: PLR0124  (NaN)
    tensor = {"name": "features", "datatype": "FP64", "shape": list(rows.shape), "data": cells}
    return Question(json.dumps({"inputs": [tensor], "parameters": {"entity": "AA1"}}).encode())


async def _as_entity(stage: Stage) -> Question:
    """Return the question about a departure, as one describes it who does not know its features."""
    async with LogReader(stage.env["MAINSTEM_KAFKA"], ["evt.data.flight_departed"]) as reader:
        await reader.start()
        said: dict[str, object] = json.loads((await reader.poll(1, 10))[0].value or b"")["record"]
    asked = [(name, said[name]) for name in ("carrier", "dep_delay", "dest", "distance", "origin", "sched_dep", "tail")]
    inputs = [
        {"name": name, "datatype": "BYTES" if isinstance(value, str) else "INT64", "shape": [1], "data": [value]}
        for name, value in asked
    ]
    return Question(json.dumps({"inputs": inputs, "parameters": {"entity": "AA1"}}).encode())


async def _looks_up(server: Server, question: Question) -> None:
    """Wait until the worker has come to the end of the log."""
    async with asyncio.timeout(120), httpx.AsyncClient(base_url=f"http://{HOST}:{server.http}") as client:
        while (answer := await client.post(_INFER, content=question.body)).status_code != 200:
            if answer.status_code != 503:
                raise RuntimeError(answer.text)
            await asyncio.sleep(0.1)


def _as_bytes(rows: Floats) -> Question:
    raw = np.ascontiguousarray(rows).tobytes()
    tensor = {"name": "features", "datatype": "FP64", "shape": list(rows.shape)}
    head = json.dumps(
        {
            "inputs": [{**tensor, "parameters": {"binary_data_size": len(raw)}}],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    return Question(head + raw, len(head))


@asynccontextmanager
async def trained_stage() -> AsyncIterator[tuple[Stage, Trained]]:
    """Lend the servers, and a model of some weeks of flights."""
    async with open_stage() as stage:
        await stage.play(FIRST_DAYS)
        for turn in (await ingestion(stage), await features(stage)):
            await stage.drain(turn)
        yield stage, await train_once(stage)


async def _main() -> list[Outcome]:
    async with trained_stage() as (stage, trained):
        return await measure(stage, trained)


if __name__ == "__main__":
    print(json.dumps([outcome.document() for outcome in asyncio.run(_main())]))
