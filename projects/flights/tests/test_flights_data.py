"""The honest events are what the data says, no more and no less."""

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pytest
from projects.flights.data import HOUR_US, MINUTE_US, Events, local_clock, minute_of_day

DAY_US = 24 * HOUR_US


def clock_minutes(instants_us: pd.Series, zone: str) -> np.ndarray:
    return local_clock(instants_us.to_numpy(), zone) % DAY_US // MINUTE_US


def test_the_year_has_1_019_475_events(honest: dict[str, Events]) -> None:
    counts = {source: len(of_source) for source, of_source in honest.items()}
    assert counts == {
        "flight_scheduled": 336_776,
        "flight_departed": 328_521,
        "flight_arrived": 328_063,
        "weather_observed": 26_115,
    }
    assert sum(counts.values()) == 1_019_475


def test_no_two_events_share_an_id(honest: dict[str, Events]) -> None:
    ids = [event_id for of_source in honest.values() for event_id in of_source.ids]
    assert len(set(ids)) == len(ids)
    assert "departed-2013-01-01-UA-1545-EWR" in ids


def test_a_departure_reads_as_documented(honest: dict[str, Events]) -> None:
    departed = honest["flight_departed"]
    place = departed.ids.index("departed-2013-01-01-UA-1545-EWR")
    assert departed.keys[place] == b"2013-01-01-UA-1545-EWR"
    assert pd.Timestamp(departed.event_time_us[place], unit="us") == pd.Timestamp("2013-01-01T10:17:00")
    assert departed.payloads[place] == (
        b'{"flight":"2013-01-01-UA-1545-EWR","tail":"N14228","carrier":"UA","origin":"EWR","dest":"IAH",'
        b'"sched_dep":"2013-01-01T10:15:00Z","distance":1400,"dep_delay":2}'
    )


def test_events_stand_in_the_order_in_which_they_became_known(honest: dict[str, Events]) -> None:
    assert all((np.diff(of_source.arrival_us) >= 0).all() for of_source in honest.values())


@pytest.mark.parametrize(
    ("source", "lag_us"),
    [
        ("flight_scheduled", 0),
        ("flight_departed", MINUTE_US),
        ("flight_arrived", 2 * MINUTE_US),
        ("weather_observed", HOUR_US),
    ],
)
def test_every_source_knows_after_a_fixed_time(honest: dict[str, Events], source: str, lag_us: int) -> None:
    assert set(np.unique(honest[source].arrival_us - honest[source].event_time_us)) == {lag_us}


def test_the_clock_in_new_york_reads_the_departure_time_of_every_flight(flights: pd.DataFrame) -> None:
    left = flights[flights.dep_time.notna()]
    assert (clock_minutes(left.dep_us, "America/New_York") == minute_of_day(left.dep_time)).all()


def test_the_clock_at_the_destination_reads_the_arrival_time_of_every_flight_but_one(flights: pd.DataFrame) -> None:
    landed = flights[flights.arr_us > 0]
    for zone, there in landed.groupby("dest_zone"):
        otherwise = there[clock_minutes(there.arr_us, str(zone)) != minute_of_day(there.arr_time)]
        # It says 02:03 in the night in which clocks went from 02:00 to 03:00.
        assert set(otherwise.index) <= {144_507}


def test_arrival_less_delay_reads_the_planned_arrival_of_every_flight(flights: pd.DataFrame) -> None:
    landed = flights[flights.arr_delay.notna()]
    planned = landed.arr_us - (landed.arr_delay * MINUTE_US).astype("int64")
    for zone, there in landed.groupby("dest_zone"):
        assert (clock_minutes(planned[there.index], str(zone)) == minute_of_day(there.sched_arr_time)).all()


def test_between_air_time_and_arrival_every_flight_taxies_5_to_235_minutes(flights: pd.DataFrame) -> None:
    landed = flights[flights.air_time.notna()]
    taxi = (landed.arr_us - landed.dep_us) / MINUTE_US - landed.air_time
    assert (taxi.min(), taxi.median(), taxi.max()) == (5, 28, 235)


def test_1_175_departed_flights_never_get_a_label(flights: pd.DataFrame) -> None:
    left = flights[flights.dep_delay.notna()]
    assert left.arr_time.isna().sum() == 458
    assert (left.arr_time.notna() & left.arr_delay.isna()).sum() == 717
    assert left.arr_delay.isna().sum() == 1_175


def test_merged_events_stand_in_order_of_arrival_and_at_a_tie_the_first_go_first() -> None:
    clock = np.array([1, 3], np.int64)
    first = Events("s", ["a1", "a3"], [b"a", b"a"], clock, clock, [b"1", b"3"])
    second = Events("s", ["b1", "b3"], [b"b", b"b"], clock, clock, [b"1", b"3"])
    assert first.merged(second).ids == ["a1", "b1", "a3", "b3"]
