"""The servers to try: a worker with the service behind it, and `serve --dev`, of either gRPC; and what tries them."""

import asyncio
import json
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
import uvicorn
from services.serving.tests.serving_settings import alone
from tests.conformance import models
from tests.conformance.sentences import DEV, FAST, MANAGED

from mainstem.runtime.health import Health
from mainstem.runtime.http import application
from mainstem.serving import grpc_fast, wire
from mainstem.serving.api import Api, error, metrics_of
from mainstem.serving.board import Board
from mainstem.serving.crew import Crew, posts
from mainstem.serving.domain import Activation, Followed
from mainstem.serving.engine import Model
from mainstem.serving.managed import Managed
from mainstem.serving.rpc import Rpc
from mainstem.serving.unmanaged import Folder
from mainstem.storage import Artifacts
from mainstem.testkit.waiting import running, until

CHECKOUT = Path(__file__).parents[2]
HOST = "127.0.0.1"
#: A check takes no longer.
_CHECK_S = 60
#: Of a line of what is told.
_LINE_BYTES = 1 << 20


@asynccontextmanager
async def managed(folder: Path, grpc_server: Literal["grpcio", "fast"] = "grpcio") -> AsyncIterator[tuple[str, str]]:
    """Serve `storm` and `gale` as approved versions, by a worker of its own process and the service's pages behind it.

    `gale` is called by entity, too: that much is told of it, and nothing is looked up.
    """
    settings = alone(folder, grpc_server=grpc_server)
    onnx = models.storm()
    digest = Artifacts(settings.artifacts).put(onnx)
    features = ("a", "b", "c")
    by_tensor = Activation("d", "storm", 1, digest, "gusts", "sha256:" + "d" * 64, features, 0, {})
    by_entity = Activation("e", "gale", 1, digest, "squalls", "sha256:" + "e" * 64, features, 0, {})
    board = Board()
    board.follow({by_entity.feature_definition: Followed("squalls", b"{}", {"wind": "FP64", "station": "BYTES"})})
    board.swap([by_tensor, by_entity])
    board.load(digest, Model(onnx, 3))
    with socket.socket() as rest:
        rest.bind((HOST, 0))
        crew = Crew(posts(settings, rest.getsockname()[1]))

        async def used() -> list[dict[str, object]]:
            return [wire.used(each) for each in await crew.usage()]

        app = application(Health(), [metrics_of(crew), *Api(Managed(board, used, crew.faults)).routes()], error)
        pages = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        serving = asyncio.create_task(pages.serve([rest]))
        async with running(crew.run()):
            crew.route(board)
            await until(lambda: crew.fault() is None and all(worker.serial for worker in crew._workers))
            yield f"{HOST}:{settings.http_port}", f"{HOST}:{settings.grpc_port}"
        pages.should_exit = True
        await serving


@asynccontextmanager
async def dev(folder: Path) -> AsyncIterator[tuple[str, str]]:
    """Serve the models of a folder with the command."""
    models.write(folder)
    command = (Path(sys.executable).with_name("mainstem"), "serve", "--dev", folder)
    process = await asyncio.create_subprocess_exec(*command, "--http-port", "0", "--grpc-port", "0", stderr=PIPE)
    assert process.stderr is not None
    async with asyncio.timeout(60):
        while not (line := (await process.stderr.readline()).decode()).startswith("HTTP on "):
            assert line, "the command ended"
    addresses = line.split(";")[0].split(", ")
    yield addresses[0].removeprefix("HTTP on "), addresses[1].removeprefix("gRPC on ")
    process.terminate()
    assert await process.wait() == 0


@asynccontextmanager
async def dev_fast(folder: Path) -> AsyncIterator[tuple[str, str]]:
    """Serve the same models by gRPC on our own frames, and by nothing else."""
    models.write(folder)
    with closing(Folder(folder)) as served:
        async with grpc_fast.door(Rpc(served, deadline_s=60.0)).listening(HOST, 0) as port:
            yield "", f"{HOST}:{port}"


@dataclass
class Probe:
    """The process that holds the clients."""

    process: Process

    async def try_(self, client: str, text: str) -> str | None:
        """Return what is wrong with what a sentence says, seen through a client."""
        out, told = self.process.stdin, self.process.stdout
        assert out is not None
        assert told is not None
        out.write(json.dumps([client, text]).encode() + b"\n")
        async with asyncio.timeout(_CHECK_S):
            found: str | None = json.loads(await told.readline())
        return found


@pytest.fixture(scope="session")
async def probes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Probe]]:
    """Serve all targets, each with its probe."""
    folder = tmp_path_factory.mktemp
    served = {
        MANAGED: managed(folder(MANAGED)),
        DEV: dev(folder(DEV)),
        FAST[MANAGED]: managed(folder(FAST[MANAGED]), "fast"),
        FAST[DEV]: dev_fast(folder(FAST[DEV])),
    }
    async with AsyncExitStack() as stack:
        found = {name: await probe(*await stack.enter_async_context(one)) for name, one in served.items()}
        yield found
        for one in found.values():
            assert one.process.stdin is not None
            one.process.stdin.close()
            await one.process.wait()


async def probe(http_address: str, grpc_address: str) -> Probe:
    """Start a probe for the addresses of a server."""
    arguments = ("-m", "tests.conformance.probe", http_address, grpc_address)
    return Probe(
        await asyncio.create_subprocess_exec(
            sys.executable, *arguments, stdin=PIPE, stdout=PIPE, cwd=CHECKOUT, limit=_LINE_BYTES
        )
    )
