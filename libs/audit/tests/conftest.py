"""A log, and a copy of it for each test."""

from pathlib import Path

import pytest
from libs.audit.tests.written_logs import Written, write


@pytest.fixture(scope="session")
def written() -> Written:
    return write()


@pytest.fixture
def folder(written: Written, tmp_path: Path) -> Path:
    """Return where a whole copy stands, for the test to do with what it likes."""
    return written.copy_to(tmp_path / "copy")
