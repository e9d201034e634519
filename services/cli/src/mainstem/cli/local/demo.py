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

from mainstem.cli.local import launcher, session, signals
from mainstem.cli.local.checklist import Checklist
from mainstem.cli.local.errors import AlreadyRunning, LocalError
from mainstem.cli.local.home import Home
from mainstem.cli.local.platform import Platform
from mainstem.cli.local.process import leashed

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
    if home.data.exists():
        # In one step, so that a removal that is cut off leaves no data without its mark.
        home.data.rename(home.folder / f"removed-{os.getpid()}")
    for path in home.folder.glob("*"):
        if path.is_dir() and path.resolve() != home.cache:
            shutil.rmtree(path)
        elif path.is_file():
            path.unlink()
    home.create()
    mark.touch()


async def _demo(home: Home, module: str, arguments: Sequence[str]) -> int:
    """Play until the end or a signal, and stop everything; return the exit code."""
    asked = signals.first_to_stop()
    checklist = Checklist()
    platform = Platform(home.root, cache=home.cache, changed=checklist.update)
    play = asyncio.create_task(_play(platform, checklist, (sys.executable, "-m", module, *arguments)))
    await asyncio.wait((play, asked), return_when=asyncio.FIRST_COMPLETED)
    play.cancel()
    await asyncio.gather(asyncio.wait((play,)), platform.stop())
    if asked.done():
        return signals.EXIT_BASE + asked.result()
    return await play


async def _play(platform: Platform, checklist: Checklist, client: tuple[str, ...]) -> int:
    """Start the platform, run the client to its end, and return its exit code."""
    began = time.monotonic()
    with checklist:
        platform.start()
        await platform.ready(*platform.names)
    started = {"MAINSTEM_STARTED_S": f"{time.monotonic() - began:.2f}"}
    child = await asyncio.create_subprocess_exec(
        *leashed(client),
        cwd=platform.home.root,
        env={**os.environ, **platform.env, **started},
        # A signal from the terminal comes to this process, which passes it on once.
        start_new_session=True,
    )
    try:
        return await _until_end(child, platform)
    finally:
        await _end(child)


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


async def _end(client: asyncio.subprocess.Process) -> None:
    """End the client and what it started."""
    if client.returncode is None:
        client.terminate()
    with suppress(TimeoutError):
        async with asyncio.timeout(GRACE_S):
            await client.wait()
    with suppress(ProcessLookupError):
        os.killpg(client.pid, signal.SIGKILL)
    await client.wait()
