"""A worker on one core that is asked three times what it can answer, from the other core."""

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any, Final

import psutil
from tests.bench.clock import OTHERS, OWN
from tests.bench.goals import Goal, Outcome
from tests.bench.processes import HOST
from tests.bench.stage import CHECKOUT
from tests.bench.worker import PATH, WIDTH, activation, settings

from mainstem.serving.board import Board
from mainstem.serving.crew import Crew, posts
from mainstem.storage.artifacts import Artifacts
from mainstem.testkit.waiting import running, until

#: Rows of a call and trees of the model: a call takes so long that the load tool can ask for three times as many.
_ROWS: Final = 160
_TREES: Final = 500
_CONNECTIONS: Final = 2_000
_SECONDS: Final = 4
_ROUNDS: Final = 3
_DEADLINE_S: Final = 1.0
_BODY: Final = json.dumps(
    {
        "inputs": [
            {"name": "features", "datatype": "FP64", "shape": [_ROWS, WIDTH], "data": [0.5] * (_ROWS * WIDTH)},
        ]
    }
)


async def measure() -> list[Outcome]:
    """Return what callers get of a crowd, beside what is there for a few."""
    with tempfile.TemporaryDirectory() as folder:
        place = settings(Path(folder))
        (body := Path(folder, "body")).write_text(_BODY)
        board = Board()
        board.swap([activation(Artifacts(place.artifacts), 1, _TREES)])
        crew = Crew(posts(place, 9))
        async with running(crew.run()):
            crew.route(board)
            await until(lambda: crew.fault() is None)
            (worker,) = psutil.Process().children()
            url = f"http://{HOST}:{place.http_port}{PATH}"
            rounds = [await _round(worker, url, body) for _ in range(_ROUNDS)]
    goodput, refused, refused_p99, lost, grown = (median(figures) for figures in zip(*rounds, strict=True))
    return [
        Outcome("answers a second", "the most it gives", goodput, "times", Goal(0.9, at_least=True)),
        Outcome("calls refused in three times what it can do", "", refused, "", Goal(1, at_least=True)),
        Outcome("p99 of refusals", "the deadline", refused_p99 / _DEADLINE_S, "times", Goal(1)),
        Outcome("neither answered nor refused", "", lost, "", Goal(0)),
        Outcome("memory that it took", "", grown / (1 << 20), "MiB", Goal(160)),
    ]


async def _round(worker: psutil.Process, url: str, body: Path) -> tuple[float, float, float, float, float]:
    """Ask for what it can do, then for three times that; return what became of it."""
    peak = await hammer(url, body, "-c", 8, "-s", _SECONDS)
    before = worker.memory_info().rss
    over = await hammer(url, body, "-c", _CONNECTIONS, "-s", _SECONDS, "-r", 3 * peak["rate"])
    grown = worker.memory_info().rss - before
    statuses = over["statuses"]
    refused = statuses.get("503", {"p99": 0.0, "count": 0})
    lost = over["requests"] - statuses["200"]["count"] - refused["count"]
    return over["rate"] / peak["rate"], refused["count"], refused["p99"], lost, grown


async def hammer(url: str, body: Path, *arguments: object) -> dict[str, Any]:
    """Have the load tool ask, from the other core; return what it saw."""
    os.sched_setaffinity(0, OTHERS)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(CHECKOUT / "tools" / "hammer.py"), url, "--body", str(body), "-o", "json"),
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
    )
    os.sched_setaffinity(0, OWN)
    out, _ = await process.communicate()
    found: dict[str, Any] = json.loads(out)
    return found


if __name__ == "__main__":
    os.sched_setaffinity(0, OWN)
    print(json.dumps([outcome.document() for outcome in asyncio.run(measure())]))
