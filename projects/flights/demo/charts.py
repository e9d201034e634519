"""Pictures of the year as SVG: lines and a map over weeks, with versions and alerts marked on the same axis of time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

import numpy as np
from projects.flights.demo.books import Week
from projects.flights.demo.decisions import Activation

WIDTH, LEFT, RIGHT = 1080, 132, 18
#: Stability index from which on a cell is full.
_FAR = 1.0
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def tag(name: str, content: str = "", **attributes: object) -> str:
    """Return an element; `class_` stands for `class`, and an underscore within a name for a hyphen."""
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{value}"' for key, value in attributes.items())
    return f"<{name}{given}>{content}</{name}>"


def text(content: str, x: float, y: float, style: str = "label", anchor: str = "start") -> str:
    """Return a line of text."""
    return tag("text", escape(content), x=f"{x:.1f}", y=f"{y:.1f}", class_=style, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    """Return a straight line."""
    return tag("line", x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}", class_=style)


def picture(body: Sequence[str], height: float, about: str) -> str:
    """Return a picture of a height; `about` is what those hear who do not see it."""
    label = escape(about, quote=True)
    return tag("svg", "".join(body), viewBox=f"0 0 {WIDTH} {height:.0f}", role="img", aria_label=label)


@dataclass(frozen=True)
class Mark:
    """Something that happened at an instant (µs since 1970): an alert, say."""

    at_us: int
    style: str
    about: str


@dataclass(frozen=True)
class Axis:
    """Time from left to right, in µs since 1970."""

    start_us: int
    end_us: int

    def x(self, at_us: float) -> float:
        """Return where an instant lies."""
        share = (at_us - self.start_us) / (self.end_us - self.start_us)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def months(self, top: float, bottom: float) -> list[str]:
        """Draw where months begin, and their names below."""
        first = np.array([self.start_us], "datetime64[us]").astype("datetime64[M]")[0]
        last = np.array([self.end_us], "datetime64[us]").astype("datetime64[M]")[0]
        drawn = []
        for month in np.arange(first, last + 1):
            start, end = (int(instant.astype("datetime64[us]").astype(np.int64)) for instant in (month, month + 1))
            if start > self.start_us:
                drawn.append(line(self.x(start), top, self.x(start), bottom, "grid"))
            middle = (max(start, self.start_us) + min(end, self.end_us)) / 2
            if min(end, self.end_us) - max(start, self.start_us) > 10 * 86_400_000_000:
                drawn.append(text(_MONTHS[int(month.astype(int)) % 12], self.x(middle), bottom + 20, "tick", "middle"))
        return drawn

    def versions(self, activations: Sequence[Activation], top: float, bottom: float) -> list[str]:
        """Draw from when on each version answered."""
        drawn = []
        for one in activations:
            x = self.x(max(one.effective_us, self.start_us))
            drawn.append(line(x, top, x, bottom, f"turn v{one.version % 6}"))
            drawn.append(text(f"version {one.version}", x + 6, top + 4, f"turn-name v{one.version % 6}"))
        return drawn

    def marks(self, marks: Sequence[Mark], y: float) -> list[str]:
        """Draw marks in a row; those of one instant stand above one another."""
        drawn = []
        for at_us, together in groupby(marks, key=lambda mark: mark.at_us):
            for level, mark in enumerate(together):
                x, top = self.x(at_us), y - 11 * level
                points = f"{x:.1f},{top - 9:.1f} {x - 5:.1f},{top:.1f} {x + 5:.1f},{top:.1f}"
                drawn.append(tag("polygon", tag("title", escape(mark.about)), points=points, class_=mark.style))
        return drawn


@dataclass(frozen=True)
class Curve:
    """What is drawn of each week: a name, a share between two limits, and where the scale has lines."""

    about: str
    values: Mapping[tuple[int, int], float]
    low: float
    high: float
    step: float


def curves(
    axis: Axis, curve: Curve, weeks: Sequence[Week], activations: Sequence[Activation], marks: Sequence[Mark]
) -> str:
    """Draw one figure of each week and version; a point lies where its predictions were made, on average."""
    top, bottom = 34.0, 230.0

    def y(value: float) -> float:
        return bottom - (value - curve.low) / (curve.high - curve.low) * (bottom - top)

    drawn = axis.months(top, bottom)
    for tick in np.arange(curve.low, curve.high + curve.step / 2, curve.step).tolist():
        drawn += [line(LEFT, y(tick), WIDTH - RIGHT, y(tick), "grid")]
        drawn += [text(f"{tick:.2f}", LEFT - 10, y(tick) + 4, "tick", "end")]
    drawn += axis.versions(activations, top - 16, bottom)
    width = min((b.end_us - a.end_us for a in weeks for b in weeks if b.end_us > a.end_us), default=0)
    for version, of in groupby(sorted(weeks, key=lambda week: (week.version, week.end_us)), lambda week: week.version):
        points = [(axis.x(w.middle_us), y(curve.values[w.end_us, version]), w) for w in of]
        path = " ".join(f"{x:.1f},{at:.1f}" for x, at, _ in points)
        drawn.append(tag("polyline", points=path, class_=f"curve v{version % 6}"))
        for x, at, week in points:
            about = f"version {version}, {_day(week.end_us - width)} to {_day(week.end_us)}: "
            about += f"{curve.values[week.end_us, version]:.3f} on {week.labelled:,} flights"
            title = tag("title", escape(about))
            drawn.append(tag("circle", title, cx=f"{x:.1f}", cy=f"{at:.1f}", r=3.2, class_=f"dot v{version % 6}"))
    drawn += axis.marks(marks, bottom - 4)
    return picture(drawn, bottom + 30, curve.about)


def heat(
    axis: Axis, psi: Mapping[int, Mapping[str, float]], names: Sequence[str], activations: Sequence[Activation]
) -> str:
    """Draw how far each input lies from the reference of its version, week by week: the fuller, the farther."""
    row, top = 19.0, 22.0
    ends = sorted(psi)
    width = axis.x(ends[1]) - axis.x(ends[0]) if len(ends) > 1 else 28.0
    bottom = top + row * len(names)
    drawn = [text(name, LEFT - 10, top + row * at + 13, "tick", "end") for at, name in enumerate(names)]
    for end in ends:
        left = max(axis.x(end) - width, LEFT)
        for at, name in enumerate(names):
            value = psi[end].get(name)
            if value is not None:
                title = tag("title", escape(f"{name}, week until {_day(end)}: {value:.3f}"))
                box = {"x": f"{left + 0.75:.1f}", "y": f"{top + row * at + 0.75:.1f}", "height": row - 1.5}
                shade = f"{min(1.0, value / _FAR) ** 0.6:.3f}"
                wide = f"{min(axis.x(end), WIDTH - RIGHT) - left - 1.5:.1f}"
                drawn.append(tag("rect", title, **box, width=wide, rx=2, class_="cell", fill_opacity=shade))
    drawn += axis.versions(activations, top - 12, bottom)
    months = [mark for mark in axis.months(top, bottom) if mark.startswith("<text")]
    return picture(drawn + months, bottom + 30, "Stability index of each input by week")


def _day(instant_us: int) -> str:
    day = np.array([instant_us], "datetime64[us]").astype("datetime64[D]")[0]
    return str(day)
