"""Processes that publish the log and are failed at one call: by the kernel, or where Python makes the call."""

import asyncio
import ctypes
import errno
import logging
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, Literal

from tests.fault.disk import Disk, Kind
from tests.fault.publishing import SIZES, Said, publish

Failure = Literal["KILL", "EIO", "ENOSPC", "SHORT"]
#: Ends of a process: it did all, an error of the disk ended it, it was killed.
DONE, FAILED, KILLED = 0, 3, -9

_SYSCALLS: Final = ("openat", "write", "fsync", "?rename", "?renameat", "?renameat2", "?mkdir", "?mkdirat")
_LINE: Final = re.compile(r"^(\w+)\((.*)")
_PR_SET_PTRACER: Final = 0x59616D61
_PATIENCE_S: Final = 30

_children = multiprocessing.get_context("forkserver")
_children.set_forkserver_preload([__name__, "tlog_scales.reader"])


@dataclass(frozen=True, slots=True)
class Fault:
    """What becomes of the `at`-th call."""

    failure: Failure
    at: int


@dataclass(slots=True)
class _Striker:
    """Counts the calls and lets the fault happen."""

    fault: Fault
    calls: int = 0

    def before(self, kind: Kind, path: Path) -> float:
        self.calls += 1
        if self.calls != self.fault.at:
            return 1.0
        if self.fault.failure == "KILL":
            os.kill(os.getpid(), 9)
        if self.fault.failure == "SHORT":
            return 0.5
        raise OSError(getattr(errno, self.fault.failure), f"{self.fault.failure} is injected", str(path))


@dataclass(slots=True)
class Run:
    """One process: how it ended, and what others heard of it until then."""

    root: Path
    code: int
    said: list[Said] = field(default_factory=list)


def run(root: Path, fault: Fault) -> Run:
    """Publish the log below `root` in a process of its own with a fault where Python makes a call."""
    with _process(root, fault, traced=False) as (process, heard):
        return _ended(root, process, heard)


def run_traced(root: Path, paths: Sequence[str], *injection: str) -> tuple[Run, list[str]]:
    """Publish it under `strace`, with a fault of the kernel's for calls on these paths; return the calls, too."""
    log = root.with_suffix(".strace")
    with _process(root, None, traced=True) as (process, heard):
        only = [f"-P{root / path}" for path in paths]
        rules = ["-e", f"trace={','.join(_SYSCALLS)}", "-e", "signal=none", *injection]
        command = ["strace", "-qqq", "-y", "-p", str(process.pid), *only, *rules, "-o", str(log)]
        tracer = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_PATIENCE_S)
        assert tracer.returncode in (0, 1), tracer.stderr
        return _ended(root, process, heard), log.read_text().splitlines()


def injection(call: str, number: int, failure: Failure) -> tuple[str, str]:
    """Return what tells `strace` to fail the so-manieth call of a kind."""
    what = "signal=KILL" if failure == "KILL" else f"error={failure}"
    return "-e", f"inject={call}:{what}:when={number}"


def numbered(lines: Sequence[str]) -> list[tuple[str, int, str]]:
    """Return each call that was traced: its kind, its number among those of its kind, and its arguments."""
    counted: Counter[str] = Counter()
    found = []
    for line in lines:
        match = _LINE.match(line)
        assert match, line
        counted[match[1]] += 1
        found.append((match[1], counted[match[1]], match[2]))
    return found


def not_traceable() -> str | None:
    """Return why the calls of a process cannot be failed by the kernel here; None when they can."""
    if sys.platform != "linux" or not shutil.which("strace"):
        return "there is no strace: apt-get install strace; the same faults are injected at Python's calls meanwhile"
    child = subprocess.Popen(["sleep", "60"])
    try:
        command = ["timeout", "1", "strace", "-qqq", "-p", str(child.pid), "-o", os.devnull]
        tried = subprocess.run(command, check=False, capture_output=True, text=True)
    finally:
        child.kill()
        child.wait()
    return f"strace may not attach here: {tried.stderr.strip()}" if tried.stderr else None


@contextmanager
def _process(
    root: Path, fault: Fault | None, *, traced: bool
) -> Iterator[tuple["multiprocessing.process.BaseProcess", Connection]]:
    heard, said = _children.Pipe(duplex=False)
    process = _children.Process(target=_publish, args=(root, said, fault, traced))
    process.start()
    said.close()
    try:
        yield process, heard
    finally:
        process.kill()
        process.join()
        heard.close()


def _ended(root: Path, process: "multiprocessing.process.BaseProcess", heard: Connection) -> Run:
    said = []
    try:
        while heard.poll(_PATIENCE_S):
            said.append(heard.recv())
    except EOFError:
        pass
    process.join(_PATIENCE_S)
    assert process.exitcode is not None, f"the process did not end within {_PATIENCE_S} s"
    return Run(root, process.exitcode, said)


def _publish(root: Path, said: Connection, fault: Fault | None, traced: bool) -> None:
    """Be the process."""
    logging.disable()
    if traced:
        _wait_for_tracer()
    try:
        if fault:
            os.fsync = lambda fd: None  # no machine stops here, so nobody need wait for the disk
            with Disk(root, _Striker(fault).before).watched():
                asyncio.run(publish(root, SIZES, said.send))
        else:
            asyncio.run(publish(root, SIZES, said.send))
    except OSError:
        sys.exit(FAILED)


def _wait_for_tracer() -> None:
    """Let whoever wants to attach, and return when somebody has."""
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_long(-1))
    deadline = time.monotonic() + _PATIENCE_S
    while "TracerPid:\t0\n" in Path("/proc/self/status").read_text():
        assert time.monotonic() < deadline, "no tracer attached"
        time.sleep(0.001)
