"""A signal at any moment of a start ends everything within five seconds, and the next start works."""

import os
import pty
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import psutil
import pytest

from mainstem.cli.local.state import PlatformState, Status

pytestmark = [pytest.mark.real, pytest.mark.fault]

CACHE = Path(__file__).parents[3] / ".mainstem" / "cache"
MAINSTEM = str(Path(sys.executable).parent / "mainstem")
WITHIN_S = 5.0
#: Seconds from the start of the command to the signal; everything is up after about seven.
MOMENTS = [
    (round(Random(seed).uniform(0.0, 8.0), 2), number)
    for seed, number in enumerate((signal.SIGINT, signal.SIGTERM) * 3)
]
#: A demo that starts a program of its own and waits for ever.
DEMO = """
import subprocess, sys
print("plays", flush=True)
subprocess.run((sys.executable, "-S", "-c", "import signal; signal.pause()"))
"""


class Root:
    """A folder of one platform."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / ".mainstem").mkdir()
        (folder / ".mainstem" / "cache").symlink_to(CACHE)

    @contextmanager
    def running(self, *command: str, **more: object) -> Iterator[subprocess.Popen[str]]:
        """Run a command in a process group of its own, as a shell does."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MAINSTEM_")}
        with (self.folder / "said").open("a") as said:
            options = {"stdout": said, "stderr": said, "env": environment, "process_group": 0, **more}
            with subprocess.Popen(command, cwd=self.folder, text=True, **options) as process:  # type: ignore[call-overload]
                try:
                    yield process
                except BaseException:
                    process.terminate()  # what should have ended did not: the test must
                    raise

    def run(self, *arguments: str) -> int:
        with self.running(MAINSTEM, *arguments) as process:
            return int(process.wait(90))

    def reached(self, status: Status) -> bool:
        """Tell whether Kafka is there in the start of now."""
        state = PlatformState.read(self.folder / ".mainstem" / "state.json")
        return state is not None and state.supervisor.runs() and state.processes[0].status is status

    def left(self) -> list[psutil.Process]:
        """Everything that the platform starts works in its folder or below."""
        places = {process: process.info["cwd"] or "" for process in psutil.process_iter(["cwd"])}
        return [process for process, cwd in places.items() if Path(cwd).is_relative_to(self.folder)]


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(tmp_path)


@pytest.fixture(scope="module")
def shaken(tmp_path_factory: pytest.TempPathFactory) -> Root:
    """A root where each start goes on from what the last interrupted one left."""
    return Root(tmp_path_factory.mktemp("shaken"))


def until(condition: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


def ends(process: subprocess.Popen[str], number: signal.Signals) -> bool:
    """Whether the process ends in time with the exit code of a program that this signal ended."""
    return process.wait(WITHIN_S) in (128 + number, -number)


@pytest.mark.parametrize(("after_s", "number"), MOMENTS)
def test_a_signal_at_any_moment_ends_a_platform_in_the_foreground(
    shaken: Root, after_s: float, number: signal.Signals
) -> None:
    with shaken.running(MAINSTEM, "up", "--foreground") as up:
        with suppress(subprocess.TimeoutExpired):
            up.wait(after_s)
        os.killpg(up.pid, number)
        assert ends(up, number)
    assert shaken.left() == []


def test_the_start_after_interrupted_ones_works(shaken: Root) -> None:
    assert shaken.run("up") == 0
    assert shaken.run("status") == 0
    assert shaken.run("down", "--purge") == 0
    assert shaken.left() == []


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGINT, Status.PREPARING),
        (signal.SIGINT, Status.STARTING),
        (signal.SIGTERM, Status.STARTING),
        (signal.SIGKILL, Status.STARTING),
    ],
)
def test_whatever_ends_an_up_that_waits_ends_its_supervisor(root: Root, number: signal.Signals, status: Status) -> None:
    with root.running(MAINSTEM, "up", "--servers-only") as up:
        until(lambda: root.reached(status), 60)
        os.killpg(up.pid, number)
        assert ends(up, number)
    until(lambda: root.left() == [], WITHIN_S)


def test_the_end_of_the_terminal_ends_the_platform(root: Root) -> None:
    terminal, inside = pty.openpty()
    # Below `nohup` the signal is ignored, by us as by everybody; so the terminal of the tests may be.
    command = ("env", "--default-signal=HUP", "setsid", "--ctty", MAINSTEM, "up", "--foreground", "--servers-only")
    doors = dict.fromkeys(("stdin", "stdout", "stderr"), inside)
    with root.running(*command, **doors, process_group=None) as up:
        os.close(inside)
        while not root.reached(Status.STARTING):
            assert select.select([terminal], [], [], 60)[0]
            os.read(terminal, 65_536)
        os.close(terminal)
        assert ends(up, signal.SIGHUP)
    assert root.left() == []


def test_ctrl_c_ends_a_demo_with_everything_it_started(root: Root) -> None:
    program = root.folder / "projects" / "tiny" / "demo" / "__main__.py"
    program.parent.mkdir(parents=True)
    program.write_text(DEMO)
    with root.running(MAINSTEM, "demo", "projects/tiny", stdout=subprocess.PIPE) as demo:
        assert demo.stdout is not None
        assert demo.stdout.readline() == "plays\n"
        os.killpg(demo.pid, signal.SIGINT)
        assert ends(demo, signal.SIGINT)
    assert root.left() == []


def test_ctrl_c_does_not_wait_for_a_slow_network(root: Root) -> None:
    (root.folder / ".mainstem" / "cache").unlink()
    with socket.create_server(("127.0.0.1", 0)) as slow:
        slow.settimeout(60)
        way = {"HTTPS_PROXY": f"http://127.0.0.1:{slow.getsockname()[1]}", "NO_PROXY": ""}
        with root.running(MAINSTEM, "up", "--foreground", env={**os.environ, **way}) as up:
            asked, _ = slow.accept()
            os.killpg(up.pid, signal.SIGINT)
            assert ends(up, signal.SIGINT)
            asked.close()
    assert root.left() == []
