"""Nothing of a copy is called signed or proven but by a key that tells."""

import json
import os
from pathlib import Path

import pytest
from libs.audit.tests.written_logs import Written, write
from typer.testing import CliRunner, Result

from mainstem.audit.log import Log
from mainstem.cli.main import app
from mainstem.ledger import leaf_hashes
from mainstem.ledger.keys import Secret
from mainstem.ledger.note import Note
from mainstem.ledger.tiles import pack_entries, unpack_entries
from mainstem.testkit.cosigner import LOG, WITNESS

KEYS = ("--log-key", LOG.log_key.vkey(), "--witness-key", WITNESS.witness_key.vkey())
THIEF = Secret(LOG.name, bytes(32))
UNCHECKED = "signature not checked: give --log-key"


@pytest.fixture(scope="module")
def written() -> Written:
    return write(300)


@pytest.fixture
def copy(written: Written, tmp_path: Path) -> Path:
    return written.copy_to(tmp_path / "copy")


@pytest.fixture
def rewritten(written: Written, tmp_path: Path) -> Path:
    """Return a copy of another history, whole in itself, below the lines that were signed over this one."""
    copy = write(300, mark=" ").copy_to(tmp_path / "rewritten")
    note = Note(Log(copy).note.text, written.note().signatures)
    (copy / "checkpoint").write_bytes(note.render())
    return copy


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["audit", *map(str, arguments)])


def absence(copy: Path, *keys: str) -> tuple[int, bool, str]:
    done = run("absent", "src.gauge/0/0", "src.harbour", "--log", copy, *keys, "-o", "json")
    found = json.loads(done.stdout)
    return done.exit_code, found["proven"], found["signature"]


def test_absence_is_proven_by_who_signed_alone(copy: Path, rewritten: Path) -> None:
    assert absence(copy, *KEYS) == (0, True, "signed by example.com/log, example.com/witness")
    assert absence(copy, *KEYS[:2]) == (0, True, "signed by example.com/log")
    assert absence(copy) == (1, False, UNCHECKED)
    code, proven, said = absence(rewritten, *KEYS)
    assert (code, proven) == (1, False)
    assert "the signature of example.com/log is not of its key" in said


def test_a_graph_from_before_lends_no_belief_to_entries_changed_since(copy: Path, tmp_path: Path) -> None:
    export = ("lineage", "openlineage", tmp_path / "lineage.ndjson", "--log", copy)
    assert run(*export).exit_code == 0
    held = Log(copy).held()
    (tmp_path / "lineage.ndjson").unlink()
    entries, hashes = copy / "tile" / "entries" / "000", copy / "tile" / "0" / "000"
    times = [(file, (file.stat().st_atime_ns, file.stat().st_mtime_ns)) for file in (entries, hashes)]
    found = [data.replace(b'"ann"', b'"eve"') for data in unpack_entries(entries.read_bytes())]
    entries.write_bytes(pack_entries(found))
    hashes.write_bytes(leaf_hashes(found))
    for file, then in times:
        os.utime(file, ns=then)
    assert Log(copy).held() == held
    done = run(*export)
    assert (done.exit_code, (tmp_path / "lineage.ndjson").exists()) == (1, False)
    assert "the entries make another root than the checkpoint has" in " ".join(done.stderr.split())


def test_a_proof_says_whose_signature_was_checked(copy: Path) -> None:
    held, unheld = run("prove", copy, 7, *KEYS), run("prove", copy, 7)
    assert held.stdout == unheld.stdout
    assert held.stderr.strip().endswith("signed by example.com/log, example.com/witness")
    assert unheld.stderr.strip().endswith(UNCHECKED)


def test_no_proof_is_given_of_what_the_owners_of_the_keys_did_not_sign(copy: Path, rewritten: Path) -> None:
    thief = ("--log-key", THIEF.log_key.vkey())
    other = ("--log-key", Secret("elsewhere.example/log", bytes(32)).log_key.vkey())
    for folder, keys, why in (
        (rewritten, KEYS, "the signature of example.com/log is not of its key"),
        (copy, thief, "the note is signed by none of example.com/log"),
        (copy, other, "of the log example.com/log, not of elsewhere.example/log"),
    ):
        done = run("prove", folder, 7, *keys)
        assert (done.exit_code, done.stdout) == (1, "")
        assert why in " ".join(done.stderr.split())


def test_the_key_of_a_witness_alone_tells_nothing(copy: Path) -> None:
    done = run("prove", copy, 7, *KEYS[2:])
    assert (done.exit_code, done.stdout) == (1, "")
    assert "give the key of the log with --log-key, too" in " ".join(done.stderr.split())
