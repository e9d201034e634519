"""The local platform with the real Apache Kafka and PostgreSQL."""

import asyncio
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import pytest

from mainstem.bus.admin import cluster_id, create_topics, topic_names
from mainstem.cli.local import jars
from mainstem.cli.local.errors import AlreadyRunning, JarMismatch
from mainstem.cli.local.home import Home
from mainstem.cli.local.launcher import as_is, as_nobody, nobody_place, purge
from mainstem.cli.local.platform import Platform
from mainstem.cli.local.ports import HOST, anywhere
from mainstem.cli.local.postgres import Postgres
from mainstem.cli.local.state import Alive, PlatformState
from mainstem.cli.local.supervisor import Supervisor
from mainstem.events.topics import ConcreteTopic

pytestmark = pytest.mark.real

#: The jars are fetched once for the checkout.
CACHE = Path(__file__).parents[3] / ".mainstem" / "cache"
MAINSTEM = Path(sys.executable).parent / "mainstem"


@pytest.fixture(scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    async with Platform(tmp_path_factory.mktemp("platform"), fast=True, services=[], cache=CACHE) as platform:
        yield platform


async def fetch(url: str, query: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_the_broker_makes_and_lists_topics(platform: Platform) -> None:
    topic = ConcreteTopic("platform.listing", 2, {"message.timestamp.type": "LogAppendTime"})
    await create_topics(platform.env["MAINSTEM_KAFKA"], [topic])
    assert "platform.listing" in await topic_names(platform.env["MAINSTEM_KAFKA"])


async def test_the_database_is_postgresql_18_with_the_same_order_everywhere(platform: Platform) -> None:
    assert str(await fetch(platform.env["MAINSTEM_DATABASE_URL"], "SHOW server_version")).startswith("18.")
    locale = (
        "SELECT datlocprovider::text || datlocale || current_database() FROM pg_database WHERE datname = 'mainstem'"
    )
    assert await fetch(platform.env["MAINSTEM_DATABASE_URL"], locale) == "bC.UTF-8mainstem"


async def test_the_database_asks_for_its_password(platform: Platform) -> None:
    url = platform.env["MAINSTEM_DATABASE_URL"].replace("mainstem:", "mainstem:not-", 1)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(url)


@pytest.mark.fault
async def test_a_killed_database_recovers_what_was_committed(platform: Platform) -> None:
    await fetch(platform.env["MAINSTEM_DATABASE_URL"], "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS number")
    before = platform.pid("postgres")
    platform.kill("postgres")
    await platform.ready("postgres")
    assert await fetch(platform.env["MAINSTEM_DATABASE_URL"], "SELECT count(*) FROM kept") == 1000
    assert platform.pid("postgres") != before


@pytest.mark.fault
async def test_a_killed_broker_comes_back_as_the_same_cluster(platform: Platform) -> None:
    before = await cluster_id(platform.env["MAINSTEM_KAFKA"])
    platform.kill("kafka")
    await platform.ready("kafka")
    assert await cluster_id(platform.env["MAINSTEM_KAFKA"]) == before


async def test_one_folder_has_one_platform(platform: Platform) -> None:
    with pytest.raises(AlreadyRunning, match="a platform runs at"):
        Platform(platform.home.root, services=[], cache=CACHE).start()


async def test_the_environment_file_tells_a_shell_where_everything_is(platform: Platform) -> None:
    command = ("sh", "-c", f'. "{platform.home.env}" && echo "$MAINSTEM_KAFKA $MAINSTEM_HOME"')
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()  # noqa: ASYNC221
    assert told == [platform.env["MAINSTEM_KAFKA"], str(platform.home.root)]


async def test_all_jars_are_cached_so_that_the_next_start_needs_no_network(platform: Platform) -> None:
    assert jars.missing(jars.locked(), platform.home.jars) == []


async def test_a_given_database_is_used_and_none_started(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAINSTEM_DATABASE_URL", platform.env["MAINSTEM_DATABASE_URL"])
    async with Platform(tmp_path, fast=True, services=[], cache=CACHE) as other:
        assert other.names == ("kafka",)
        assert other.env["MAINSTEM_DATABASE_URL"] == platform.env["MAINSTEM_DATABASE_URL"]


async def test_a_neighbour_that_takes_the_ports_first_makes_the_servers_move(tmp_path: Path) -> None:
    moving = Platform(tmp_path, fast=True, services=[], cache=CACHE)
    moving.start()
    lost = [int(process.address.rpartition(":")[2]) for process in moving.state().processes]
    with ExitStack() as neighbour:
        for port in lost:
            neighbour.enter_context(socket.create_server((HOST, port)))
        try:
            await moving.ready(*moving.names)
            assert await cluster_id(moving.env["MAINSTEM_KAFKA"])
            assert str(tmp_path) in str(await fetch(moving.env["MAINSTEM_DATABASE_URL"], "SHOW data_directory"))
        finally:
            await moving.stop()
    assert not any(process.address.endswith(f":{port}") for process in moving.state().processes for port in lost)


async def test_a_changed_jar_stops_the_start_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "jars").mkdir()
    (tmp_path / "jars" / "snakeyaml-2.5.jar").write_text("not a jar")
    platform = Platform(tmp_path, services=[], cache=tmp_path)
    with pytest.raises(JarMismatch, match=r"org\.yaml:snakeyaml:2\.5"):
        await platform.__aenter__()
    assert [process.run for process in platform.state().processes] == [None, None]


async def test_without_user_namespaces_too_the_database_runs_as_an_ordinary_user(tmp_path: Path) -> None:
    launcher, owner = (as_nobody, 65534) if os.geteuid() == 0 else (as_is, os.geteuid())
    home = Home.at(tmp_path)
    home.create()
    server = Postgres(home, launcher(home), anywhere({"postgres": 0})["postgres"])
    supervisor = Supervisor([server.program()], home.logs)
    supervisor.start()
    try:
        await supervisor.ready("postgres")
        assert server.data.stat().st_uid == owner
    finally:
        await supervisor.stop()
        purge(home)
    assert not nobody_place(home).exists()


class Shell:
    """The command line in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # The cache is shared by a link, as the command line has no option for it.
        (folder / ".mainstem").mkdir(parents=True)
        (folder / ".mainstem" / "cache").symlink_to(CACHE)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MAINSTEM_")}
        command = (MAINSTEM, *arguments)
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=90
        )

    def state(self) -> PlatformState:
        state = PlatformState.read(self.folder / ".mainstem" / "state.json")
        assert state is not None
        return state

    def env(self) -> dict[str, str]:
        lines = (self.folder / ".mainstem" / "env").read_text().replace("export ", "")
        return dict(assignment.split("=", 1) for assignment in shlex.split(lines))

    def runs(self) -> list[Alive]:
        return [process.run for process in self.state().processes if process.run]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.run("down", "--purge")


def until_ended(runs: list[Alive]) -> None:
    deadline = time.monotonic() + 5
    while any(run.runs() for run in runs):
        assert time.monotonic() < deadline, "a process outlived the platform"
        time.sleep(0.02)


def test_up_attaches_the_second_time_and_down_stops_within_five_seconds(shell: Shell) -> None:
    assert shell.run("up", "--servers-only").returncode == 0
    first = shell.runs()
    again = shell.run("up", "--servers-only")
    assert (again.returncode, shell.runs()) == (0, first)
    assert again.stderr.startswith(f"already running at {shell.folder}\n")
    status = json.loads(shell.run("status", "-o", "json").stdout)
    assert [(row["process"], row["status"]) for row in status] == [("kafka", "ready"), ("postgres", "ready")]
    began = time.monotonic()
    assert shell.run("down").stderr == "stopped\n"
    assert time.monotonic() - began < 5
    assert not any(run.runs() for run in first)


async def test_of_two_that_start_one_platform_at_once_both_get_it(shell: Shell) -> None:
    done = await asyncio.gather(*(asyncio.to_thread(shell.run, "up", "--servers-only") for _ in range(2)))
    assert [each.returncode for each in done] == [0, 0], [each.stderr for each in done]
    assert all(run.runs() for run in shell.runs())


async def test_two_platforms_that_start_at_once_have_servers_of_their_own(tmp_path: Path) -> None:
    shells = [Shell(tmp_path / name) for name in "ab"]
    await asyncio.gather(*(asyncio.to_thread(shell.run, "up", "--servers-only") for shell in shells))
    try:
        for shell in shells:
            env, data = shell.env(), shell.folder / ".mainstem" / "data"
            assert await cluster_id(env["MAINSTEM_KAFKA"]) in (data / "kafka" / "meta.properties").read_text()
            assert str(data) in str(await fetch(env["MAINSTEM_DATABASE_URL"], "SHOW data_directory"))
    finally:
        await asyncio.gather(*(asyncio.to_thread(shell.run, "down", "--purge") for shell in shells))


@pytest.mark.fault
def test_a_killed_supervisor_leaves_no_orphans_and_down_purge_leaves_nothing(shell: Shell) -> None:
    assert shell.run("up", "--servers-only").returncode == 0
    runs = shell.runs()
    os.kill(shell.state().supervisor.pid, signal.SIGKILL)
    until_ended(runs)
    assert shell.run("status").returncode == 1
    assert shell.run("up", "--servers-only").returncode == 0
    assert shell.run("down", "--purge").returncode == 0
    assert list(shell.folder.iterdir()) == []
    assert len(list((CACHE / "jars").glob("*.jar"))) == len(jars.locked())
