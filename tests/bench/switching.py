"""Direct calls over HTTP while the versions that answer them are switched all the time: a failed one ends the run."""

import asyncio
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Final

import psutil
from tests.bench.clock import OWN, RUNS
from tests.bench.doors import CONNECTIONS, SECONDS, load
from tests.bench.goals import Goal, Outcome
from tests.bench.processes import Server
from tests.bench.worker import PATH, WIDTH, activation, settings

from mainstem.serving.board import Board
from mainstem.serving.crew import Crew, posts
from mainstem.storage.artifacts import Artifacts
from mainstem.testkit.waiting import running, until

_EVERY_S: Final = 0.005
_BODY: Final = json.dumps(
    {"inputs": [{"name": "features", "datatype": "FP64", "shape": [1, WIDTH], "data": [0.5] * WIDTH}]}
).encode()


async def measure() -> list[Outcome]:
    """Return what callers get of a worker that is told another version every few milliseconds."""
    with tempfile.TemporaryDirectory() as folder:
        place = settings(Path(folder))
        artifacts = Artifacts(place.artifacts)
        versions = [activation(artifacts, version) for version in (1, 2)]
        boards = [Board(), Board()]
        for board, order in zip(boards, (versions, versions[::-1]), strict=True):
            board.swap(order)
        crew = Crew(posts(place, 9))
        async with running(crew.run()):
            crew.route(boards[0])
            await until(lambda: crew.fault() is None)
            async with _switching(crew, boards) as switches:
                server = Server(os.getpid(), place.http_port, place.grpc_port)
                asked = PATH, CONNECTIONS, SECONDS, 0
                bursts = [await load("tests.bench.pump", server, server.http, asked, _BODY) for _ in range(RUNS)]
            (worker,) = psutil.Process().children()
            taken = worker.memory_info().rss
    answered = median(burst.per_second for burst in bursts)
    return [
        Outcome("answers a second while versions are switched", "", answered, "", Goal(10_000, at_least=True)),
        Outcome("switches a second meanwhile", "", switches["a second"], "", Goal(100, at_least=True)),
        Outcome("resident memory of a worker that looks nothing up", "", taken / (1 << 20), "MiB", Goal(100)),
    ]


@asynccontextmanager
async def _switching(crew: Crew, boards: Sequence[Board]) -> AsyncIterator[dict[str, float]]:
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
