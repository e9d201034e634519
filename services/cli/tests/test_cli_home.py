"""Where things are kept, and what `state.json` says."""

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mainstem.auth import Principals
from mainstem.cli.local import principals
from mainstem.cli.local.errors import NotRunning
from mainstem.cli.local.home import SOCKET_PATH_BYTES, Home, find_home, write_private
from mainstem.cli.local.launcher import in_user_namespace
from mainstem.cli.local.postgres import Postgres, given_database
from mainstem.cli.local.state import Alive, PlatformState, ProcessState, Status


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_platform_is_found_from_a_folder_below_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAINSTEM_HOME", raising=False)
    Home.at(tmp_path).create()
    Home.at(tmp_path).state.touch()
    below = tmp_path / "projects" / "flights"
    below.mkdir(parents=True)
    assert find_home(below).root == tmp_path


def test_the_environment_names_the_platform_before_the_folder_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAINSTEM_HOME", str(tmp_path))
    assert find_home(Path("/")).root == tmp_path


def test_no_platform_is_an_error_that_says_how_to_start_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAINSTEM_HOME", raising=False)
    with pytest.raises(NotRunning, match="start one with `mainstem up`"):
        find_home(tmp_path)


def test_a_deep_folder_keeps_its_socket_elsewhere_under_a_short_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/t")
    home = Home.at(Path("/home") / ("deep" * 30))
    assert len(os.fsencode(home.sockets / ".s.PGSQL.65535")) <= SOCKET_PATH_BYTES


def test_purge_leaves_nothing(tmp_path: Path) -> None:
    home = Home.at(tmp_path / ("deep" * 30))
    home.create()
    home.purge()
    assert not home.folder.exists()
    assert not home.sockets.exists()


def test_private_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    write_private(tmp_path / "secret", "word")
    assert mode(tmp_path / "secret") == 0o600


def test_a_database_of_the_users_own_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAINSTEM_DATABASE_URL", "postgresql://me:word@there/mine")
    assert given_database(Home.at(tmp_path)) == "postgresql://me:word@there/mine"


def test_the_platforms_own_database_in_a_shell_that_sourced_its_env_is_not_a_given_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home.at(tmp_path / "sourced")
    home.create()
    server = Postgres(home, in_user_namespace(home), port=15432)
    monkeypatch.setenv("MAINSTEM_DATABASE_URL", server.url)
    monkeypatch.setenv("MAINSTEM_HOME", str(home.root))
    assert given_database(Home.at(tmp_path / "another")) is None


async def test_a_lock_of_a_server_that_is_gone_is_removed_even_if_its_process_id_came_back(tmp_path: Path) -> None:
    home = Home.at(tmp_path)
    server = Postgres(home, in_user_namespace(home), port=15432)
    server.data.mkdir(parents=True)
    (server.data / "postmaster.pid").write_text(f"{os.getpid()}\n{server.data}\n")
    await server.prepare()
    assert list(server.data.iterdir()) == []


def test_the_token_file_is_private_and_what_the_services_read(tmp_path: Path) -> None:
    principals.ensure(tmp_path / "principals.json")
    lines = json.loads((tmp_path / "principals.json").read_text())
    assert mode(tmp_path / "principals.json") == 0o600
    known = Principals.parse((tmp_path / "principals.json").read_text())
    assert [known.authenticate(line["token"]).name for line in lines] == ["operator", "builder", "approver"]  # type: ignore[union-attr]


def test_tokens_are_made_once(tmp_path: Path) -> None:
    path = tmp_path / "principals.json"
    principals.ensure(path)
    first = path.read_text()
    principals.ensure(path)
    assert path.read_text() == first


def test_an_id_that_came_back_is_not_the_same_run() -> None:
    here = Alive.of(os.getpid())
    assert here is not None
    assert here.runs()
    assert not Alive(pid=here.pid, started=here.started - 10).runs()


def test_leftovers_of_a_killed_supervisor_are_ended(tmp_path: Path) -> None:
    with subprocess.Popen((sys.executable, "-S", "-c", "import signal; signal.pause()")) as child:
        run = Alive.of(child.pid)
        left = ProcessState(name="postgres", status=Status.READY, address="127.0.0.1:1", restarts=0, run=run)
        PlatformState(supervisor=Alive(pid=1, started=0.0), processes=(left,)).clear_leftovers()
        assert child.wait() == -signal.SIGINT or child.returncode == 1


def test_the_state_survives_being_written(tmp_path: Path) -> None:
    here = Alive.of(os.getpid())
    assert here is not None
    state = PlatformState(supervisor=here, processes=(), failure="kafka ended 5 times")
    state.write(tmp_path / "state.json")
    assert PlatformState.read(tmp_path / "state.json") == state


def test_a_state_file_of_another_version_reads_as_none(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"ports": []}')
    assert PlatformState.read(tmp_path / "state.json") is None
