"""Many instants at once, as columns."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mainstem.events.instants import CANONICAL_WIDTH, NEVER, parse


def parse_all(texts: Sequence[bytes]) -> npt.NDArray[np.int64]:
    """Return the microseconds of each text; NEVER where one cannot be read. The canonical form is read at once."""
    canonical = len(texts) > 0 and all(len(text) == CANONICAL_WIDTH for text in texts)
    if canonical:
        cells = np.array(texts, dtype=f"S{CANONICAL_WIDTH}").view(np.uint8).reshape(-1, CANONICAL_WIDTH)
        read = _canonical(cells)
        if read is not None:
            return read
    return np.fromiter((_lenient(text) for text in texts), np.int64, len(texts))


def _lenient(text: bytes) -> int:
    try:
        return parse(text.decode())
    except (ValueError, OverflowError):
        return NEVER


def _canonical(cells: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64] | None:
    """Read fixed-width instants column by column; None when any cell is not what its place asks for."""
    marks = {4: "-", 7: "-", 10: "T", 13: ":", 16: ":", 19: ".", 26: "Z"}
    if any((cells[:, place] != ord(mark)).any() for place, mark in marks.items()):
        return None
    digits = np.delete(cells, list(marks), axis=1).astype(np.int64) - ord("0")
    if ((digits < 0) | (digits > 9)).any():
        return None
    year = digits[:, 0:4] @ np.array([1000, 100, 10, 1])
    month, day, hour, minute, second = (digits[:, i] * 10 + digits[:, i + 1] for i in (4, 6, 8, 10, 12))
    micros = digits[:, 14:20] @ np.array([100000, 10000, 1000, 100, 10, 1])
    if (year < 1).any() or not _valid(month, day, hour, minute, second):
        return None
    months = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    first = months.astype("datetime64[D]").astype(np.int64)
    days = first + day - 1
    if (days >= (months + 1).astype("datetime64[D]").astype(np.int64)).any():
        return None
    read: npt.NDArray[np.int64] = ((days * 24 + hour) * 60 + minute) * 60_000_000 + second * 1_000_000 + micros
    return read


def _valid(
    month: npt.NDArray[np.int64],
    day: npt.NDArray[np.int64],
    hour: npt.NDArray[np.int64],
    minute: npt.NDArray[np.int64],
    second: npt.NDArray[np.int64],
) -> bool:
    in_range = (month >= 1) & (month <= 12) & (day >= 1) & (hour < 24) & (minute < 60) & (second < 60)
    return bool(in_range.all())
