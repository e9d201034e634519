"""The offsets of zones, year by year, from the zones' own rules.

Offsets are found by asking the zone once a day of each year that occurs and bisecting where two days differ.
"""

from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from mainstem.feature_engine.zones import zone_info

SECOND = 1_000_000
FIRST_INSTANT = -62_135_510_400 * SECOND
"""0001-01-02 UTC: the first instant that has a local time everywhere."""
LAST_INSTANT = 253_402_214_400 * SECOND
"""9999-12-31 UTC: the last one."""

_DAY = 86_400

PARTS = ("hour", "minute_of_day", "day_of_week", "hour_of_week")


@lru_cache(maxsize=1024)
def offsets_in_force(zone: str, year: int) -> NDArray[np.int64]:
    """Return lines (second since 1970, offset in seconds in force from it on) that cover a UTC year.

    Raises zoneinfo.ZoneInfoNotFoundError for an unknown zone.

    >>> offsets_in_force("America/New_York", 2013).tolist()
    [[1356998400, -18000], [1362898800, -14400], [1383458400, -18000]]
    """
    first = int(np.datetime64(f"{year:04d}", "s").astype(np.int64))
    end = int(np.datetime64(f"{year + 1:04d}", "s").astype(np.int64)) if year < 9999 else LAST_INSTANT // SECOND
    first = max(first, FIRST_INSTANT // SECOND)
    tz = zone_info(zone)
    starts, offsets = [first], [_offset(tz, first)]
    for day in range(first + _DAY, end + _DAY, _DAY):
        last = min(day, end)
        while _offset(tz, last) != offsets[-1]:
            starts.append(_change(tz, max(starts[-1], last - _DAY), last, offsets[-1]))
            offsets.append(_offset(tz, starts[-1]))
    return np.stack([starts, offsets], axis=1)


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
