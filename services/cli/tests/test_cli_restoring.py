"""What a restore asks before anything is written: whose log it is, and whether anybody knows of a newer one."""

from pathlib import Path

import pytest
from libs.audit.tests.written_logs import Written, write
from typer.testing import CliRunner

from mainstem.cli.main import app
from mainstem.ledger.checkpoint import Checkpoint
from mainstem.ledger.keys import Secret
from mainstem.testkit.cosigner import LOG

#: Where nothing listens: who comes as far as the database has passed everything that is asked before.
NOBODY = "postgresql://nobody@127.0.0.1:1/none"
PASSED = "127.0.0.1"


@pytest.fixture(scope="module")
def written() -> Written:
    return write(700)


@pytest.fixture
def copy(written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where a copy of 500 entries stands; the platform is one that is yet to be restored."""
    monkeypatch.setattr("mainstem.cli.archive._WAIT_S", 0.1)
    (tmp_path / "secret").write_text(LOG.render())
    (tmp_path / "witness").mkdir()
    settings = {
        "KAFKA": "127.0.0.1:1", "DATABASE_URL": NOBODY, "LOG": tmp_path / "log", "LOG_SECRET": tmp_path / "secret",
        "WITNESS_STATE": tmp_path / "witness", "ARTIFACTS": tmp_path / "artifacts",
    }  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(f"MAINSTEM_{name}", str(value))
    older = Written(written.topics[:500], written.frames[:500])
    return older.copy_to(tmp_path / "copy")


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "witness" / "0123456789abcdef.checkpoint"


def restored(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["audit", "restore", *map(str, arguments)])
    assert result.exit_code == 1
    return " ".join(result.output.split())


@pytest.mark.parametrize("size", [1, 256, 300, 500])
def test_a_copy_passes_that_extends_what_the_witness_remembers(
    copy: Path, memory: Path, written: Written, size: int
) -> None:
    memory.write_bytes(written.note(size).render())
    assert PASSED in restored(copy)


def test_a_copy_is_refused_when_the_witness_remembers_more(copy: Path, memory: Path, written: Written) -> None:
    memory.write_bytes(written.note(700).render())
    assert "the witness knows this log up to 700 entries" in restored(copy)
    memory.unlink()
    assert "the witness remembers nothing of this log" in restored(copy)


def test_a_copy_is_refused_when_the_witness_remembers_another_history(copy: Path, memory: Path) -> None:
    memory.write_bytes(write(400, mark=" ").note().render())
    assert "the witness knows another history of 400 entries" in restored(copy)


@pytest.mark.parametrize("since", [False, True])
@pytest.mark.parametrize("left", [0, 40, 150])
def test_a_memory_of_the_witness_that_was_cut_off_is_named(
    copy: Path, memory: Path, written: Written, tmp_path: Path, left: int, *, since: bool
) -> None:
    memory.write_bytes(written.note(700).render()[:left])
    (tmp_path / "kept").write_bytes(written.note(300).render())
    said = restored(copy, *(["--since", tmp_path / "kept"] if since else []))
    assert f"{memory}, which the witness remembers, is no checkpoint of {LOG.name}" in said


def test_a_memory_of_the_witness_that_the_log_did_not_sign_is_named(copy: Path, memory: Path, written: Written) -> None:
    memory.write_bytes(written.note(700).render().replace(b"\n700\n", b"\n400\n"))
    assert str(memory) in restored(copy)


def test_what_the_witness_remembers_of_other_logs_is_passed_over(copy: Path, memory: Path, written: Written) -> None:
    other = Secret("other.example/log", bytes(32))
    text = Checkpoint(other.name, 9_000, bytes(32)).text()
    memory.with_name("other.checkpoint").write_bytes(f"{text}\n{other.sign(text).line()}".encode())
    assert "the witness remembers nothing of this log" in restored(copy)
    memory.write_bytes(written.note(300).render())
    assert PASSED in restored(copy)
