"""The time in which tests are set, in microseconds."""

from typing import Final

MINUTE: Final = 60_000_000
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
#: 2013-05-01T00:00:00Z
MAY: Final = 1_367_366_400_000_000
