"""Each single call by which the log is published or the witness remembers fails once, in each way: nothing is lost.

The kernel fails them where `strace` can be used; everywhere they fail where Python makes them. A write that is short is
made so in Python alone: `strace` can only say that it was.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import pytest
from tests.fault.disk import Disk, Kind, recorded
from tests.fault.injection import (
    DONE,
    FAILED,
    KILLED,
    Failure,
    Fault,
    Run,
    injection,
    not_traceable,
    numbered,
    run,
    run_traced,
)
from tests.fault.published import check_all, go_on
from tests.fault.publishing import SIZES, publish

pytestmark = [pytest.mark.fault, pytest.mark.usefixtures("nothing_is_synced")]


def fresh(folder: Path, name: str) -> Path:
    root = folder / name
    root.mkdir()
    return root


def listed(root: Path) -> list[tuple[Kind, str]]:
    """Return every call of an undisturbed run as Python makes it, with its path."""
    made: list[tuple[Kind, str]] = []

    def note(kind: Kind, path: Path) -> float:
        made.append((kind, path.relative_to(root).as_posix()))
        return 1.0

    with Disk(root, note).watched():
        asyncio.run(publish(root, SIZES, lambda _: None))
    return made


def while_cosigning(paths: Sequence[str]) -> list[bool]:
    """Tell of each call whether it was the witness's, while it cosigned; what came before any tile was its start."""
    start = next(place for place, path in enumerate(paths) if "tile" in path)
    return ["witness" in path and place > start for place, path in enumerate(paths)]


def expected(failure: Failure, *, cosigning: bool) -> int:
    """Return how a process ends.

    It does all of its work in spite of the fault where the rest of a write is written by another, and where the witness
    fails while it cosigns: it answers 500 and is asked again. Every other error ends the process.
    """
    if failure == "KILL":
        return KILLED
    return DONE if failure == "SHORT" or cosigning else FAILED


def hold(ended: Run, code: int) -> None:
    """Read what a process left, and let another one go on from there."""
    assert ended.code == code, (ended.root, ended.code)
    check_all(ended.root, ended.said)
    go_on(ended.root, ended.said)


@pytest.mark.parametrize("failure", get_args(Failure))
def test_nothing_is_lost_whichever_call_fails_in_python(tmp_path: Path, failure: Failure) -> None:
    made = listed(fresh(tmp_path, "undisturbed"))
    cosigning = while_cosigning([path for _, path in made])
    chosen = [at for at, (kind, _) in enumerate(made) if failure != "SHORT" or kind == "write"]
    for at in chosen:
        ended = run(fresh(tmp_path, str(at)), Fault(failure, at + 1))
        hold(ended, expected(failure, cosigning=cosigning[at]))
    print(f"{failure}: {len(chosen)} runs")
    assert len(chosen) >= (15 if failure == "SHORT" else 100)


@pytest.fixture(scope="session")
def tracing() -> None:
    """Say plainly where the kernel cannot be asked for it."""
    if why := not_traceable():
        pytest.skip(why)


@pytest.mark.usefixtures("tracing")
@pytest.mark.parametrize("failure", ["KILL", "EIO", "ENOSPC"])
def test_nothing_is_lost_whichever_call_fails_in_the_kernel(tmp_path: Path, failure: Failure) -> None:
    steps = recorded(tmp_path / "recorded")
    paths = sorted({name for step in steps for name in ("", step.path, step.name, str(Path(step.path).parent))})
    whole, lines = run_traced(fresh(tmp_path, "undisturbed"), paths)
    hold(whole, DONE)
    made = numbered(lines)
    cosigning = while_cosigning([arguments.replace(str(whole.root), "") for _, _, arguments in made])
    for at, (call, number, _) in enumerate(made):
        ended, _ = run_traced(fresh(tmp_path, str(at)), paths, *injection(call, number, failure))
        hold(ended, expected(failure, cosigning=cosigning[at]))
    print(f"{failure}: {len(made)} runs")
    assert len(made) >= 100
