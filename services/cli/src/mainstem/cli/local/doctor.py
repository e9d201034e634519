"""What the platform needs of a machine, checked one by one, each with the way to mend it."""

import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import as_file, files
from pathlib import Path

import psutil

from mainstem.cli.local import graph, jars, launcher, ports, session
from mainstem.cli.local.errors import JarMismatch, NoLauncher
from mainstem.cli.local.home import Home
from mainstem.cli.local.kafka import java
from mainstem.cli.local.postgres import given_database

GIB = 1024**3


class Verdict(StrEnum):
    """How a check came out."""

    OK = "ok"
    #: The platform starts, and something is worth knowing.
    NOTE = "note"
    #: The platform cannot start.
    BLOCKS = "blocks"


@dataclass(frozen=True, slots=True)
class Check:
    """One checked need; `fix` is empty when there is nothing to do."""

    name: str
    verdict: Verdict
    found: str
    fix: str = ""

    def row(self) -> dict[str, object]:
        """Describe the check for people and programs."""
        return {"check": self.name, "verdict": self.verdict.value, "found": self.found, "fix": self.fix}


def examine(home: Home) -> list[Check]:
    """Check everything; changes nothing on the machine."""
    return [
        Check("python", Verdict.OK, sys.version.split()[0]),
        _program("java", java(), "-version"),
        _jars(home),
        _program("postgres", launcher.installation() / "bin" / "postgres", "--version"),
        _launcher(home),
        _ports(home),
        _disk(home),
        _memory(),
        _clock(),
    ]


def _program(name: str, path: Path, question: str) -> Check:
    reinstall = "remove .venv and run `make install`"
    try:
        answer = subprocess.run((str(path), question), capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return Check(name, Verdict.BLOCKS, str(error), reinstall)
    return Check(name, Verdict.OK, (answer.stdout or answer.stderr).splitlines()[0])


def _jars(home: Home) -> Check:
    wanted = jars.locked()
    try:
        absent = len(jars.missing(wanted, home.jars))
    except JarMismatch as error:
        return Check("jars", Verdict.BLOCKS, str(error), f"remove it from {home.jars}; `mainstem up` fetches it anew")
    found = f"{len(wanted) - absent} of {len(wanted)} cached and equal to the lock"
    if absent:
        return Check("jars", Verdict.NOTE, found, "the first `mainstem up` fetches them; it needs the network once")
    return Check("jars", Verdict.OK, found)


def _launcher(home: Home) -> Check:
    if given_database(home):
        return Check("launcher", Verdict.OK, "MAINSTEM_DATABASE_URL is set: that server is used")
    try:
        return Check("launcher", Verdict.OK, f"PostgreSQL runs {launcher.choose(home).name}")
    except NoLauncher as error:
        return Check("launcher", Verdict.BLOCKS, "no way to run PostgreSQL", str(error))


def _ports(home: Home) -> Check:
    if session.running(home):
        return Check("ports", Verdict.OK, "the platform runs and holds its ports")
    taken = [f"{port} ({name})" for name, port in graph.default_ports().items() if not ports.is_free(port)]
    if taken:
        return Check("ports", Verdict.NOTE, f"taken: {', '.join(taken)}", "nothing to do: the next free ones are used")
    return Check("ports", Verdict.OK, "all defaults are free")


def _disk(home: Home) -> Check:
    free = shutil.disk_usage(home.root).free / GIB
    return _amount("disk", free, enough=4.0, least=1.0, fix=f"free some space on the disk of {home.root}")


def _memory() -> Check:
    free = psutil.virtual_memory().available / GIB
    return _amount("memory", free, enough=3.0, least=1.5, fix="end other programs")


def _amount(name: str, free: float, *, enough: float, least: float, fix: str) -> Check:
    found = f"{free:.1f} GiB free"
    if free >= enough:
        return Check(name, Verdict.OK, found)
    return Check(name, Verdict.NOTE if free >= least else Verdict.BLOCKS, f"{found}, {enough:.0f} GiB are good", fix)


def _clock() -> Check:
    with as_file(files("mainstem.cli.local").joinpath("kafka-jars.lock")) as lock:
        written = lock.stat().st_mtime
    found = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if time.time() >= written:
        return Check("clock", Verdict.OK, found)
    return Check("clock", Verdict.BLOCKS, f"{found} is before this program was installed", "set the clock")
