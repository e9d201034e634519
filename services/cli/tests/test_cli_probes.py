"""Probes and the start-up list."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import typer

from mainstem.cli.commands.platform import status
from mainstem.cli.local import home, probes, session
from mainstem.cli.local.checklist import Checklist
from mainstem.cli.local.home import Home
from mainstem.cli.local.ports import HOST
from mainstem.cli.local.session import rows
from mainstem.cli.local.state import Alive, PlatformState, ProcessState, Status
from mainstem.cli.output import Format


@asynccontextmanager
async def answering(line: bytes) -> AsyncIterator[int]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        writer.write(line if request.startswith(b"GET /readyz HTTP/1.1\r\n") else b"HTTP/1.1 404 Not Found\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, HOST, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("line", "ready"),
    [(b"HTTP/1.1 200 OK\r\n\r\n", True), (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", False), (b"", False)],
)
async def test_a_service_is_ready_when_readyz_answers_200(line: bytes, ready: bool) -> None:
    async with answering(line) as port:
        assert await probes.answers_ready(port) is ready


STOPPED = b'HTTP/1.1 503 No\r\n\r\n{"ready": false, "faults": {"feature set buying": "records are gone"}}'


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (b'HTTP/1.1 200 OK\r\n\r\n{"ready": true, "faults": {}}', {}),
        (STOPPED, {"feature set buying": "records are gone"}),
        (b"HTTP/1.1 503 No\r\n\r\nbusy", None),
        (b'HTTP/1.1 503 No\r\n\r\n{"faults": "many"}', None),
        (b"", None),
    ],
)
async def test_a_service_that_is_not_ready_says_why(answer: bytes, found: dict[str, str] | None) -> None:
    async with answering(answer) as port:
        assert await probes.faults(port) == found


@pytest.mark.parametrize("probe", [probes.accepts, probes.answers_ready])
async def test_a_closed_port_is_an_os_error(probe: Callable[[int], object]) -> None:
    async with answering(b"") as port:
        pass
    with pytest.raises(OSError, match=str(port)):
        await probe(port)  # type: ignore[misc]


def state(status: Status) -> PlatformState:
    process = ProcessState(name="kafka", status=status, address="127.0.0.1:19092", restarts=0, run=None)
    return PlatformState(supervisor=Alive(pid=1, started=0.0), processes=(process,))


def test_without_a_terminal_each_change_is_one_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Checklist() as checklist:
        for status in (Status.PREPARING, Status.PREPARING, Status.STARTING, Status.READY):
            checklist.update(state(status))
    lines = [line.split() for line in capsys.readouterr().err.splitlines()]
    assert [line[:2] for line in lines] == [["kafka", "preparing"], ["kafka", "starting"], ["kafka", "ready"]]
    assert {line[-1] for line in lines} == {"127.0.0.1:19092"}


def test_what_comes_after_the_start_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with Checklist() as checklist:
        pass
    checklist.update(state(Status.STOPPED))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("status", "told"), [(Status.READY, "not ready"), (Status.STARTING, "starting"), (Status.RESTARTING, "restarting")]
)
async def test_a_process_that_answers_and_is_not_ready_is_shown_with_its_reason(status: Status, told: str) -> None:
    async with answering(STOPPED) as port:
        ours = ProcessState(
            name="features", status=status, address=f"{HOST}:{port}", restarts=0, run=Alive.of(os.getpid())
        )
        (row,) = await asyncio.to_thread(rows, PlatformState(supervisor=Alive(pid=1, started=0.0), processes=(ours,)))
    assert (row["status"], row["reason"]) == (told, "feature set buying: records are gone")


async def test_a_port_where_a_neighbour_answers_makes_a_process_silent() -> None:
    with subprocess.Popen((sys.executable, "-S", "-c", "input()"), stdin=subprocess.PIPE) as child:  # noqa: ASYNC220
        run = Alive.of(child.pid)
    async with answering(b"") as port:
        ours = ProcessState(name="kafka", status=Status.READY, address=f"{HOST}:{port}", restarts=0, run=run)
        (row,) = await asyncio.to_thread(rows, PlatformState(supervisor=Alive(pid=1, started=0.0), processes=(ours,)))
    assert (row["status"], row["reason"]) == ("silent", None)


def test_a_reason_stands_below_the_table_of_processes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(home, "find_home", lambda _: Home.at(tmp_path))
    monkeypatch.setattr(session, "require_running", lambda _: state(Status.READY))
    described = {"process": "features", "status": "not ready", "reason": "feature set buying: records are gone"}
    monkeypatch.setattr(session, "rows", lambda _: [described])
    with pytest.raises(typer.Exit):
        status()
    told = capsys.readouterr()
    assert [line.split() for line in told.out.splitlines()] == [["process", "status"], ["features", "not", "ready"]]
    assert told.err == "features: not ready: feature set buying: records are gone\n"
    with pytest.raises(typer.Exit):
        status(Format.NDJSON)
    told = capsys.readouterr()
    assert (json.loads(told.out), told.err) == (described, "")


HANGS_UP = """
import asyncio, os, signal
from mainstem.cli.local.signals import first_to_stop
async def main():
    asked = first_to_stop()
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        os.kill(os.getpid(), number)
    print(int(await asked))
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("before", "first"), [(("env", "--default-signal=HUP"), signal.SIGHUP), (("nohup",), signal.SIGTERM)]
)
def test_the_first_signal_counts_and_under_nohup_the_end_of_the_terminal_does_not(
    before: tuple[str, ...], first: signal.Signals
) -> None:
    command = (*before, sys.executable, "-c", HANGS_UP)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    assert done.stdout == f"{int(first)}\n"


@pytest.mark.parametrize(("status", "ready"), [(Status.READY, True), (Status.STARTING, False)])
def test_a_platform_is_ready_when_all_its_processes_are(status: Status, ready: bool) -> None:
    assert state(status).ready is ready
