"""Instants on the wire and in code: RFC 3339 in UTC with six decimals, and int64 microseconds since 1970."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt

#: What stands for an instant that could not be read.
NEVER: Final = -(2**63)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TICK: Final = timedelta(microseconds=1)
_FIRST_US: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _TICK
_LAST_US: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _TICK
#: Characters of an instant as `render` writes it.
CANONICAL_WIDTH: Final = 27  # 2013-05-01T04:00:00.000000Z


def render(instant_us: int) -> str:
    """Return `instant_us` as `2013-05-01T04:00:00.000000Z`."""
    return (_EPOCH + timedelta(microseconds=instant_us)).isoformat(timespec="microseconds")[:-6] + "Z"


def parse(text: str) -> int:
    """Return the microseconds of an RFC 3339 instant; raise ValueError when it is none, or has no offset.

    What `parse` reads, `render` can write: an offset that carries an instant out of the years 1 to 9999 is refused.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"instant {text!r} has no offset from UTC; write it with a Z")
    instant_us = (moment - _EPOCH) // _TICK
    if not _FIRST_US <= instant_us <= _LAST_US:
        raise ValueError(f"instant {text!r} lies outside the years 1 to 9999 in UTC")
    return instant_us


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
