"""Local clock parts of instants, from the zone's own table of offsets, without an object per instant.

Offsets are found by asking `zoneinfo` once a day of each year that occurs and bisecting where two days differ.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

SECOND = 1_000_000
FIRST_INSTANT = -62_135_510_400 * SECOND
"""0001-01-02 UTC: the first instant that has a local time everywhere."""
LAST_INSTANT = 253_402_214_400 * SECOND
"""9999-12-31 UTC: the last one."""

_DAY = 86_400

_PARTS: dict[str, Callable[[NDArray[np.int64]], NDArray[np.int64]]] = {
    "hour": lambda second: second // 3600 % 24,
    "minute_of_day": lambda second: second // 60 % 1440,
    "day_of_week": lambda second: (second // _DAY + 3) % 7,
    "hour_of_week": lambda second: (second // _DAY + 3) % 7 * 24 + second // 3600 % 24,
}
PARTS = tuple(_PARTS)


def local_part(instants: NDArray[np.int64], zone: str, part: str) -> NDArray[np.int64]:
    """Return `part` of each instant (µs since 1970-01-01 UTC) on the wall clock of `zone`; weeks begin on Monday at 0.

    Raises zoneinfo.ZoneInfoNotFoundError for an unknown zone and KeyError for an unknown part.

    >>> local_part(np.array([1_357_016_400_000_000]), "America/New_York", "hour_of_week").tolist()
    [24]
    """
    seconds = instants // SECOND
    return _PARTS[part](seconds + _offsets(seconds, zone))


def _offsets(seconds: NDArray[np.int64], zone: str) -> NDArray[np.int64]:
    if seconds.size == 0:
        return seconds
    years = np.unique(seconds.astype("datetime64[s]").astype("datetime64[Y]").astype(np.int64)) + 1970
    tables = [_table(zone, int(year)) for year in years]
    starts = np.concatenate([table[0] for table in tables])
    offsets = np.concatenate([table[1] for table in tables])
    return offsets[np.searchsorted(starts, seconds, side="right") - 1]


@lru_cache(maxsize=1024)
def _table(zone: str, year: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the offsets in force in a UTC year: the second each begins to hold, and the offset in seconds."""
    first = int(np.datetime64(f"{year:04d}", "s").astype(np.int64))
    end = int(np.datetime64(f"{year + 1:04d}", "s").astype(np.int64)) if year < 9999 else LAST_INSTANT // SECOND
    first = max(first, FIRST_INSTANT // SECOND)
    tz = ZoneInfo(zone)
    starts, offsets = [first], [_offset(tz, first)]
    for day in range(first + _DAY, end + _DAY, _DAY):
        last = min(day, end)
        while _offset(tz, last) != offsets[-1]:
            starts.append(_change(tz, max(starts[-1], last - _DAY), last, offsets[-1]))
            offsets.append(_offset(tz, starts[-1]))
    return np.array(starts), np.array(offsets)


def _change(tz: ZoneInfo, before: int, after: int, offset: int) -> int:
    """Return the second at which the zone leaves `offset`, which holds at `before` and not at `after`."""
    while after - before > 1:
        middle = (before + after) // 2
        if _offset(tz, middle) == offset:
            before = middle
        else:
            after = middle
    return after


def _offset(tz: ZoneInfo, second: int) -> int:
    offset = datetime.fromtimestamp(second, UTC).astimezone(tz).utcoffset()
    return 0 if offset is None else round(offset.total_seconds())
