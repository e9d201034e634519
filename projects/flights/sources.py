"""What the four sources promise: flights out of New York as they are planned, leave and land, and the weather there."""

from mainstem.project import Column, category, fixed, source, time

CARRIERS = ["9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV"]
ORIGINS = ["EWR", "JFK", "LGA"]
DESTINATIONS = (  # noqa: SIM905 (as a list it takes 105 lines)
    "ABQ ACK ALB ANC ATL AUS AVL BDL BGR BHM BNA BOS BQN BTV BUF BUR BWI BZN CAE CAK CHO CHS CLE CLT CMH CRW CVG DAY "
    "DCA DEN DFW DSM DTW EGE EYW FLL GRR GSO GSP HDN HNL HOU IAD IAH ILM IND JAC JAX LAS LAX LEX LGA LGB MCI MCO MDW "
    "MEM MHT MIA MKE MSN MSP MSY MTJ MVY MYR OAK OKC OMA ORD ORF PBI PDX PHL PHX PIT PSE PSP PVD PWM RDU RIC ROC RSW "
    "SAN SAT SAV SBN SDF SEA SFO SJC SJU SLC SMF SNA SRQ STL STT SYR TPA TUL TVC TYS XNA"
).split()

FLIGHT: dict[str, Column] = {
    "flight": category("local date of departure, carrier, number and origin, such as 2013-01-01-UA-1545-EWR"),
    "carrier": category("code of the carrier", values=CARRIERS),
    "origin": category("airport it leaves from", values=ORIGINS),
    "dest": category("airport it goes to", values=DESTINATIONS),
}
TAIL = category("registration of the aircraft", max_length=6)
SCHEDULE: dict[str, Column] = {
    "sched_dep": time("when it is planned to leave"),
    "distance": fixed("distance between the airports", unit="mi", lo=1, hi=6000, integer=True),
}

flight_scheduled = source("flight_scheduled", key="flight", columns={**FLIGHT, **SCHEDULE}, replay=True)

flight_departed = source(
    "flight_departed",
    key="flight",
    columns={
        **FLIGHT,
        **SCHEDULE,
        "tail": TAIL,
        "dep_delay": fixed("minutes it left late, below zero early", unit="min", lo=-120, hi=2880, integer=True),
    },
    replay=True,
    batch={"max_quarantined": 0.05},
)

flight_arrived = source(
    "flight_arrived",
    key="flight",
    columns={
        **FLIGHT,
        "tail": TAIL,
        "arr_delay": fixed(
            "minutes it came late, below zero early; null when diverted",
            unit="min",
            lo=-180,
            hi=2880,
            integer=True,
            nullable=True,
        ),
        "air_time": fixed("minutes in the air", unit="min", lo=10, hi=1200, integer=True, nullable=True),
    },
    replay=True,
    batch={"max_quarantined": 0.05, "max_null": {"arr_delay": 0.2}},
)

weather_observed = source(
    "weather_observed",
    key="origin",
    columns={
        "origin": category("airport of the station", values=ORIGINS),
        "temp": fixed("temperature", unit="degF", lo=-40, hi=130, scale=100, nullable=True),
        "wind": fixed("mean wind of the hour", unit="mph", lo=0, hi=200, scale=1000, nullable=True),
        "precip": fixed("rain of the hour", unit="in", lo=0, hi=20, scale=100),
        "pressure": fixed("pressure at sea level", unit="mbar", lo=850, hi=1100, scale=10, nullable=True),
        "visib": fixed("visibility", unit="mi", lo=0, hi=100, scale=100),
    },
    replay=True,
    batch={"max_quarantined": 0.05, "max_null": {"wind": 0.2}},
)
