"""Keeps programs running: starts them in the order of their needs, restarts what ends, stops in the reverse order."""

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from mainstem.cli.local.backoff import Backoff, Restarts
from mainstem.cli.local.errors import CrashLoop, NotRunning
from mainstem.cli.local.process import Process, Program
from mainstem.cli.local.state import Status

TAIL_LINES = 20


def _quiet() -> None:
    """Tell nobody."""


def _nowhere(_: Collection[int]) -> Sequence[Program]:
    """Know no other ports."""
    return ()


class Supervisor:
    """Runs programs as direct children of this process.

    A program starts when everything that it needs answered its probe. One that ends is started again after a pause
    (`Backoff`); one that ends again and again stops everything, and `failure` says why with that program's last lines.
    Nothing outlives the supervisor, whatever ends it.

    A program that ends without ever having answered while somebody else listens on its ports lost them to a neighbour:
    `elsewhere` is given these ports and returns the programs as they are with others instead.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        logs: Path,
        backoff: Backoff | None = None,
        changed: Callable[[], None] = _quiet,
        elsewhere: Callable[[Collection[int]], Sequence[Program]] = _nowhere,
    ) -> None:
        #: What made the supervisor give up; None while all is well and after a stop that was asked for.
        self.failure: Exception | None = None
        self._elsewhere = elsewhere
        self._backoff = backoff or Backoff()
        self._processes = {
            program.name: Process(program, logs / f"{program.name}.log", changed) for program in programs
        }
        self._stop_asked = asyncio.Event()
        self._over = asyncio.Event()
        self._main: asyncio.Task[None] | None = None

    @property
    def processes(self) -> tuple[Process, ...]:
        """All processes, in the order they were given."""
        return tuple(self._processes.values())

    def __getitem__(self, name: str) -> Process:
        """Find the process of this name; KeyError when there is none."""
        return self._processes[name]

    def start(self) -> None:
        """Begin to start everything; returns at once."""
        self._main = asyncio.create_task(self._serve())

    async def ready(self, *names: str) -> None:
        """Wait until each of these processes answers.

        Raises what made the supervisor give up meanwhile, NotRunning when it was stopped meanwhile.
        """
        wanted = asyncio.create_task(self._all_ready(names))
        over = asyncio.create_task(self._over.wait())
        try:
            await asyncio.wait((wanted, over), return_when=asyncio.FIRST_COMPLETED)
            if not wanted.done():
                raise self.failure or NotRunning(f"the platform was stopped before {', '.join(names)} became ready")
        finally:
            wanted.cancel()
            over.cancel()

    async def wait(self) -> None:
        """Wait until nothing runs any more; raises what made the supervisor give up, if it did."""
        await self._over.wait()
        if self.failure:
            raise self.failure

    async def stop(self) -> None:
        """Stop everything, dependants before what they need, and return when nothing runs any more."""
        self._stop_asked.set()
        if self._main:
            await self._main

    async def _serve(self) -> None:
        keepers = [asyncio.create_task(self._keep(process)) for process in self.processes]
        tasks = [asyncio.create_task(self._stop_asked.wait()), *keepers]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        self.failure = next((outcome for outcome in outcomes if isinstance(outcome, Exception)), None)
        await asyncio.gather(*(self._stop_after_dependants(process) for process in self.processes))
        self._over.set()

    async def _all_ready(self, names: Sequence[str]) -> None:
        for name in names:
            await self[name].ready.wait()

    async def _stop_after_dependants(self, process: Process) -> None:
        for dependant in self.processes:
            if process.program.name in dependant.program.needs:
                await dependant.stopped.wait()
        await process.stop()

    async def _keep(self, process: Process) -> None:
        process.become(Status.PREPARING)
        await process.program.prepare()
        process.become(Status.WAITING)
        for need in process.program.needs:
            await self[need].ready.wait()
        restarts = Restarts(self._backoff)
        while True:
            await asyncio.sleep(await self._run_once(process, restarts))
            process.restarts += 1

    async def _run_once(self, process: Process, restarts: Restarts) -> float:
        up_for = await process.run_once()
        process.become(Status.RESTARTING)
        if process.killed:
            return self._backoff.first
        pause = restarts.after_end(time.monotonic(), up_for)
        if pause is None:
            raise self._crash_loop(process)
        if lost := process.lost_ports:
            await self._move(process, lost)
        return pause

    async def _move(self, process: Process, lost: Collection[int]) -> None:
        # Those that need the process have not started yet, and get its new address with their new programs.
        for program in self._elsewhere(lost):
            self[program.name].program = program
        await process.program.prepare()

    def _crash_loop(self, process: Process) -> CrashLoop:
        lines = "\n".join(f"  {line}" for line in process.tail(TAIL_LINES))
        ends = f"{self._backoff.loop_count} times within {self._backoff.loop_window:.0f} s"
        return CrashLoop(f"{process.program.name} ended {ends}; everything was stopped. Its last lines:\n{lines}")
