"""A project's demo: a platform that starts empty, and the demo's client as a process of its own beside it."""

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from mainstem.cli.local import launcher, session
from mainstem.cli.local.checklist import Checklist
from mainstem.cli.local.errors import AlreadyRunning, LocalError
from mainstem.cli.local.home import Home
from mainstem.cli.local.platform import Platform
from mainstem.cli.local.process import leashed
from mainstem.cli.local.state import PlatformState

#: Exit code after Ctrl-C.
INTERRUPTED = 130
#: A client that was told to stop has this long before it is ended.
GRACE_S = 1.0
#: Says inside the data folder that the data is a demo's, which the next demo may throw away.
_MARK = "made-by-a-demo"


def run(root: Path, project: Path, arguments: Sequence[str]) -> int:
    """Run `<project>/demo` against a platform at `root` that holds nothing; return its exit code.

    Raises LocalError when there is no such demo or the platform gives up, AlreadyRunning when one runs, and refuses to
    throw away data that no demo made.
    """
    module = module_of(root, project)
    home = Home.at(root)
    make_empty(home)
    return asyncio.run(_demo(home, module, arguments))


def module_of(root: Path, project: Path) -> str:
    """Return the name by which `python -m` finds a project's demo from `root`; raise LocalError when it has none."""
    # Not resolved: a folder that is linked in is found under the name it has here.
    program = Path(os.path.normpath(root / project / "demo" / "__main__.py"))
    if not program.is_file() or not program.is_relative_to(root):
        raise LocalError(f"there is no {program} below {root}; name a project folder that has a demo")
    return ".".join(program.parent.relative_to(root).parts)


def make_empty(home: Home) -> None:
    """Remove what an earlier demo left, caches excepted."""
    if session.running(home):
        raise AlreadyRunning(f"a platform runs at {home.root}; stop it with `mainstem down`, then start the demo again")
    session.stop(home)
    mark = home.data / _MARK
    if home.data.exists() and any(home.data.iterdir()) and not mark.exists():
        raise LocalError(
            f"{home.data} holds the data of a platform that no demo made; "
            "remove it with `mainstem down --purge`, or run the demo in another checkout"
        )
    launcher.purge(home)
    for path in home.folder.glob("*"):
        if path.is_dir() and path.resolve() != home.cache:
            shutil.rmtree(path)
        elif path.is_file():
            path.unlink()
    home.create()
    mark.touch()


async def _demo(home: Home, module: str, arguments: Sequence[str]) -> int:
    """Start the platform, run the client to its end, stop both; return the exit code."""
    shown: list[Checklist] = []

    def show(state: PlatformState) -> None:
        for checklist in shown:
            checklist.update(state)

    platform = Platform(home.root, cache=home.cache, changed=show)
    client: asyncio.subprocess.Process | None = None
    _cancelled_by_signals()
    try:
        began = time.monotonic()
        with Checklist() as checklist:
            shown.append(checklist)
            platform.start()
            await platform.ready(*platform.names)
            shown.clear()
        started = {"MAINSTEM_STARTED_S": f"{time.monotonic() - began:.2f}"}
        client = await asyncio.create_subprocess_exec(
            *leashed((sys.executable, "-m", module, *arguments)),
            cwd=home.root,
            env={**os.environ, **platform.env, **started},
            # A signal from the terminal comes to this process, which passes it on once.
            start_new_session=True,
        )
        return await _until_end(client, platform)
    except asyncio.CancelledError:
        return INTERRUPTED
    finally:
        shown.clear()
        await asyncio.gather(_end(client), platform.stop())


def _cancelled_by_signals() -> None:
    """Let the first signal to stop cancel this task; it then stops everything, and further signals change nothing."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    signals = (signal.SIGINT, signal.SIGTERM)

    def interrupt() -> None:
        for number in signals:
            loop.add_signal_handler(number, lambda: None)
        if task:
            task.cancel()

    for number in signals:
        loop.add_signal_handler(number, interrupt)


async def _until_end(client: asyncio.subprocess.Process, platform: Platform) -> int:
    """Return the exit code of the client; raises what makes the platform give up before."""
    ended, over = asyncio.create_task(client.wait()), asyncio.create_task(platform.wait())
    try:
        await asyncio.wait((ended, over), return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            await over
        return await ended
    finally:
        ended.cancel()
        over.cancel()


async def _end(client: asyncio.subprocess.Process | None) -> None:
    """End the client and what it started."""
    if client is None or client.returncode is not None:
        return
    client.terminate()
    with suppress(TimeoutError):
        await asyncio.wait_for(client.wait(), GRACE_S)
    with suppress(ProcessLookupError):
        os.killpg(client.pid, signal.SIGKILL)
    await client.wait()
