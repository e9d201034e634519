"""Instants on the wire and in code: RFC 3339 in UTC with six decimals, and int64 microseconds since 1970."""

from datetime import UTC, datetime, timedelta
from typing import Final

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
