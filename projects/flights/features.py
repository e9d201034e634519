"""What is known about a flight when it leaves: itself, its airport, carrier, destination, aircraft and the weather."""

from mainstem.feature_engine import feature_set, target

# The folder is a package of whatever name its loader gives it, so it can only be named relatively.
from .sources import flight_arrived, flight_departed, weather_observed  # noqa: TID252

dep = flight_departed.stream()
arr = flight_arrived.stream()
wx = weather_observed.stream()
late = arr.arr_delay > 15


@feature_set("flight_delay", spine=dep, lateness="6h")
class FlightDelay:
    """One row for each departure."""

    dep_delay = dep.dep_delay
    hour_of_week = dep.sched_dep.local("America/New_York").hour_of_week
    distance = dep.distance
    origin_mean_1h = dep.by("origin").mean("dep_delay", "1h")
    origin_std_3h = dep.by("origin").std("dep_delay", "3h")
    origin_now = dep.by("origin").decay_mean("dep_delay", half_life="30m", horizon="4h", tick="1m")
    origin_deps_1h = dep.by("origin").count("1h")
    origin_dests_1h = dep.by("origin").distinct("dest", "1h")
    carrier_late_24h = arr.by("carrier").mean(late, "24h")
    carrier_late_7d = arr.by("carrier").mean(late, "7d")
    dest_late_24h = arr.by("dest").mean(late, "24h")
    tail_last = arr.by("tail").last("arr_delay", ttl="30d")
    tail_age = arr.by("tail").age("arr_delay", ttl="30d")
    wind = wx.by("origin").last("wind", ttl="6h")
    visib = wx.by("origin").last("visib", ttl="6h")
    arrives_late = target(arr.arr_delay > 15, on="flight", wait="24h")
