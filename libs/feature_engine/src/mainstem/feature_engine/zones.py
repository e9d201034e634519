"""Time zones as the `tzdata` package has them, which the lock file pins: the machine's own database has no say."""

from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


@cache
def zone_info(name: str) -> ZoneInfo:
    """Return the zone of an IANA name; raise zoneinfo.ZoneInfoNotFoundError if there is none.

    >>> zone_info("Europe/Berlin").key
    'Europe/Berlin'
    """
    if name not in _names():
        raise ZoneInfoNotFoundError(f"there is no zone {name!r} in the tzdata package")
    with files("tzdata.zoneinfo").joinpath(*name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


@cache
def _names() -> frozenset[str]:
    return frozenset(files("tzdata").joinpath("zones").read_text(encoding="utf-8").split())
