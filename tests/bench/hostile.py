"""What neighbours wait while callers that mean no good are at the same worker: each attack of its tests, one by one."""

import asyncio
import json
import os
import resource
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Final

from services.serving.tests.serving_attacks import ATTACKS, IDLE, body, repeated
from tests.bench.clock import OTHERS, OWN
from tests.bench.crowd import hammer
from tests.bench.goals import Goal, Outcome
from tests.bench.processes import HOST
from tests.bench.stage import CHECKOUT
from tests.bench.worker import activation, settings

from mainstem.serving.board import Board
from mainstem.serving.crew import Crew, posts
from mainstem.storage.artifacts import Artifacts
from mainstem.testkit.waiting import running, until

_PATH: Final = "/v2/models/storm/infer"
_ROUNDS: Final = 3
#: Neighbours ask so often, for so long.
_RATE, _SECONDS = 500, 1.5
_BEGUN: Final = "begun"
_IDLE: Final = f"{IDLE:,} that do nothing"


async def measure() -> list[Outcome]:
    """Return how many times as long neighbours wait, by attack: p99, the median of rounds with and without."""
    with tempfile.TemporaryDirectory() as folder:
        place = settings(Path(folder))
        (asked := Path(folder, "body")).write_bytes(body(1))
        board = Board()
        board.swap([activation(Artifacts(place.artifacts), 1, model="storm", width=3)])
        crew = Crew(posts(place, 9))
        async with running(crew.run()):
            crew.route(board)
            await until(lambda: crew.fault() is None)
            url = f"http://{HOST}:{place.http_port}{_PATH}"
            await _p99(url, asked)
            return [await _beside(kind, place.http_port, url, asked) for kind in (*ATTACKS, _IDLE)]


async def _beside(kind: str, port: int, url: str, asked: Path) -> Outcome:
    times = list[float]()
    for _ in range(_ROUNDS):
        alone = await _p99(url, asked)
        async with _attacker(kind, port):
            times.append(await _p99(url, asked) / alone)
    return Outcome(f"p99 of neighbours, {kind}", "nobody else", median(times), "times", Goal(2))


async def _p99(url: str, asked: Path) -> float:
    found = await hammer(url, asked, "-c", 8, "-s", _SECONDS, "-r", _RATE, "--budget", "errors=0")
    p99: float = found["p99"]
    return p99


@asynccontextmanager
async def _attacker(kind: str, port: int) -> AsyncIterator[None]:
    """Have an attack go on while the block runs, from the core of the callers, whom it lets go first."""
    os.sched_setaffinity(0, OTHERS)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.hostile", kind, str(port)), stdout=asyncio.subprocess.PIPE, cwd=CHECKOUT
    )
    os.sched_setaffinity(0, OWN)
    assert process.stdout is not None
    await process.stdout.readline()
    try:
        yield
        if process.returncode is not None:
            raise RuntimeError(f"{kind} ended by itself, with {process.returncode}")
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def attack(kind: str, port: int) -> None:
    """Attack until killed, whenever nobody else wants the core: who measures is not kept from it."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    if kind == _IDLE:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        opened = [await asyncio.open_connection(HOST, port) for _ in range(IDLE)]
        print(_BEGUN, len(opened), flush=True)
        await asyncio.Event().wait()
    does, callers = ATTACKS[kind]
    async with asyncio.TaskGroup() as group:  # what a caller finds wrong ends it
        for _ in range(callers):
            group.create_task(repeated(does, lambda: asyncio.open_connection(HOST, port)))
        print(_BEGUN, flush=True)


if __name__ == "__main__":
    if sys.argv[1:]:
        asyncio.run(attack(sys.argv[1], int(sys.argv[2])))
    else:
        os.sched_setaffinity(0, OWN)
        print(json.dumps([outcome.document() for outcome in asyncio.run(measure())]))
