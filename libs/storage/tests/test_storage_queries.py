import sys
from pathlib import Path

import pytest

from mainstem.storage import load


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a package `stored` that can be imported."""
    folder = tmp_path / "stored"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "stored", raising=False)
    return folder


def test_queries_are_found_by_their_names(package: Path) -> None:
    (package / "queries.sql").write_text("-- What is kept.\n\n-- name: one\nselect 1;\n\n-- name: two\nselect\n  2;\n")
    assert load("stored") == {"one": "select 1;", "two": "select\n  2;"}


def test_a_name_that_stands_twice_is_refused(package: Path) -> None:
    (package / "queries.sql").write_text("-- name: one\nselect 1;\n-- name: one\nselect 2;\n")
    with pytest.raises(ValueError, match=r"stored/queries\.sql: query one stands twice"):
        load("stored")
