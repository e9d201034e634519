"""The processes' log files, read together."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from mainstem.cli.local.errors import LocalError
from mainstem.cli.local.process import tail

PAUSE_S = 0.2


def find(folder: Path, name: str | None) -> list[Path]:
    """Return the log of one process, or all logs; raises LocalError, naming those there are, when there is none."""
    present = sorted(folder.glob("*.log"))
    chosen = [path for path in present if name in (None, path.stem)]
    if not chosen:
        known = ", ".join(path.stem for path in present) or "none yet"
        raise LocalError(f"no log of {name or 'any process'} in {folder}; there are: {known}")
    return chosen


def read(files: Sequence[Path], lines: int, *, follow: bool) -> Iterator[str]:
    """Yield the last lines of each file, then, if asked to, what is appended, for ever; several files get prefixes."""
    width = max(len(path.stem) for path in files)
    prefixes = {path: f"{path.stem:<{width}} | " if len(files) > 1 else "" for path in files}
    ends = {path: path.stat().st_size for path in files}
    for path, prefix in prefixes.items():
        yield from (prefix + line for line in tail(path, lines))
    while follow:
        time.sleep(PAUSE_S)
        for path, prefix in prefixes.items():
            appended, ends[path] = _since(path, ends[path])
            yield from (prefix + line for line in appended)


def _since(path: Path, end: int) -> tuple[list[str], int]:
    """Return the whole lines after a position and the position after them."""
    with path.open("rb") as file:
        file.seek(end)
        whole, newline, _ = file.read().rpartition(b"\n")
    return whole.decode("utf-8", "replace").splitlines(), end + len(whole) + len(newline)
