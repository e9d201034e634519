"""The lock of the broker's jars."""

import re
from hashlib import sha256
from pathlib import Path

import pytest

from mainstem.cli.local import jars
from mainstem.cli.local.errors import JarMismatch, SetupFailed

CONTENT = b"classes"
LINE = f"org.example:tool:1.2 {sha256(CONTENT).hexdigest()}\n"


def test_the_lock_names_every_jar_once_with_its_hash() -> None:
    locked = jars.locked()
    assert len({jar.name for jar in locked}) == len(locked) == 46
    assert all(re.fullmatch("[0-9a-f]{64}", jar.sha256) for jar in locked)


def test_a_line_is_group_artifact_version_and_hash() -> None:
    (jar,) = jars.parse([LINE])
    assert (jar.group, jar.artifact, jar.version) == ("org.example", "tool", "1.2")
    assert jar.path(Path("cache")) == Path("cache/tool-1.2.jar")


def test_what_is_not_cached_is_missing(tmp_path: Path) -> None:
    wanted = jars.parse([LINE])
    assert jars.missing(wanted, tmp_path) == list(wanted)


def test_a_cached_jar_with_the_locked_content_is_not_missing(tmp_path: Path) -> None:
    (tmp_path / "tool-1.2.jar").write_bytes(CONTENT)
    assert jars.missing(jars.parse([LINE]), tmp_path) == []


def test_a_cached_jar_with_other_content_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "tool-1.2.jar").write_bytes(CONTENT + b"!")
    with pytest.raises(JarMismatch, match=r"org\.example:tool:1\.2 .* the lock says"):
        jars.missing(jars.parse([LINE]), tmp_path)


async def test_a_jar_that_cannot_be_fetched_is_named_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    with pytest.raises(SetupFailed, match=r"\w:\S+ is not cached and could not be fetched .* connect to the network"):
        await jars.ensure(tmp_path)


def test_the_class_path_holds_the_locked_jars_only(tmp_path: Path) -> None:
    (tmp_path / "stray-1.0.jar").touch()
    names = [Path(entry).name for entry in jars.class_path(tmp_path).split(":")]
    assert names == [jar.path(tmp_path).name for jar in jars.locked()]
