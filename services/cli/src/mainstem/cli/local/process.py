"""One child process: how it is started, watched and ended."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from mainstem.cli.local import ports
from mainstem.cli.local.errors import SetupFailed
from mainstem.cli.local.state import Status

PROBE_PAUSE_S = 0.05
PROBE_TIMEOUT_S = 5.0


async def nothing() -> None:
    """Prepare nothing."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run, what must be ready before it, and how to tell that it is ready itself.

    `prepare` is awaited once before the first start and may be cancelled; `probe` returns whether the process answers
    and raises OSError or returns False while it does not; any other error of the two stops the supervisor.
    An answer counts only while the process, or a child of it, listens on all of `ports`: it may be a neighbour's.
    """

    name: str
    argv: tuple[str, ...]
    probe: Callable[[], Awaitable[bool]]
    ports: tuple[int, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    prepare: Callable[[], Awaitable[None]] = nothing
    stop_signal: signal.Signals = signal.SIGTERM
    grace: float = 1.5


def leashed(
    argv: tuple[str, ...], death: signal.Signals = signal.SIGKILL, identity: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Have the kernel send `death` to the program when this process, its supervisor, dies, however that dies.

    `identity` are options of `setpriv` that drop rights. Where the system has no such signal the program is run as it
    is, and the next start clears what was left.
    """
    setpriv = shutil.which("setpriv")
    if not setpriv:
        return argv
    # A supervisor that died before the leash was on sends no signal; its child has another parent then.
    alone = ("sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"', str(os.getpid()))
    return (setpriv, *identity, "--pdeathsig", death.name.removeprefix("SIG"), "--", *alone, *argv)


class Process:
    """A program with its present run; `changed` is called after each change that an observer can see."""

    def __init__(self, program: Program, log: Path, changed: Callable[[], None]) -> None:
        self.program = program
        self.log = log
        self.ready = asyncio.Event()
        self.stopped = asyncio.Event()
        self.status = Status.WAITING
        self.restarts = 0
        #: The last end was asked for with `kill`, so it does not count as a crash.
        self.killed = False
        #: It was ready at least once, so its ports are known to others.
        self.answered = False
        self._changed = changed
        self._child: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The process id while the process runs."""
        return self._child.pid if self._child and self._child.returncode is None else None

    @property
    def lost_ports(self) -> list[int]:
        """The ports that somebody else took before the process, which does not run now, ever answered."""
        return [] if self.answered else [port for port in self.program.ports if not ports.is_free(port)]

    def become(self, status: Status) -> None:
        """Move on to a status and tell the observer."""
        self.status = status
        self.answered |= status is Status.READY
        for event, wanted in ((self.ready, Status.READY), (self.stopped, Status.STOPPED)):
            if status is wanted:
                event.set()
            else:
                event.clear()
        self._changed()

    async def run_once(self) -> float:
        """Start the program, wait until it ends by itself, and return how many seconds it was up."""
        started = time.monotonic()
        self.killed = False
        with self.log.open("ab") as log:
            self._child = await asyncio.create_subprocess_exec(
                *self.program.argv,
                env={**os.environ, **self.program.env},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        self.become(Status.STARTING)
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(self._watch())
            await self._child.wait()
            watch.cancel()
        self._end_group()
        return time.monotonic() - started

    async def _watch(self) -> None:
        while not await self._answers():  # noqa: ASYNC110  (another process cannot set an event of ours)
            await asyncio.sleep(PROBE_PAUSE_S)
        if self.pid and not self.killed:
            self.become(Status.READY)

    async def _answers(self) -> bool:
        try:
            # Not wait_for: in Python 3.11 it loses a cancellation that comes while the probe fails, and the watch
            # of a process that has ended would go on for ever (python/cpython#86296).
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                return await self.program.probe() and self._listens()
        except (OSError, TimeoutError):
            return False

    def _listens(self) -> bool:
        return not self.program.ports or (self.pid is not None and ports.listens(self.pid, self.program.ports))

    def kill(self) -> None:
        """End the process at once, without a chance to tidy up; the supervisor starts it again."""
        self.killed = True
        self.become(Status.RESTARTING)
        with suppress(ProcessLookupError):
            if self.pid:
                os.kill(self.pid, signal.SIGKILL)

    async def stop(self) -> None:
        """End the process and its group: the stop signal first, SIGKILL when the grace is over."""
        if self._child and self.pid:
            self._signal(self.program.stop_signal)
            with suppress(TimeoutError):
                async with asyncio.timeout(self.program.grace):
                    await self._child.wait()
            self._end_group()
            await self._child.wait()
        self.become(Status.STOPPED)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            if self._child:
                os.killpg(self._child.pid, number)

    def _end_group(self) -> None:
        """End the process, if it still runs, and what it started and did not take with it."""
        self._signal(signal.SIGKILL)

    def tail(self, lines: int) -> list[str]:
        """Return the last lines of the process's log; empty before the first start."""
        return tail(self.log, lines)


@asynccontextmanager
async def short_lived(*argv: str, stdin: int, stdout: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program for the length of a block; at its end the program is gone, and what it started with it.

    Ctrl-C in the terminal does not reach the program: the supervisor alone answers it.
    """
    child = await asyncio.create_subprocess_exec(
        *argv, stdin=stdin, stdout=stdout, stderr=asyncio.subprocess.STDOUT, process_group=0
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()


async def run_to_end(argv: tuple[str, ...], what: str, stdin: bytes = b"") -> None:
    """Run a program that prepares something and wait for its end; a cancelled wait ends the program.

    Raises SetupFailed with the program's last lines when it ends with an error.
    """
    pipe = asyncio.subprocess.PIPE
    async with short_lived(*argv, stdin=pipe, stdout=pipe) as child:
        output, _ = await child.communicate(stdin)
    if child.returncode:
        lines = output.decode("utf-8", "replace").strip().splitlines()[-10:]
        raise SetupFailed(
            f"{what} failed with exit code {child.returncode}:\n" + "\n".join(f"  {line}" for line in lines)
        )


def tail(log: Path, lines: int) -> list[str]:
    """Return the last lines of a file, reading no more than its last 64 KiB; empty when there is no file."""
    if not log.exists():
        return []
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 65_536))
        return file.read().decode("utf-8", "replace").splitlines()[-lines:]
