"""What a harbour measures: water levels as they come, and the lifts of last spring, which are replayed."""

from mainstem.project import Column, category, fixed, source, text, time

STATION: dict[str, Column] = {
    "station": category("where it is measured"),
    "note": text("what the keeper wrote", nullable=True, max_length=200),
}
LIFT: dict[str, Column] = {"lift": category("number of the lift")}

gauge = source(
    "gauge",
    key="station",
    columns={
        **STATION,
        "level": fixed("water above chart datum", unit="m", lo=-10, hi=10, scale=100),
        "samples": fixed("readings behind it", unit="1", lo=0, hi=1000, integer=True, nullable=True),
        "read_at": time("when the sensor was read", nullable=True),
    },
)

tide = source(
    "tide",
    key="station",
    columns={**STATION, "high": fixed("next high water", unit="m", lo=-10, hi=10, scale=100)},
)

lifted = source(
    "lifted",
    key="lift",
    columns={
        **LIFT,
        "crane": category("which crane", values=["east", "west"]),
        "load": fixed("what hung on it", unit="t", lo=0, hi=100, scale=10),
        "wind": fixed("wind at the hook", unit="m/s", lo=0, hi=60, scale=10),
    },
    replay=True,
)

inspected = source(
    "inspected",
    key="lift",
    columns={**LIFT, "wear": fixed("wear of the rope", unit="%", lo=0, hi=100)},
    replay=True,
)
