"""The supervisor with small child programs."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from mainstem.cli.local import ports
from mainstem.cli.local.backoff import Backoff
from mainstem.cli.local.errors import CrashLoop, NotRunning, SetupFailed
from mainstem.cli.local.process import Process, Program, leashed, run_to_end
from mainstem.cli.local.state import Alive, Status
from mainstem.cli.local.supervisor import Supervisor

QUICK = Backoff(first=0.01, limit=0.02)
#: Writes its name when it starts and again when it is asked to stop.
STAYS = """
import signal, sys
def note(word):
    with open("{journal}", "a") as journal: journal.write(word + " {name}\\n")
signal.signal(signal.SIGTERM, lambda *_: (note("stop"), sys.exit()))
note("start")
print("{name} is up", flush=True)
while True: signal.pause()
"""


async def yes() -> bool:
    return True


def program(name: str, script: str, probe: Callable[[], Awaitable[bool]] = yes, **more: object) -> Program:
    return Program(name, leashed((sys.executable, "-S", "-c", script)), probe, **more)  # type: ignore[arg-type]


@asynccontextmanager
async def supervised(folder: Path, *programs: Program, backoff: Backoff = QUICK) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(programs, folder, backoff)
    supervisor.start()
    try:
        async with asyncio.timeout(10):
            yield supervisor
    finally:
        await supervisor.stop()


def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


class Journal:
    """What the children wrote, in order."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "journal"

    def stays(self, name: str, **more: object) -> Program:
        """A program that stays up; it is ready when it has written."""

        async def has_started() -> bool:
            return f"start {name}" in self.lines()

        script = STAYS.format(name=name, journal=self.path)
        return program(name, script, **{"probe": has_started, **more})  # type: ignore[arg-type]

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path)


async def test_a_program_waits_until_what_it_needs_answers(journal: Journal, tmp_path: Path) -> None:
    answers = asyncio.Event()

    async def database_answers() -> bool:
        return answers.is_set()

    database = journal.stays("database", probe=database_answers)
    async with supervised(tmp_path, journal.stays("api", needs=("database",)), database) as supervisor:
        await asyncio.to_thread(until, lambda: journal.lines() == ["start database"])
        assert supervisor["api"].status is Status.WAITING
        answers.set()
        await supervisor.ready("api")
    assert journal.lines()[:2] == ["start database", "start api"]


async def test_programs_stop_before_what_they_need(journal: Journal, tmp_path: Path) -> None:
    chain = [journal.stays("a"), journal.stays("b", needs=("a",)), journal.stays("c", needs=("b",))]
    async with supervised(tmp_path, *chain) as supervisor:
        await supervisor.ready("c")
    assert journal.lines()[3:] == ["stop c", "stop b", "stop a"]


async def test_a_program_that_ends_is_started_again(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    script = (
        f"import os, signal\nif not os.path.exists('{mark}'): open('{mark}', 'w'); raise SystemExit(3)\nsignal.pause()"
    )

    async def second_run() -> bool:
        return mark.exists() and supervisor["flaky"].restarts == 1

    async with supervised(tmp_path, program("flaky", script, second_run)) as supervisor:
        await supervisor.ready("flaky")
        assert supervisor["flaky"].restarts == 1


async def test_a_crash_loop_stops_everything_and_shows_the_last_lines_of_the_culprit(
    journal: Journal, tmp_path: Path
) -> None:
    culprit = program("culprit", "print('no such table'); raise SystemExit(1)")
    async with supervised(tmp_path, journal.stays("innocent"), culprit) as supervisor:
        with pytest.raises(CrashLoop, match=r"culprit ended 5 times within 60 s(?s:.*)no such table") as caught:
            await supervisor.wait()
    assert "innocent" not in str(caught.value)
    assert [process.pid for process in supervisor.processes] == [None, None]


async def test_only_the_last_twenty_lines_are_shown(tmp_path: Path) -> None:
    talker = program("talker", "print(*range(100), sep='\\n')")
    async with supervised(tmp_path, talker) as supervisor:
        with pytest.raises(CrashLoop) as caught:
            await supervisor.wait()
    assert [line.strip() for line in str(caught.value).splitlines()[1:]] == [str(number) for number in range(80, 100)]


async def test_a_kill_that_was_asked_for_is_no_crash(journal: Journal, tmp_path: Path) -> None:
    once = Backoff(first=0.01, loop_count=1)
    async with supervised(tmp_path, journal.stays("victim"), backoff=once) as supervisor:
        await supervisor.ready("victim")
        for _ in range(3):
            supervisor["victim"].kill()
            await supervisor.ready("victim")
        assert supervisor["victim"].restarts == 3


async def test_a_killed_process_is_not_ready_until_its_next_run_answers(journal: Journal, tmp_path: Path) -> None:
    async with supervised(tmp_path, journal.stays("victim")) as supervisor:
        await supervisor.ready("victim")
        before = supervisor["victim"].pid
        supervisor["victim"].kill()
        await supervisor.ready("victim")
        assert supervisor["victim"].pid not in (None, before)


async def test_a_process_that_ignores_the_stop_signal_is_killed_after_its_grace(tmp_path: Path) -> None:
    mark = tmp_path / "deaf"
    script = (
        f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nopen('{mark}', 'w')\nwhile True: signal.pause()"
    )

    async def is_deaf() -> bool:
        return mark.exists()

    async with supervised(tmp_path, program("deaf", script, is_deaf, grace=0.05)) as supervisor:
        await supervisor.ready("deaf")
    assert supervisor["deaf"].status is Status.STOPPED


async def test_a_preparation_that_fails_stops_everything_and_says_why(journal: Journal, tmp_path: Path) -> None:
    async def prepare() -> None:
        await run_to_end((sys.executable, "-S", "-c", "raise SystemExit('disk full')"), "formatting")

    async with supervised(tmp_path, journal.stays("other"), program("broken", "", prepare=prepare)) as supervisor:
        with pytest.raises(SetupFailed, match=r"formatting failed with exit code 1:\n  disk full"):
            await supervisor.ready("broken")


async def test_a_probe_with_a_fault_stops_everything_instead_of_waiting_for_ever(tmp_path: Path) -> None:
    async def faulty() -> bool:
        raise LookupError("no such door")

    async with supervised(tmp_path, program("any", "import signal; signal.pause()", faulty)) as supervisor:
        with pytest.raises(ExceptionGroup) as caught:
            await supervisor.ready("any")
    assert caught.group_contains(LookupError, match="no such door")
    assert supervisor["any"].pid is None


async def test_waiting_for_a_platform_that_is_stopped_meanwhile_ends(journal: Journal, tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    async with supervised(tmp_path, journal.stays("slow", probe=never)) as supervisor:
        waiting = asyncio.create_task(supervisor.ready("slow"))
        await asyncio.to_thread(until, lambda: journal.lines() == ["start slow"])
        await supervisor.stop()
        with pytest.raises(NotRunning, match="stopped before slow became ready"):
            await waiting


async def test_what_a_process_started_goes_with_it(tmp_path: Path) -> None:
    mark = tmp_path / "grandchild"
    script = (
        "import signal, subprocess, sys\n"
        f"worker = subprocess.Popen([sys.executable, '-S', '-c', 'import signal; signal.pause()'])\n"
        f"open('{mark}', 'w').write(str(worker.pid))\n"
        "signal.pause()"
    )

    async def has_started() -> bool:
        return bool(mark.exists() and mark.read_text())

    async with supervised(tmp_path, program("parent", script, has_started)) as supervisor:
        await supervisor.ready("parent")
        worker = Alive.of(int(mark.read_text()))
        supervisor["parent"].kill()
        await supervisor.ready("parent")
        assert worker is not None
        await asyncio.to_thread(until, lambda: not worker.runs())


#: Listens on the port that it is given, or ends.
SERVER = """
import signal, socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
signal.pause()
"""


def server(port: int) -> Program:
    """A program whose probe believes whoever answers."""
    return Program("server", leashed((sys.executable, "-S", "-c", SERVER, str(port))), yes, ports=(port,))


@pytest.fixture
def neighbour() -> Iterator[int]:
    """A port that another program took a moment ago."""
    with socket.create_server((ports.HOST, 0)) as other:
        yield other.getsockname()[1]


async def test_a_program_that_lost_its_port_to_a_neighbour_gets_another(neighbour: int, tmp_path: Path) -> None:
    other = ports.anywhere(["other"])["other"]
    supervisor = Supervisor([server(neighbour)], tmp_path, QUICK, elsewhere=lambda _: [server(other)])
    supervisor.start()
    await supervisor.ready("server")
    pid = supervisor["server"].pid
    assert pid is not None
    assert ports.listens(pid, [other])
    await supervisor.stop()


async def test_the_answer_of_a_neighbour_makes_nothing_ready(neighbour: int, tmp_path: Path) -> None:
    deaf = program("deaf", "import signal; signal.pause()", ports=(neighbour,))
    asked = asyncio.Event()

    async def neighbour_answers() -> bool:
        if supervisor["deaf"].status is Status.STARTING:
            asked.set()
        return True

    async with supervised(tmp_path, replace(deaf, probe=neighbour_answers)) as supervisor:
        for _ in range(3):
            asked.clear()
            await asked.wait()
        assert supervisor["deaf"].status is Status.STARTING


async def test_a_program_without_another_port_gives_up_in_the_end(neighbour: int, tmp_path: Path) -> None:
    async with supervised(tmp_path, server(neighbour)) as supervisor:
        with pytest.raises(CrashLoop, match="Address already in use"):
            await supervisor.wait()


def test_a_port_that_is_known_to_others_is_not_given_up(neighbour: int, tmp_path: Path) -> None:
    process = Process(server(neighbour), tmp_path / "log", lambda: None)
    assert process.lost_ports == [neighbour]
    process.become(Status.READY)
    assert process.lost_ports == []


async def test_a_preparation_that_is_cut_off_leaves_nothing_behind(tmp_path: Path) -> None:
    mark = tmp_path / "worker"
    worker = "import os, signal, sys; open(sys.argv[1], 'w').write(str(os.getpid())); signal.pause()"
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {worker!r}, {str(mark)!r}])"
    task = asyncio.create_task(run_to_end((sys.executable, "-S", "-c", script), "formatting"))
    await asyncio.to_thread(until, lambda: mark.exists() and mark.read_text() != "")
    run = Alive.of(int(mark.read_text()))
    task.cancel()
    await asyncio.wait((task,))
    assert run is not None
    await asyncio.to_thread(until, lambda: not run.runs())


def test_a_leash_is_on_before_the_program_runs() -> None:
    of_another = [word if word != str(os.getpid()) else "1" for word in leashed(("echo", "ran"))]
    assert subprocess.run(leashed(("echo", "ran")), capture_output=True, check=True).stdout == b"ran\n"
    assert subprocess.run(of_another, capture_output=True, check=False).stdout == b""


SUPERVISOR_OF_TWO = """
import asyncio, sys
from pathlib import Path
from mainstem.cli.local.process import Program, leashed
from mainstem.cli.local.supervisor import Supervisor
async def yes(): return True
async def main():
    child = leashed((sys.executable, "-S", "-c", "import signal; signal.signal(15, signal.SIG_IGN); signal.pause()"))
    supervisor = Supervisor([Program(name, child, yes) for name in "ab"], Path(sys.argv[1]))
    supervisor.start()
    await supervisor.ready("a", "b")
    print(*(process.pid for process in supervisor.processes), flush=True)
    await supervisor.wait()
asyncio.run(main())
"""


def test_a_supervisor_that_is_killed_leaves_no_orphans(tmp_path: Path) -> None:
    command = (sys.executable, "-c", SUPERVISOR_OF_TWO, str(tmp_path))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        children = [Alive.of(int(pid)) for pid in supervisor.stdout.readline().split()]
        os.kill(supervisor.pid, signal.SIGKILL)
    assert len(children) == 2
    until(lambda: not any(child and child.runs() for child in children))
