"""`mainstem demo` finds a project's demo, begins with nothing, and throws away only what a demo made."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mainstem.cli.local.demo import make_empty, module_of
from mainstem.cli.local.errors import AlreadyRunning, LocalError
from mainstem.cli.local.home import Home
from mainstem.cli.local.state import Alive, PlatformState


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.at(tmp_path)


def with_demo(root: Path, project: str) -> Path:
    folder = root / project / "demo"
    folder.mkdir(parents=True)
    (folder / "__main__.py").touch()
    return Path(project)


@pytest.fixture
def supervisor() -> Iterator[Alive]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        alive = Alive.of(process.pid)
        assert alive
        yield alive


def test_a_demo_is_named_as_python_names_it_from_the_root(tmp_path: Path) -> None:
    assert module_of(tmp_path, with_demo(tmp_path, "projects/flights")) == "projects.flights.demo"


def test_a_folder_without_a_demo_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"no .*weather/demo/__main__\.py"):
        module_of(tmp_path, Path("weather"))


def test_a_demo_outside_the_root_is_refused(tmp_path: Path) -> None:
    with_demo(tmp_path, "elsewhere")
    with pytest.raises(LocalError, match="name a project folder"):
        module_of(tmp_path / "here", Path("../elsewhere"))


def test_what_an_earlier_demo_left_is_removed_but_for_the_cache(home: Home) -> None:
    make_empty(home)
    (home.data / "kafka").mkdir()
    (home.jars / "kafka.jar").touch()
    home.env.touch()
    make_empty(home)
    assert [path.name for path in home.data.iterdir()] == ["made-by-a-demo"]
    assert (home.jars / "kafka.jar").exists()
    assert not home.env.exists()


def test_what_a_removal_that_was_cut_off_left_is_removed(home: Home) -> None:
    make_empty(home)
    (home.data / "kafka").mkdir()
    home.data.rename(home.folder / "removed-1")
    make_empty(home)
    assert not (home.folder / "removed-1").exists()
    assert [path.name for path in home.data.iterdir()] == ["made-by-a-demo"]


def test_data_that_no_demo_made_is_kept(home: Home) -> None:
    home.create()
    (home.data / "kafka").mkdir()
    with pytest.raises(LocalError, match="down --purge"):
        make_empty(home)
    assert (home.data / "kafka").exists()


def test_a_running_platform_is_left_alone(home: Home, supervisor: Alive) -> None:
    make_empty(home)
    PlatformState(supervisor=supervisor, processes=()).write(home.state)
    with pytest.raises(AlreadyRunning, match="mainstem down"):
        make_empty(home)
    assert supervisor.runs()
