"""What is known at a reading of the gauge, and when a load is lifted."""

from mainstem.feature_engine import feature_set

# The folder is a package of whatever name its loader gives it, so it can only be named relatively.
from .sources import gauge, lifted, tide  # noqa: TID252

water = gauge.stream()
sea = tide.stream()
lift = lifted.stream()


@feature_set("water", spine=water, lateness="1h")
class Water:
    """One row for each reading of a gauge."""

    level = water.level
    readings_1h = water.by("station").count("1h")
    high = sea.by("station").last("high", ttl="1d")


@feature_set("strain", spine=lift, lateness="1h")
class Strain:
    """One row for each lift."""

    load = lift.load
    wind = lift.wind
    crane_mean_1d = lift.by("crane").mean("load", "1d")
