"""The command line as a program."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent


def run(*arguments: str, at: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAINSTEM_")}
    command = (BIN / "mainstem", *arguments)
    return subprocess.run(command, cwd=at, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_help_names_every_command_of_the_platform(tmp_path: Path) -> None:
    text = run("--help", at=tmp_path).stdout
    assert all(f" {name} " in text for name in ("up", "down", "status", "logs", "doctor"))


def test_help_loads_nothing_that_is_slow_to_load() -> None:
    asked = "import sys; from mainstem.cli import main; print(sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout
    slow = ("numpy", "pydantic", "aiokafka", "asyncpg", "httpx", "pyarrow", "sklearn", "onnxruntime", "numba")
    assert [name for name in slow if f"'{name}'" in loaded] == []


@pytest.mark.parametrize("command", ["status", "logs"])
def test_without_a_platform_a_command_says_how_to_start_one(command: str, tmp_path: Path) -> None:
    done = run(command, at=tmp_path)
    assert done.returncode == 1
    assert (
        done.stderr
        == f"mainstem: no platform at or above {tmp_path}; start one with `mainstem up`, or set MAINSTEM_HOME\n"
    )


def test_down_where_nothing_runs_is_done_and_leaves_nothing(tmp_path: Path) -> None:
    done = run("down", "--purge", at=tmp_path)
    assert (done.returncode, done.stderr) == (0, f"nothing was running\nremoved {tmp_path}/.mainstem\n")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_option_is_wrong_usage(tmp_path: Path) -> None:
    assert run("up", "--sideways", at=tmp_path).returncode == 2


def test_doctor_tells_each_check_with_its_verdict(tmp_path: Path) -> None:
    checks = {check["check"]: check for check in json.loads(run("doctor", "-o", "json", at=tmp_path).stdout)}
    assert set(checks) == {
        "python", "java", "jars", "postgres", "launcher", "ports", "disk", "memory", "clock",
    }  # fmt: skip
    assert checks["java"]["verdict"] == checks["postgres"]["verdict"] == "ok"


def test_doctor_fails_on_a_jar_that_was_changed(tmp_path: Path) -> None:
    cache = tmp_path / ".mainstem" / "cache" / "jars"
    cache.mkdir(parents=True)
    (cache / "snakeyaml-2.5.jar").write_text("not a jar")
    done = run("doctor", "-o", "json", at=tmp_path)
    (jars,) = [check for check in json.loads(done.stdout) if check["check"] == "jars"]
    assert done.returncode == 1
    assert (jars["verdict"], jars["fix"]) == ("blocks", f"remove it from {cache}; `mainstem up` fetches it anew")
    assert "org.yaml:snakeyaml:2.5" in jars["found"]


def test_doctor_changes_nothing(tmp_path: Path) -> None:
    run("doctor", at=tmp_path)
    assert list(tmp_path.iterdir()) == []
