"""The broker's jars: fetched once, each held to the SHA-256 in `kafka-jars.lock`."""

import asyncio
import os
import re
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

from mainstem.cli.local.errors import JarMismatch, JarUnavailable, LocalError
from mainstem.cli.local.process import leashed, run_to_end

FETCHES_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of the lock: `group:artifact:version sha256`."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def name(self) -> str:
        """How people call it."""
        return f"{self.group}:{self.artifact}:{self.version}"

    def path(self, folder: Path) -> Path:
        """Where the cache keeps it."""
        return folder / f"{self.artifact}-{self.version}.jar"

    def check(self, content: bytes, where: str) -> None:
        """Raise JarMismatch unless the content has the locked hash."""
        found = sha256(content).hexdigest()
        if found != self.sha256:
            raise JarMismatch(
                f"{self.name} ({where}) has SHA-256 {found}, the lock says {self.sha256}; "
                "it was not used. Remove it, or find out who changed it, and try again"
            )


def locked() -> tuple[Jar, ...]:
    """Read the lock that ships with the package, in class-path order."""
    return parse(files("mainstem.cli.local").joinpath("kafka-jars.lock").read_text(encoding="utf-8").splitlines())


def parse(lines: Iterable[str]) -> tuple[Jar, ...]:
    """Read lines of a lock."""
    fields = (re.split("[: ]", line.strip()) for line in lines)
    return tuple(Jar(group, artifact, version, digest) for group, artifact, version, digest in fields)


def class_path(folder: Path) -> str:
    """Name the jars of the lock and no others, as the Java runtime wants them."""
    return ":".join(str(jar.path(folder)) for jar in locked())


def missing(jars: Iterable[Jar], folder: Path) -> list[Jar]:
    """Return the jars that are not cached; raises JarMismatch for one that is cached with other content."""
    absent = []
    for jar in jars:
        path = jar.path(folder)
        if path.exists():
            jar.check(path.read_bytes(), str(path))
        else:
            absent.append(jar)
    return absent


async def ensure(folder: Path) -> None:
    """Verify every cached jar and fetch those that are missing; without missing ones no network is touched.

    Raises JarMismatch for a cached jar, SetupFailed when fetching fails; both name the jar. What was fetched and
    verified before stays cached.
    """
    if await asyncio.to_thread(missing, locked(), folder):
        # A process of its own can be ended at once, whatever the network does.
        await run_to_end(leashed((sys.executable, "-P", "-m", __name__, str(folder))), "fetching the broker's jars")


def main(folder: Path) -> int:
    """Fetch the missing jars; what went wrong goes to stderr."""
    try:
        with ThreadPoolExecutor(FETCHES_AT_ONCE) as threads:
            list(threads.map(partial(_fetch, folder), missing(locked(), folder)))
    except LocalError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _fetch(folder: Path, jar: Jar) -> None:
    content = _download(jar)
    jar.check(content, "as fetched")
    path = jar.path(folder)
    # Several platforms may fill one cache at once.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    temporary.write_bytes(content)
    temporary.replace(path)


def _download(jar: Jar) -> bytes:
    # Imported here: only the first start needs it, and it is slow to import.
    from maven_artifact import Artifact, Downloader  # noqa: PLC0415

    # The library knows where the public repository is, so no host is named here.
    # Its own `download` prints and checks MD5 only, hence its parts.
    source = Downloader()
    url = source.resolver.uri_for_artifact(Artifact(jar.group, jar.artifact, jar.version))
    try:
        content: bytes = source.requestor.request(url, None, lambda response: response.content, timeout=60)
    except OSError as error:
        raise JarUnavailable(
            f"{jar.name} is not cached and could not be fetched ({error}); connect to the network once and try again"
        ) from error
    return content


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
