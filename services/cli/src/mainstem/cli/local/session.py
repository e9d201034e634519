"""The platform as commands see it: start it attached or detached, find it, describe it, stop it."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from mainstem.cli.local import graph, launcher, ports, probes, signals
from mainstem.cli.local.checklist import Checklist
from mainstem.cli.local.errors import LocalError, NotRunning
from mainstem.cli.local.home import Home, find_home
from mainstem.cli.local.platform import Platform
from mainstem.cli.local.process import tail
from mainstem.cli.local.state import PlatformState, ProcessState, Status

STOP_WITHIN_S = 8.0
ANSWER_WITHIN_S = 2.0
POLL_S = 0.1


def home_for_start(start: Path) -> Home:
    """Find the platform to start or stop: the one that is there, or else one at `start`."""
    try:
        return find_home(start)
    except NotRunning:
        return Home.at(start)


def running(home: Home) -> PlatformState | None:
    """Return the state of the platform when its supervisor runs."""
    state = PlatformState.read(home.state)
    return state if state and state.supervisor.runs() else None


def require_running(home: Home) -> PlatformState:
    """Return the state of the running platform; raises NotRunning, with the reason if it gave up."""
    if state := running(home):
        return state
    last = PlatformState.read(home.state)
    reason = f": {last.failure}" if last and last.failure else "; start it with `mainstem up`"
    raise NotRunning(f"the platform at {home.root} does not run{reason}")


def detach(home: Home, services: Sequence[str]) -> PlatformState:
    """Start a supervisor of its own and return when everything answers; whatever ends this before ends that too.

    Of two that start one at the same time, one becomes the platform, and both return when it answers.
    Raises LocalError with the reason when the supervisor gives up.
    """
    home.create()
    child = _spawn(home, services)
    with ExitStack() as unfinished:
        unfinished.callback(_end, child)
        with Checklist() as checklist:
            state = _until_ready(home, child, checklist)
        _let_stay(child)
        unfinished.pop_all()
    return state


def stay(home: Home, services: Sequence[str]) -> None:
    """Run the platform in this process until a signal asks to stop, and exit as programs do that a signal ended.

    Raises LocalError with the reason when the platform gives up.
    """
    with Checklist() as checklist:
        asked = asyncio.run(supervise(home, services, checklist.update))
    raise SystemExit(signals.EXIT_BASE + asked)


async def supervise(home: Home, services: Sequence[str], changed: Callable[[PlatformState], None]) -> signal.Signals:
    """Run the platform until a signal asks to stop, and return that signal; leaves nothing running.

    Raises what makes the platform give up before.
    """
    platform = Platform(home.root, services=services, cache=home.cache, changed=changed)
    asked = signals.first_to_stop()
    try:
        platform.start()
        over = asyncio.create_task(platform.wait())
        await asyncio.wait((over, asked), return_when=asyncio.FIRST_COMPLETED)
    finally:
        await platform.stop()
    (failure,) = await asyncio.gather(over, return_exceptions=True)
    if failure and not asked.done():
        raise failure
    return await asked


def stop(home: Home) -> bool:
    """Stop the platform; tell whether anything was running. What a killed supervisor left is ended too."""
    state = PlatformState.read(home.state)
    if state is None:
        return False
    was_running = state.supervisor.runs()
    if not state.supervisor.end(signal.SIGTERM, STOP_WITHIN_S):
        state.supervisor.end(signal.SIGKILL, STOP_WITHIN_S)
    (PlatformState.read(home.state) or state).clear_leftovers()
    return was_running


def purge(home: Home) -> None:
    """Remove everything that the platform wrote; it must not run."""
    launcher.purge(home)
    home.purge()


def rows(state: PlatformState) -> list[dict[str, object]]:
    """Describe every process for people and programs, one that is not ready with the reason that it gives.

    One that no longer answers is said to be silent.
    """
    answers = asyncio.run(_ask(state.processes))
    return [_row(process, faults) for process, faults in zip(state.processes, answers, strict=True)]


def _row(process: ProcessState, faults: Mapping[str, str] | None) -> dict[str, object]:
    """Describe a process that answers with what keeps it from being ready; None when it does not answer."""
    status = process.status.value
    if process.status is Status.READY and faults != {}:
        status = "not ready" if faults else "silent"
    return {
        "process": process.name,
        "status": status,
        "address": process.address,
        "pid": process.run.pid if process.run else None,
        "up_s": round(time.time() - process.run.started) if process.run else None,
        "restarts": process.restarts,
        "reason": "; ".join(f"{name}: {fault}" for name, fault in faults.items()) if faults else None,
    }


async def _ask(processes: Sequence[ProcessState]) -> list[Mapping[str, str] | None]:
    return await asyncio.gather(*(_faults(process) for process in processes))


async def _faults(process: ProcessState) -> Mapping[str, str] | None:
    """Return what keeps a process from being ready, by check; None when it does not answer."""
    port = int(process.address.rpartition(":")[2])
    if process.run is None or not ports.listens(process.run.pid, (port,)):
        return None
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            if process.name in graph.SERVICES:
                return await probes.faults(port)
            await probes.accepts(port)
    except (OSError, TimeoutError):
        return None
    return {}


def _spawn(home: Home, services: Sequence[str]) -> subprocess.Popen[bytes]:
    command = (sys.executable, "-P", "-m", "mainstem.cli.local.daemon", str(home.root), *services)
    with (home.logs / "supervisor.log").open("ab") as log:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True)


def _let_stay(child: subprocess.Popen[bytes]) -> None:
    """Tell the supervisor that it goes on without this process."""
    assert child.stdin is not None  # noqa: S101  (a pipe was asked for)
    with suppress(BrokenPipeError), child.stdin as word:
        word.write(b"!")


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a supervisor that was not told to stay."""
    child.terminate()
    with suppress(subprocess.TimeoutExpired):
        child.wait(STOP_WITHIN_S)
    child.kill()
    child.wait()


def _until_ready(home: Home, child: subprocess.Popen[bytes], checklist: Checklist) -> PlatformState:
    while True:
        over = child.poll() is not None
        state = running(home)
        if state and (over or state.supervisor.pid == child.pid):  # ours, or that of somebody who was faster
            checklist.update(state)
            if state.ready:
                return state
        elif over:
            raise LocalError(_why_it_ended(home, child.pid))
        time.sleep(POLL_S)


def _why_it_ended(home: Home, pid: int) -> str:
    state = PlatformState.read(home.state)
    if state and state.supervisor.pid == pid and state.failure:
        return state.failure
    lines = "\n".join(f"  {line}" for line in tail(home.logs / "supervisor.log", 10))
    return f"the supervisor ended before the platform was ready. Its last lines:\n{lines}"
