"""Direct calls over HTTP while the versions that answer them are switched all the time: a failed one ends the run."""

import asyncio
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from tests.bench.clock import OWN
from tests.bench.doors import CONNECTIONS, SECONDS, load
from tests.bench.goals import Goal, Outcome
from tests.bench.processes import Server

from mainstem.cli.local.ports import anywhere
from mainstem.serving.board import Board
from mainstem.serving.crew import Crew, posts
from mainstem.serving.domain import Activation
from mainstem.serving.settings import Settings
from mainstem.storage.artifacts import Artifacts
from mainstem.testkit.waiting import running, until
from mainstem.training.onnx_export import to_onnx

WIDTH: Final = 15
_EVERY_S: Final = 0.005
_BODY: Final = json.dumps(
    {"inputs": [{"name": "features", "datatype": "FP64", "shape": [1, WIDTH], "data": [0.5] * WIDTH}]}
).encode()


async def measure() -> list[Outcome]:
    """Return what callers get of a worker that is told another version every few milliseconds."""
    with tempfile.TemporaryDirectory() as folder:
        ports = anywhere({"http": 0, "grpc": 0})
        settings = Settings(
            kafka="nowhere:1",
            database_url="postgresql://nowhere",
            artifacts=Path(folder, "artifacts"),
            spool_bytes=8 << 30,
            http_port=ports["http"],
            grpc_port=ports["grpc"],
        )
        boards = _boards(Artifacts(settings.artifacts))
        crew = Crew(posts(settings, 9))
        async with running(crew.run()):
            crew.route(boards[0])
            await until(lambda: crew.fault() is None)
            async with _switching(crew, boards) as switches:
                server = Server(os.getpid(), ports["http"], ports["grpc"])
                asked = "/v2/models/m/infer", CONNECTIONS, 3 * SECONDS, 0
                burst = await load("tests.bench.pump", server, server.http, asked, _BODY)
    return [
        Outcome("answers a second while versions are switched", "", burst.per_second, "", Goal(10_000, at_least=True)),
        Outcome("switches a second meanwhile", "", switches["a second"], "", Goal(100, at_least=True)),
    ]


def _boards(artifacts: Artifacts) -> list[Board]:
    """Return boards on which each of two versions answers after the other."""
    random = np.random.default_rng(1)
    x = random.normal(size=(2_000, WIDTH))
    versions = []
    for version in (1, 2):
        fitted = HistGradientBoostingClassifier(max_iter=100).fit(x, x[:, version] > 0)
        onnx = artifacts.put(to_onnx(fitted))
        versions.append(Activation(f"d{version}", "m", version, onnx, "set", "sha256:f", ("x",) * WIDTH, 0, {}))
    found = [Board(), Board()]
    for board, order in zip(found, (versions, versions[::-1]), strict=True):
        board.swap(order)
    return found


@asynccontextmanager
async def _switching(crew: Crew, boards: list[Board]) -> AsyncIterator[dict[str, float]]:
    """Switch while the block runs; then it is known how often."""
    done, began, found = 0, time.perf_counter(), dict[str, float]()

    async def switch() -> None:
        nonlocal done
        while True:
            await asyncio.sleep(_EVERY_S)
            done += 1
            crew.route(boards[done % 2])

    async with running(switch()):
        yield found
        found["a second"] = done / (time.perf_counter() - began)


if __name__ == "__main__":
    os.sched_setaffinity(0, OWN)
    print(json.dumps([outcome.document() for outcome in asyncio.run(measure())]))
