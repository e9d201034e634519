"""The load tool counts what it sent, and what callers waited; a server that stands still cannot hide it."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mainstem.direct import Call, Door, Handler, Upstream

HAMMER = Path(__file__).parents[2] / "tools" / "hammer.py"
HOST = "127.0.0.1"


class Server:
    """Answers at once, refuses each tenth at `/flaky`, and stands still for a while once at `/pausing`."""

    def __init__(self) -> None:
        self.answered = 0
        self.paused = False
        self.port = 0
        self.door = Door(self.route, Upstream(HOST, 9))

    def route(self, _: bytes, path: bytes, __: object) -> Handler | None:
        return {b"/plain": self.plain, b"/flaky": self.flaky, b"/pausing": self.pausing}.get(path)

    def plain(self, call: Call, status: int = 200) -> None:
        self.answered += 1
        call.answer(status, (), b"{}")

    def flaky(self, call: Call) -> None:
        self.plain(call, 503 if self.answered % 10 == 9 else 200)

    def pausing(self, call: Call) -> None:
        if self.answered > 50 and not self.paused:
            self.paused = True
            time.sleep(0.5)  # the whole server stands still: that is what is to be seen
        self.plain(call)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    async with server.door.listening(HOST, 0) as port:
        server.port = port
        yield server


async def hammer(server: Server, path: str, *arguments: object) -> tuple[int, dict[str, Any], str]:
    command = [
        sys.executable,
        "-S",  # Python alone
        str(HAMMER),
        f"http://{HOST}:{server.port}{path}",
        "-o",
        "json",
        *map(str, arguments),
    ]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, complaint = await process.communicate()
    return process.returncode or 0, json.loads(out) if out else {}, complaint.decode()


async def test_every_request_is_counted_once(server: Server, tmp_path: Path) -> None:
    (tmp_path / "body").write_text("{}")
    code, found, _ = await hammer(server, "/plain", "-s", 0.5, "-c", 4, "--body", tmp_path / "body")
    assert (code, found["errors"]) == (0, 0)
    assert found["requests"] == found["statuses"]["200"]["count"] == server.answered > 50
    assert 0 < found["p50"] <= found["p90"] <= found["p99"] <= found["p999"] <= found["max"] < 5


async def test_refusals_are_errors_and_budgets_are_kept_or_told(server: Server) -> None:
    code, found, complaint = await hammer(
        server, "/flaky", "-s", 0.3, "-c", 2, "--budget", "errors=0", "--budget", "p99=10s", "--budget", "rate=1e9"
    )
    assert code == 1
    assert found["errors"] == found["statuses"]["503"]["count"] > 0
    assert complaint.count("over budget:") == 2
    assert "errors is" in complaint
    assert "rate is" in complaint


async def test_at_a_rate_a_pause_counts_for_all_who_would_have_come(server: Server) -> None:
    _, found, _ = await hammer(server, "/pausing", "-s", 2, "-r", 200, "-c", 8)
    assert found["requests"] == 400
    assert found["max"] > 0.45
    assert found["p90"] > 0.1  # a quarter of all were due while it stood still
    server.paused, server.answered = False, 0
    _, hidden, _ = await hammer(server, "/pausing", "-s", 2, "-c", 8)
    assert hidden["max"] > 0.45
    assert hidden["p90"] < 0.1  # in a closed loop eight callers saw it, and those who answered to speed outnumber them


async def test_nobody_listening_is_an_error_each_time(server: Server) -> None:
    server.port = 9
    code, found, _ = await hammer(server, "/", "-s", 0.2, "-r", 50, "-c", 2, "--budget", "errors=0")
    assert (code, found["errors"]) == (1, found["requests"])
    assert found["statuses"]["ConnectionRefusedError"]["count"] == 10


async def test_where_no_request_was_made_no_budget_is_kept(server: Server) -> None:
    budgets = ("--budget", "errors=0", "--budget", "requests=0")
    code, found, complaint = await hammer(server, "/plain", "-r", 1, "-s", 0.5, *budgets)
    assert (code, found["requests"], server.answered) == (1, 0, 0)
    assert complaint.count("is not known, since no request was made; the budget is 0") == 2


@pytest.mark.parametrize("budget", ["speed=1", "p99", "p99=", "p99=1xs", "errors=nan", "errors=1ms"])
async def test_what_is_no_budget_is_told_with_those_there_are_before_anybody_is_asked(
    server: Server, budget: str
) -> None:
    code, _, complaint = await hammer(server, "/plain", "-s", 0.1, "--budget", budget)
    assert (code, server.answered) == (2, 0)
    assert "there are requests, errors, rate, p50" in complaint


@pytest.mark.parametrize("said", ["-c 0", "-c -1", "-c 1.5", "-r 0", "-r -1", "-r nan", "-s 0", "-s inf"])
async def test_no_connection_no_rate_and_no_time_are_no_way_to_ask(server: Server, said: str) -> None:
    code, _, complaint = await hammer(server, "/plain", "-s", 0.1, *said.split())
    assert (code, server.answered) == (2, 0)
    assert f"{said.split()[1]!r} is no " in complaint
