"""Callers of a model while its server, its broker or both are killed: what they were answered, and what the log has."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Self

import grpc
import httpx
import numpy as np
import orjson
import psutil
from sklearn.ensemble import HistGradientBoostingClassifier
from tests.fault.scenario import CHECKOUT, SEED

from mainstem.bus.kafka import KafkaBus
from mainstem.bus.reader import LogReader
from mainstem.cli.local.platform import Platform
from mainstem.cli.local.ports import HOST, anywhere
from mainstem.events.catalogue import encode
from mainstem.events.envelope import Event, begin
from mainstem.events.fence import Fence
from mainstem.events.record import header
from mainstem.events.registry import DeploymentSet, VersionApproved, VersionPromoted
from mainstem.events.topics import fixed
from mainstem.inference import open_inference_pb2 as pb
from mainstem.registry.handlers import implied_topics
from mainstem.storage import Artifacts
from mainstem.testkit.examples import example
from mainstem.testkit.projects import applied, storms
from mainstem.training.onnx_export import to_onnx

MODEL = "storm"
OURS = "mainstem.serving.app"
LONGEST_WAIT_S = 60
#: Callers by protocol, each with a connection of its own.
HTTP_CALLERS, GRPC_CALLERS = 6, 2


async def set_up(platform: Platform) -> None:
    """Tell serving of a version that answers, as the registry would."""
    definition, env = storms(), platform.env
    artifacts = Artifacts(Path(env["MAINSTEM_ARTIFACTS"]))
    digest, profile = artifacts.put(_model()), artifacts.put(b"{}")
    (compiled,) = (part.compiled for part in definition.feature_sets.values())
    shared = {"model": MODEL, "version": 1, "onnx": digest}
    facts = [
        example(VersionApproved, **shared),
        example(VersionPromoted, model=MODEL, version=1),
        example(
            DeploymentSet,
            **shared,
            feature_set=compiled.name,
            feature_definition=compiled.id,
            features=list(compiled.names),
            profile=profile,
            arms=[],
            effective_from="2024-01-01T00:00:00.000000Z",
        ),
    ]
    events = [begin(fact, command_id="test", source="/test", actor="test", recorded_us=0) for fact in facts]
    events[2] = Event(replace(events[2].envelope, causation=events[1].envelope.id), facts[2])
    async with KafkaBus(env["MAINSTEM_KAFKA"], "test") as bus:
        await bus.create([*fixed(), *implied_topics(definition)])
        await bus.publisher.publish([encode(event) for event in (applied(definition), *events)])


def _model() -> bytes:
    winds = np.random.default_rng(SEED).normal(size=(500, 1))
    return to_onnx(HistGradientBoostingClassifier(max_iter=5).fit(winds, winds[:, 0] > 0.5))


@dataclass
class Serving:
    """A serving process of a module, started again whenever it was killed."""

    platform: Platform
    module: str = OURS
    settings: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=lambda: anywhere({"http": 0, "grpc": 0}))
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Return where it answers over HTTP."""
        return f"http://{HOST}:{self.ports['http']}"

    async def start(self) -> None:
        """Start it, and wait until the model answers."""
        doors = {f"MAINSTEM_{name.upper()}_PORT": str(port) for name, port in self.ports.items()}
        env = {**os.environ, **self.platform.env, **doors, **self.settings}
        with (self.platform.home.logs / "answering.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", self.module, env=env, cwd=CHECKOUT, stdout=log, stderr=log
            )
        async with asyncio.timeout(LONGEST_WAIT_S), httpx.AsyncClient() as client:
            while not await _ready(client, f"{self.url}/v2/models/{MODEL}/ready"):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it, and return its exit code."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            self.process.send_signal(how)
        return await self.process.wait()

    async def kill(self, part: str) -> None:
        """Kill one of its processes, `worker` or `sender`, once it is there; the service starts another."""
        assert self.process is not None
        service = psutil.Process(self.process.pid)
        wanted = part == "sender"
        async with asyncio.timeout(LONGEST_WAIT_S):
            while not (found := [one for one in service.children() if _sends(one) is wanted]):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        found[0].kill()

    async def __aenter__(self) -> Self:
        """Start it."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """End it."""
        await self.stop()

    async def books(self) -> tuple[int, int]:
        """Return how many answers were recorded, and how many were sent."""
        async with httpx.AsyncClient() as client:
            answer = (await client.get(f"{self.url}/metrics")).raise_for_status()
        lines = answer.text.splitlines()
        told = [line.split(" ") for line in lines if line.startswith("mainstem_predictions_")]
        recorded, sent = (
            sum(float(value) for name, value in told if name.startswith(f"mainstem_predictions_{kind}"))
            for kind in ("recorded", "sent")
        )
        return int(recorded), int(sent)

    async def balanced(self, within_s: float = LONGEST_WAIT_S) -> int:
        """Wait until all that was recorded is sent; return how much."""
        async with asyncio.timeout(within_s):
            while True:
                with suppress(httpx.HTTPError):
                    recorded, sent = await self.books()
                    if recorded == sent:
                        return recorded
                await asyncio.sleep(0.05)


def _sends(process: psutil.Process) -> bool | None:
    """Tell whether a process of the service is its sender; None when it is gone."""
    with suppress(psutil.NoSuchProcess):
        return "mainstem.serving.sender" in process.cmdline()
    return None


async def _ready(client: httpx.AsyncClient, url: str) -> bool:
    with suppress(httpx.HTTPError):
        return (await client.get(url)).status_code == 200
    return False


@dataclass
class Callers:
    """Ask all the time; remember each answer by the id of its prediction, with its score."""

    serving: Serving
    #: Each waits so long between an answer and its next call.
    pause_s: float = 0.0
    answered: dict[str, float] = field(default_factory=dict)
    refused: int = 0
    #: Answers under an id that another one had.
    doubled: int = 0
    _said: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, more: int) -> None:
        """Return when so many more were answered."""
        wanted = len(self.answered) + more
        async with asyncio.timeout(LONGEST_WAIT_S), self._said:
            await self._said.wait_for(lambda: len(self.answered) >= wanted)

    async def go_on(self, wanted_s: float) -> None:
        """Return when they have been answered for so long."""
        until = asyncio.get_running_loop().time() + wanted_s
        while asyncio.get_running_loop().time() < until:
            await self.until(1)

    async def over_http(self, number: int) -> None:
        """Ask one row after the other on one connection, and on another when that is gone."""
        random, asked = Random(f"{SEED} {number}"), 0
        while True:
            with suppress(OSError, EOFError):
                reader, writer = await asyncio.open_connection(HOST, self.serving.ports["http"])
                try:
                    while True:
                        asked += 1
                        writer.write(_request(f"{number}-{asked}", random.uniform(-3, 3)))
                        await self._heard(reader)
                finally:
                    writer.transport.abort()
            await asyncio.sleep(0.02)

    async def over_grpc(self, number: int) -> None:
        """Ask one row after the other over the other protocol."""
        random, asked = Random(f"{SEED} grpc {number}"), 0
        options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 100)]
        async with grpc.aio.insecure_channel(f"{HOST}:{self.serving.ports['grpc']}", options) as channel:
            infer = channel.unary_unary(
                "/inference.GRPCInferenceService/ModelInfer", response_deserializer=pb.ModelInferResponse.FromString
            )
            while True:
                asked += 1
                request = pb.ModelInferRequest(model_name=MODEL, id=f"g{number}-{asked}")
                request.inputs.add(name="features", datatype="FP64", shape=[1, 1])
                request.raw_input_contents.append(np.array([[random.uniform(-3, 3)]]).tobytes())
                try:
                    answer = await infer(request.SerializeToString(), timeout=10)
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.02)
                    continue
                score = float(np.frombuffer(answer.raw_output_contents[0])[1])
                await self._note(answer.parameters["prediction_id"].string_param, score)

    async def _heard(self, reader: asyncio.StreamReader) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        body = await reader.readexactly(int(head.partition(b"content-length:")[2].partition(b"\r\n")[0]))
        if b" 200 " in head:
            found = orjson.loads(body)
            await self._note(found["parameters"]["prediction_id"], found["outputs"][0]["data"][1])
        else:
            self.refused += 1
            await asyncio.sleep(0.01)

    async def _note(self, prediction: str, score: float) -> None:
        async with self._said:
            self.doubled += prediction in self.answered
            self.answered[prediction] = score
            self._said.notify_all()
        await asyncio.sleep(self.pause_s)


def _request(name: str, wind: float) -> bytes:
    tensor = {"name": "features", "datatype": "FP64", "shape": [1, 1], "data": [wind]}
    body = orjson.dumps({"id": name, "inputs": [tensor]})
    return b"POST /v2/models/%b/infer HTTP/1.1\r\nhost: test\r\ncontent-length: %d\r\n\r\n%b" % (
        MODEL.encode(),
        len(body),
        body,
    )


@asynccontextmanager
async def calling(serving: Serving, pause_s: float = 0.0) -> AsyncIterator[Callers]:
    """Have callers ask while the block runs."""
    callers = Callers(serving, pause_s)
    tasks = [asyncio.create_task(callers.over_http(number)) for number in range(HTTP_CALLERS)]
    tasks += [asyncio.create_task(callers.over_grpc(number)) for number in range(GRPC_CALLERS)]
    try:
        yield callers
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        faults = [fault for fault in ended if not isinstance(fault, asyncio.CancelledError)]
        assert not faults, faults


async def logged(platform: Platform) -> Sequence[tuple[str, float]]:
    """Return id and score of each prediction in the log, each once as every reader takes it."""
    fence, found = Fence(), list[tuple[str, float]]()
    async with LogReader(platform.env["MAINSTEM_KAFKA"], [f"tel.prediction.{MODEL}"]) as reader:
        await reader.start()
        async for records in reader.to_end():
            for record in fence.admit(records)[0]:
                if header(record, "ce_type") == b"mainstem.serving.predicted.v1":
                    score = orjson.loads(record.value or b"")["score"]
                    found.append(((header(record, "ce_id") or b"").decode(), score))
    return found
