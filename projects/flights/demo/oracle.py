"""The fifteen features once more, cell by cell, straight from their definition and the applied order in the journal.

Nothing here comes from the feature engine: no state, no window that slides; every cell looks at the whole past of its
key. It is slow, and it is what the published values are held against, bit for bit.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
from projects.flights.demo.reading import Table

from mainstem.events.features import OrderJournalled

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_MINUTE: Final = 60_000_000
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
#: An event further behind the newest of its stream is not applied.
_LATENESS: Final = 6 * _HOUR
_KEYS: Final = ("origin", "carrier", "dest", "tail")
_NEW_YORK: Final = ZoneInfo("America/New_York")

Stored = npt.NDArray[np.int64]
#: Stands for null among stored integers.
_NULL: Final = -(2**63)


@dataclass(frozen=True)
class Verdict:
    """How many cells were computed anew, how many of them were published otherwise, and the first of these."""

    cells: int
    differing: int
    example: str | None


@dataclass(frozen=True)
class _Past:
    """The applied events of one stream with one key value, in the order of (event time, place)."""

    times: Ints
    places: Ints
    columns: Mapping[str, npt.NDArray[Any]]

    def within(self, now: int, span: int, place: int, column: str) -> tuple[Ints, npt.NDArray[Any]]:
        """Return age and value of the events in [now - span, now) applied before `place`, nulls left out."""
        first, end = np.searchsorted(self.times, [now - span, now]).tolist()
        before = self.places[first:end] < place
        values = self.columns[column][first:end][before]
        known = values != (_NULL if values.dtype == np.int64 else b"")
        return now - self.times[first:end][before][known], values[known]


_Pasts = Mapping[bytes, _Past]


def places(accepted: Mapping[str, Table], journal: Sequence[OrderJournalled]) -> dict[str, Ints]:
    """Return the place of each record in the applied order, -1 for one that the journal does not name."""
    names = list(accepted)
    runs = _runs(names, journal)
    counts = np.zeros(len(runs), np.int64)
    # Per partition: its records, its runs, and the first record of each run.
    parts: list[tuple[str, Ints, Ints, Ints]] = []
    for number, name in enumerate(names):
        for partition in np.unique(accepted[name]["partition"]).tolist():
            rows = np.flatnonzero(accepted[name]["partition"] == partition)
            own = np.flatnonzero((runs[:, 0] == number) & (runs[:, 1] == partition))
            numbers = accepted[name]["number"][rows]
            first = np.searchsorted(numbers, runs[own, 2])
            counts[own] = np.searchsorted(numbers, runs[own, 3], "right") - first
            parts.append((name, rows, own, first))
    starts = np.cumsum(counts) - counts
    found = {name: np.full(len(accepted[name]["id"]), -1, np.int64) for name in names}
    for name, rows, own, first in parts:
        sizes = counts[own]
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        found[name][rows[np.repeat(first, sizes) + within]] = np.repeat(starts[own], sizes) + within
    return found


def _runs(names: Sequence[str], journal: Sequence[OrderJournalled]) -> Ints:
    """Return the runs in their order: number of the source, partition, first and last offset there."""
    topics = {f"src.{name}": number for number, name in enumerate(names)}
    runs = [(topics[entry.topics[run[0]]], *run[1:]) for entry in journal for run in entry.runs]
    return np.array(runs, np.int64).reshape(-1, 4)


class Oracle:
    """Knows all that was applied; answers for one row at a time."""

    def __init__(self, accepted: Mapping[str, Table], journal: Sequence[OrderJournalled]) -> None:
        """Take the accepted records of the three sources, each once, in the order of the log."""
        streams = {name: accepted[name] for name in ("flight_departed", "flight_arrived", "weather_observed")}
        self.places = places(streams, journal)
        dep, arr, wx = streams.values()
        self._departures = dep
        self._late = _late(dep["time_us"], self.places["flight_departed"])
        delay = _fixed(arr["arr_delay"], 1)
        late = np.where(delay == _NULL, _NULL, (delay > 15).astype(np.int64))
        departed = {"dep_delay": dep["dep_delay"], "dest": dep["dest"], "one": np.ones(len(dep["id"]), np.int64)}
        arrived = {"late": late, "arr_delay": delay}
        weather = {"wind": _fixed(wx["wind"], 1000), "visib": _fixed(wx["visib"], 100)}
        self._dep = _by("origin", dep, self.places["flight_departed"], departed)
        self._arr = {key: _by(key, arr, self.places["flight_arrived"], arrived) for key in ("carrier", "dest", "tail")}
        self._wx = _by("origin", wx, self.places["weather_observed"], weather)

    def row(self, number: int) -> list[float]:
        """Return the fifteen values of a departure, by its number in the table, null as NaN."""
        dep = self._departures
        now, place = int(dep["time_us"][number]), int(self.places["flight_departed"][number])
        own = [float(dep["dep_delay"][number]), _hour_of_week(dep["sched_dep"][number]), float(dep["distance"][number])]
        if self._late[number]:
            return own + [math.nan] * 12
        return own + self._known({key: bytes(dep[key][number]) for key in _KEYS}, now, place)

    def looked_up(self, columns: Mapping[str, Any], at_us: int, applied: int) -> list[float]:
        """Return the fifteen values of a flight as it was described, at a moment, after so many records."""
        own = [float(columns["dep_delay"]), _hour_of_week(columns["sched_dep"].encode()), float(columns["distance"])]
        return own + self._known({key: columns[key].encode() for key in _KEYS}, at_us, applied)

    def _known(self, keys: Mapping[str, bytes], now: int, place: int) -> list[float]:
        """Return the values that look back from a moment, over what was applied before a place."""
        origin, carrier, dest, tail = (keys[key] for key in _KEYS)

        def ask(
            combine: Callable[[Ints, npt.NDArray[Any]], float], pasts: _Pasts, key: bytes, column: str, span: int
        ) -> float:
            return combine(*pasts.get(key, _NOTHING).within(now, span, place, column))

        arr = self._arr
        return [
            ask(_mean, self._dep, origin, "dep_delay", _HOUR),
            ask(_deviation, self._dep, origin, "dep_delay", 3 * _HOUR),
            ask(_decayed_mean, self._dep, origin, "dep_delay", 4 * _HOUR),
            ask(_count, self._dep, origin, "one", _HOUR),
            ask(_distinct, self._dep, origin, "dest", _HOUR),
            ask(_mean, arr["carrier"], carrier, "late", _DAY),
            ask(_mean, arr["carrier"], carrier, "late", 7 * _DAY),
            ask(_mean, arr["dest"], dest, "late", _DAY),
            ask(_last, arr["tail"], tail, "arr_delay", 30 * _DAY),
            ask(_age, arr["tail"], tail, "arr_delay", 30 * _DAY),
            ask(_last, self._wx, origin, "wind", 6 * _HOUR) / 1000,
            ask(_last, self._wx, origin, "visib", 6 * _HOUR) / 100,
        ]

    def compare(self, rows: Table, numbers: Sequence[int]) -> Verdict:
        """Compute some rows anew, by their numbers in `rows`, and hold them against what was published."""
        departure = {spine: number for number, spine in enumerate(self._departures["id"].tolist())}
        published = rows["values"][numbers]
        computed = np.array([self.row(departure[rows["spine_id"][number]]) for number in numbers], np.float64)
        other = published.view(np.uint64) != computed.view(np.uint64)
        example = None
        if other.any():
            row, column = np.argwhere(other)[0].tolist()
            flight = rows["key"][numbers[row]].decode()
            example = f"{flight}: feature {column} published {published[row, column]!r}, is {computed[row, column]!r}"
        return Verdict(published.size, int(other.sum()), example)


_NOTHING: Final = _Past(
    np.empty(0, np.int64),
    np.empty(0, np.int64),
    {
        **dict.fromkeys(("dep_delay", "one", "late", "arr_delay", "wind", "visib"), np.empty(0, np.int64)),
        "dest": np.empty(0, "S3"),
    },
)


def _late(times: Ints, order: Ints) -> npt.NDArray[np.bool_]:
    """Return which events of a stream come too far behind its newest one, in the applied order."""
    rank = np.argsort(order)
    newest = np.maximum.accumulate(times[rank])
    late = np.zeros(len(times), np.bool_)
    late[rank[1:]] = times[rank[1:]] < newest[:-1] - _LATENESS
    return late


def _by(key: str, table: Table, order: Ints, columns: Mapping[str, npt.NDArray[Any]]) -> dict[bytes, _Past]:
    usable = np.flatnonzero(~_late(table["time_us"], order) & (order >= 0))
    chosen = usable[np.lexsort((order[usable], table["time_us"][usable], table[key][usable]))]
    keys, starts = np.unique(table[key][chosen], return_index=True)
    parts = np.split(chosen, starts[1:])
    return {
        bytes(value): _Past(table["time_us"][part], order[part], {name: of[part] for name, of in columns.items()})
        for value, part in zip(keys.tolist(), parts, strict=True)
    }


def _fixed(values: Floats, scale: int) -> Stored:
    """Return numbers as whole multiples of 1 / scale; NaN is null."""
    return np.array([_NULL if math.isnan(value) else round(value * scale) for value in values.tolist()], np.int64)


def _hour_of_week(text: bytes) -> float:
    moment = datetime.fromisoformat(text.decode()).astimezone(UTC).astimezone(_NEW_YORK)
    return float(moment.weekday() * 24 + moment.hour)


def _count(_: Ints, values: Ints) -> float:
    return float(len(values))


def _distinct(_: Ints, values: npt.NDArray[Any]) -> float:
    return float(len(set(values.tolist())))


def _mean(_: Ints, values: Ints) -> float:
    return sum(values.tolist()) / len(values) if len(values) else math.nan


def _deviation(_: Ints, values: Ints) -> float:
    n, numbers = len(values), values.tolist()
    if n < 2:
        return math.nan
    return math.sqrt((n * sum(x * x for x in numbers) - sum(numbers) ** 2) / (n * (n - 1)))


def _decayed_mean(ages: Ints, values: Ints) -> float:
    """Weigh by age: weights halve every 30 minutes, by whole minutes of age, and are whole multiples of 2**-24."""
    weights = [round(2**24 * 2.0 ** (-(age // _MINUTE) / 30)) for age in ages.tolist()]
    weighted = sum(weight * value for weight, value in zip(weights, values.tolist(), strict=True))
    return weighted / sum(weights) if weights else math.nan


def _last(ages: Ints, values: Ints) -> float:
    """Return the value of the newest event, and at a tie of the one applied last; in stored units."""
    return int(values[-1]) if len(ages) else math.nan


def _age(ages: Ints, values: Ints) -> float:
    return int(ages[-1]) / 1_000_000 if len(values) else math.nan
