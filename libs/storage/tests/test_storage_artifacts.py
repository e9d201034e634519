from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from threading import get_ident

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem.storage import ArtifactCorrupt, ArtifactMissing, Artifacts


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    return Artifacts(tmp_path_factory.mktemp("artifacts"))


@given(st.binary(max_size=100))
def test_only_the_same_bytes_come_back(artifacts: Artifacts, content: bytes) -> None:
    address = artifacts.put(content)
    assert address == f"sha256:{sha256(content).hexdigest()}"
    assert artifacts.get(address) == content


def test_putting_twice_is_one_artifact_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    assert Artifacts(tmp_path).put(b"x") == Artifacts(tmp_path).put(b"x")
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


def test_a_partial_file_of_a_killed_process_is_no_artifact(tmp_path: Path) -> None:
    address = Artifacts(tmp_path).put(b"whole")
    file = next(path for path in tmp_path.rglob("*") if path.is_file())
    file.rename(file.with_name(f"{file.name}.4711"))
    with pytest.raises(ArtifactMissing, match=f"no artifact {address}; put it back from a copy, or make it anew"):
        Artifacts(tmp_path).get(address)
    assert Artifacts(tmp_path).get(Artifacts(tmp_path).put(b"whole")) == b"whole"


def test_changed_bytes_are_refused_and_named(tmp_path: Path) -> None:
    address = Artifacts(tmp_path).put(b"whole")
    next(path for path in tmp_path.rglob("*") if path.is_file()).write_bytes(b"forged")
    said = f"{address} holds bytes of sha256:{sha256(b'forged').hexdigest()}; .*; put it back from a copy$"
    with pytest.raises(ArtifactCorrupt, match=said):
        Artifacts(tmp_path).get(address)


@pytest.mark.parametrize("damaged", [b"", b"forged", b"whol"])
def test_what_is_put_where_its_file_was_changed_is_whole_again(tmp_path: Path, damaged: bytes) -> None:
    address = Artifacts(tmp_path).put(b"whole")
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    file.write_bytes(damaged)
    with file.open("rb") as reader:
        assert Artifacts(tmp_path).put(b"whole") == address
        assert reader.read() == damaged  # whoever had it open reads on: the file is another, not this one rewritten
    assert Artifacts(tmp_path).get(address) == b"whole"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file]


def test_what_is_put_where_its_file_is_whole_leaves_the_file_alone(tmp_path: Path) -> None:
    Artifacts(tmp_path).put(b"whole")
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    before = file.stat()
    Artifacts(tmp_path).put(b"whole")
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_readers_beside_writers_that_heal_a_file_never_see_a_part(tmp_path: Path) -> None:
    content, forged = b"whole" * 100_000, b"forge" * 100_000
    address = Artifacts(tmp_path).put(content)
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())

    def heal(_: int) -> set[bytes]:
        (spoilt := file.with_name(f"spoilt-{get_ident()}")).write_bytes(forged)
        spoilt.replace(file)
        Artifacts(tmp_path).put(content)
        return {file.read_bytes()}

    with ThreadPoolExecutor(4) as threads:
        assert set().union(*threads.map(heal, range(40))) <= {content, forged}
    Artifacts(tmp_path).put(content)
    assert Artifacts(tmp_path).get(address) == content


@pytest.mark.parametrize("address", ["", "sha256:", "../../etc/passwd", "sha256:" + "G" * 64, "sha256:" + "a" * 63])
def test_what_is_no_address_leads_nowhere(artifacts: Artifacts, address: str) -> None:
    with pytest.raises(ArtifactMissing, match="is no content address"):
        artifacts.get(address)
