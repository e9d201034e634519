"""The features of the flights in polars, by the rules of the engine: the peer of a backfill.

A window ends before the event, which is out of it with all ties (`closed="left"`). Of another stream only what has
arrived counts; since its delays are constant, that is the same as a window that ends the difference of delays earlier.
"""

from typing import NamedTuple

import numpy as np
import polars as pl

from mainstem.feature_engine import Batch

#: How much later than a departure another event becomes known, in minutes.
_LATER = {"arrived": 1, "observed": 59}
_DAY = 24 * 60
_HALF_LIFE, _HORIZON = 30, 240  # minutes; so is the tick


class Frames(NamedTuple):
    """The streams as polars likes them: categories, instants, and nulls for what is missing."""

    departed: pl.DataFrame
    arrived: pl.DataFrame
    observed: pl.DataFrame


def frames(log: Batch) -> Frames:
    """Bring a log into polars; no part of what is measured. Raises RuntimeError if polars has more than one thread."""
    if pl.thread_pool_size() != 1:
        raise RuntimeError(
            f"polars has {pl.thread_pool_size()} threads: set POLARS_MAX_THREADS=1 before it is imported"
        )
    departed, arrived, observed = (_frame(log, number) for number in range(3))
    return Frames(
        departed.with_columns(pl.col("sched_dep").cast(pl.Datetime("us", "UTC")), event=pl.lit(1.0)),
        arrived,
        observed.with_columns(pl.col("wind").round(3)),  # the contract's thousandths
    )


def by_functions(given: Frames) -> pl.DataFrame:
    """Return the features that `rolling_*_by` and `join_asof` are made for, a row for each departure."""
    tail = _latest(given.departed, given.arrived, "tail", "arr_delay", _LATER["arrived"], 30 * _DAY)
    wind, visib = (
        _latest(given.departed, given.observed, "origin", column, _LATER["observed"], 6 * 60)[column]
        for column in ("wind", "visib")
    )
    age = (pl.col("at") - pl.col("seen")).dt.total_microseconds() / 1e6
    looked_up = tail.select(tail_last="arr_delay", tail_age=age).with_columns(wind, visib)
    return pl.concat([_own(given.departed), _late(given), looked_up], how="horizontal")


def by_groups(given: Frames) -> pl.DataFrame:
    """Return the features that take the rows of each window apart, a row for each departure."""
    rows = given.departed.select("at", "origin", "dest", "dep_delay")
    places = given.departed.with_row_index("row").group_by("origin", maintain_order=True).agg("row").explode("row")
    hour = rows.rolling("at", period="1h", closed="left", group_by="origin")
    horizon = rows.rolling("at", period=f"{_HORIZON}m", closed="left", group_by="origin")
    inside = horizon.agg(delay="dep_delay", then=pl.col("at")).with_row_index("window")
    found = hour.agg(origin_dests_1h=pl.col("dest").n_unique()).with_columns(places["row"]).with_row_index("window")
    return found.join(_decayed(inside), "window", how="left").sort("row").select("origin_dests_1h", "origin_now")


def _own(departed: pl.DataFrame) -> pl.DataFrame:
    """Return the event itself, and windows over the departures before it."""
    local, delay = pl.col("sched_dep").dt.convert_time_zone("America/New_York").dt, pl.col("dep_delay")
    return departed.select(
        "dep_delay",
        "distance",
        hour_of_week=(local.weekday() - 1).cast(pl.Int32) * 24 + local.hour(),
        origin_mean_1h=delay.rolling_mean_by("at", "1h", closed="left").over("origin"),
        origin_std_3h=delay.rolling_std_by("at", "3h", closed="left").over("origin"),
        origin_deps_1h=pl.col("event").rolling_sum_by("at", "1h", closed="left").over("origin").fill_null(0),
    )


def _late(given: Frames) -> pl.DataFrame:
    """Return windows over arrivals: departures are put among them as nulls, where they are known to end."""
    later = _LATER["arrived"]
    late = (pl.col("arr_delay") > 15).cast(pl.Float64)
    arrived = given.arrived.select("at", "carrier", "dest", late=late, row=pl.lit(None, pl.UInt32))
    asking = given.departed.with_row_index("row").select(
        pl.col("at") - pl.duration(minutes=later), "carrier", "dest", late=pl.lit(None, pl.Float64), row="row"
    )

    def rate(key: str, minutes: int) -> pl.Expr:
        return pl.col("late").rolling_mean_by("at", f"{minutes - later}m", closed="left").over(key)

    rates = (
        pl.concat([arrived, asking])
        .sort("at")
        .select(
            "row",
            carrier_late_24h=rate("carrier", _DAY),
            carrier_late_7d=rate("carrier", 7 * _DAY),
            dest_late_24h=rate("dest", _DAY),
        )
    )
    return rates.drop_nulls("row").sort("row").drop("row")


def _latest(departed: pl.DataFrame, events: pl.DataFrame, key: str, column: str, later: int, ttl: int) -> pl.DataFrame:
    """Return the last known value of a column, and when it was seen; all in minutes."""
    return departed.select("at", key, known=pl.col("at") - pl.duration(minutes=later)).join_asof(
        events.drop_nulls(column).select(key, column, seen="at"),
        left_on="known",
        right_on="seen",
        by=key,
        tolerance=f"{ttl - later}m",
        allow_exact_matches=False,
        check_sortedness=False,  # they are
    )


def _decayed(inside: pl.DataFrame) -> pl.DataFrame:
    """Return the decayed mean of each window that is not empty."""
    weights = np.rint(2.0 ** (24 - np.arange(_HORIZON + 1) / _HALF_LIFE))
    age = (pl.col("at") - pl.col("then")).dt.total_minutes()
    each = (
        inside.lazy().explode("delay", "then").select("window", "delay", weight=pl.lit(pl.Series(weights)).gather(age))
    )
    weighed = each.select("window", "weight", weighed=pl.col("delay") * pl.col("weight"))
    mean = pl.col("weighed").sum() / pl.col("weight").sum()
    return weighed.group_by("window", maintain_order=True).agg(origin_now=mean).collect()


def _frame(log: Batch, number: int) -> pl.DataFrame:
    """Return a stream: texts become categories, numbers that are missing nulls."""
    at = log.event_time[log.stream == number]
    columns = list(log.columns.values())[number]
    texts = [pl.Series(name, of, pl.Categorical) for name, of in columns.items() if isinstance(of, list)]
    numbers = [pl.Series(name, of) for name, of in columns.items() if isinstance(of, np.ndarray)]
    known = pl.DataFrame([*texts, *numbers]).fill_nan(None)
    return known.with_columns(at=pl.Series(at).cast(pl.Datetime("us")))
