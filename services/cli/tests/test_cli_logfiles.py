"""Reading the processes' logs."""

from itertools import islice
from pathlib import Path

import pytest

from mainstem.cli.local import logfiles
from mainstem.cli.local.errors import LocalError


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    (tmp_path / "kafka.log").write_text("one\ntwo\nthree\n")
    (tmp_path / "serving.log").write_text("hello\n")
    return tmp_path


def test_one_log_is_read_as_it_is(logs: Path) -> None:
    assert list(logfiles.read(logfiles.find(logs, "kafka"), 2, follow=False)) == ["two", "three"]


def test_several_logs_are_told_apart_by_a_prefix(logs: Path) -> None:
    lines = logfiles.read(logfiles.find(logs, None), 1, follow=False)
    assert list(lines) == ["kafka   | three", "serving | hello"]


def test_following_yields_whole_lines_as_they_come(logs: Path) -> None:
    lines = logfiles.read(logfiles.find(logs, "kafka"), 1, follow=True)
    assert next(lines) == "three"
    with (logs / "kafka.log").open("a") as log:
        log.write("four\nfive\nsi")
    assert list(islice(lines, 2)) == ["four", "five"]


def test_an_unknown_process_is_an_error_that_names_the_known_ones(logs: Path) -> None:
    with pytest.raises(LocalError, match=r"no log of pulsar in .*; there are: kafka, serving"):
        logfiles.find(logs, "pulsar")
