"""A copy, read by Go's checksum database code; where there is no Go, or its module cannot be had, this says so."""

import shutil
import subprocess
from pathlib import Path

import pytest
from libs.audit.tests.written_logs import SIZE

from mainstem.testkit.cosigner import LOG

SOURCE = Path(__file__).with_name("sumdb")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the program, built; skip with the reason where that cannot be done."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("NOT RUN: there is no Go on this machine; install it to have golang.org/x/mod read a copy")
    built = tmp_path_factory.mktemp("sumdb") / "sumdb"
    done = subprocess.run((go, "build", "-o", built, "."), cwd=SOURCE, capture_output=True, text=True, check=False)
    if done.returncode and "dial tcp" in done.stderr:
        pytest.skip(f"NOT RUN: golang.org/x/mod is not there and cannot be fetched: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return built


def run(program: Path, copy: Path) -> subprocess.CompletedProcess[str]:
    command = (program, copy, LOG.log_key.vkey())
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_code_of_gos_checksum_database_accepts_a_copy(program: Path, folder: Path) -> None:
    done = run(program, folder)
    assert (done.returncode, done.stdout) == (0, f"{SIZE} entries, {(SIZE + 1) // 3} older trees: accepted\n"), (
        done.stderr
    )


def test_it_does_not_accept_a_changed_one(program: Path, folder: Path) -> None:
    bundle = folder / "tile" / "entries" / "002"
    bundle.write_bytes(bundle.read_bytes().replace(b'"level": 613', b'"level": 614'))
    done = run(program, folder)
    assert (done.returncode, done.stderr.startswith("leaf 613: ")) == (1, True)
