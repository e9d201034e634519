"""The watch over one model: predictions and labels in their applied order in, closed windows out.

A label belongs to the window of its prediction's event time, whichever of the two came first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from mainstem.events.errors import NO_DOCUMENT
from mainstem.events.instant_columns import parse_all
from mainstem.events.instants import NEVER
from mainstem.events.record import Record
from mainstem.events.serving import ShadowScored
from mainstem.feature_engine import Released
from mainstem.fold.ordered import Item, OrderedReader, Partition, Standing
from mainstem.monitoring.domain.figures import Figures, figures
from mainstem.monitoring.domain.profile import Profile
from mainstem.monitoring.domain.verdict import Evidence, Verdict, thresholds, verdict
from mainstem.monitoring.domain.window import Window, empty, of_labels, of_predictions, window_start
from mainstem.monitoring.ports import Parked
from mainstem.project.definition import ProjectDefinition
from mainstem.project.model import Label

#: What a shadow scored is no answer: monitoring watches answers.
_SHADOW = ShadowScored.TYPE.encode()
#: Stands in for a profile that cannot be read: it counts predictions and watches nothing.
BLANK = Profile.parse(
    {
        "features": [],
        "score": {"edges": [], "chunks": [[1, 0]]},
        "bands": {
            "edges": [],
            **{name: [[1]] for name in ("rows", "positives", "score", "squared_error", "fourth_power_error")},
        },
        "positive_rate": 0.0,
    }
)


class _Prediction(msgspec.Struct, gc=False):
    version: int
    channel: Literal["stream", "http", "grpc"]
    entity: str | None
    features: list[float | None]
    score: float


class _Truth(NamedTuple):
    entity: str
    positive: bool | None


class _Accepted(msgspec.Struct, gc=False):
    record: dict[str, str | float | bool | None]


_ACCEPTED = msgspec.json.Decoder(_Accepted)


class _Waiting(NamedTuple):
    """A prediction without its label."""

    time_us: int
    version: int
    score: float


class _Known(NamedTuple):
    """A label, and when it became known."""

    recorded_us: int
    positive: bool


@dataclass(slots=True)
class _Open:
    """What one version did in a window that is still open; direct calls by channel."""

    counted: Window
    scores: list[float]
    labels: list[int]
    direct: dict[str, int]


class _State(msgspec.Struct):
    """A fold as it is stored."""

    geometry: str
    reader: Standing
    clock_us: int
    next_end_us: int | None
    windows: dict[int, dict[int, tuple[dict[str, object], list[float], list[int], dict[str, int]]]]
    waiting: dict[str, list[_Waiting]]
    labels: dict[str, _Known]
    evidence: dict[int, dict[str, list[float]]]
    faults: dict[int, str]


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of the applied order, decoded; a row that could not be is None."""

    released: Released[Item]
    rows: list[_Prediction | _Truth | None]
    times_us: list[int]
    #: Versions whose profile must be known before the stretch can be taken.
    versions: frozenset[int]


@dataclass(frozen=True, slots=True)
class Judged:
    """One version in a closed window; without a profile there is no verdict, and `fault` says why."""

    version: int
    figures: Figures
    verdict: Verdict | None
    direct: Mapping[str, int]
    fault: str | None


@dataclass(frozen=True, slots=True)
class Closing:
    """A window that is complete, and the recorded time at which it was (µs since 1970)."""

    start_us: int
    end_us: int
    instant_us: int
    judged: tuple[Judged, ...]


class Fold:
    """Windows, unmatched predictions and labels, and the evidence against each version of one model.

    Promise: the closings are a function of the records alone, whatever the polls, wherever the state was stored and
    restored (for sources that announce progress). A window is complete when its end and the wait for labels after it
    lie behind every input.
    """

    def __init__(self, definition: ProjectDefinition, model: str) -> None:
        self.model = definition.models[model]
        self.monitoring = definition.monitoring
        self.predictions_topic = f"tel.prediction.{model}"
        self.labels_topic = f"evt.data.{self.model.label.source}"
        self.reader = OrderedReader(_partitions(definition, model))
        #: Records that could not be taken, and predictions whose window was closed, since the start.
        self.parked: list[Parked] = []
        self.late = 0
        self._decode: dict[str, Callable[[bytes], _Prediction | _Truth]] = {
            self.predictions_topic: msgspec.json.Decoder(_Prediction).decode,
            self.labels_topic: _label_decoder(self.model.label),
        }
        self._width, self._wait = self.monitoring.window, self.model.label.wait
        self._geometry = f"{self._width} {self.model.label.model_dump_json()}"
        self._limits = thresholds(self.monitoring.false_alarms_per_100_windows)
        self._profiles: dict[int, Profile] = {}
        self._faults: dict[int, str] = {}
        self._clock = NEVER
        self._next_end: int | None = None
        self._windows: dict[int, dict[int, _Open]] = {}
        self._waiting: dict[str, list[_Waiting]] = {}
        self._labels: dict[str, _Known] = {}
        self._evidence: dict[int, Evidence] = {}

    def read(self) -> Stretch:
        """Decode what nothing can precede any more. It must then be given to `advance`."""
        released = self.reader.advance()
        times = parse_all([headers.get("ce_time", b"") for _, headers in released.items]).tolist()
        rows = [
            None if headers.get("ce_type") == _SHADOW else self._row(record, time)
            for (record, headers), time in zip(released.items, times, strict=True)
        ]
        versions = {row.version for row in rows if isinstance(row, _Prediction)}
        versions.update(version for opened in self._windows.values() for version in opened)
        return Stretch(released, rows, times, frozenset(versions - self._profiles.keys()))

    def _row(self, record: Record, time_us: int) -> _Prediction | _Truth | None:
        try:
            row = self._decode[record.topic](record.value or b"")
        except NO_DOCUMENT as fault:
            self.parked.append(Parked(record, f"the payload is no prediction or label of this model: {fault}"))
            return None
        if time_us == NEVER:
            self.parked.append(Parked(record, "ce_time is no RFC 3339 instant; fix its writer"))
            return None
        return row

    def learn(self, version: int, profile: Profile | str) -> None:
        """Take the profile of a version, or why it cannot be read: then its predictions are only counted."""
        self._profiles[version] = BLANK if isinstance(profile, str) else profile
        if isinstance(profile, str):
            self._faults[version] = profile
            for opened in self._windows.values():
                if version in opened:
                    opened[version].counted = _uncounted(opened[version].counted.predictions)

    def advance(self, stretch: Stretch) -> list[Closing]:
        """Take a stretch and return the windows that it completes, in their order."""
        closings, done = [], 0
        end_us = self._begin(stretch.released)
        while end_us is not None and (tick := self._tick(stretch.released, end_us)) is not None:
            instant_us, place = tick
            self._apply(stretch, done, place)
            done = place
            closings.append(self._close(end_us, instant_us))
            end_us += self._width
            self._next_end = end_us
        self._apply(stretch, done, len(stretch.rows))
        return closings

    def _begin(self, released: Released[Item]) -> int | None:
        """Return the end of the window that closes next: at first that of the earliest not over yet."""
        readable = released.arrivals[released.arrivals > NEVER]
        first = [*readable[:1].tolist(), *(instant for instant, _ in released.reached[:1])]
        if self._next_end is None and first:
            self._next_end = window_start(min(first) - self._wait, self._width) + self._width
        self._clock = max([self._clock, *readable[-1:].tolist()])
        return self._next_end

    def _tick(self, released: Released[Item], end_us: int) -> tuple[int, int] | None:
        """Return the first instant of the stretch that completes a window, and the number of records before it.

        Sources that announce progress say when; with a live source among them the next record does, too.
        """
        due_us = end_us + self._wait
        ticks = [(instant, place) for instant, place in released.reached if instant >= due_us][:1]
        if self.reader.live:
            place = int(np.searchsorted(released.arrivals, due_us))
            ticks += [(int(arrival), place) for arrival in released.arrivals[place : place + 1]]
        return min(ticks, key=lambda tick: tick[1], default=None)

    def _apply(self, stretch: Stretch, start: int, stop: int) -> None:
        arrivals = stretch.released.arrivals.tolist()
        groups: dict[tuple[int, int], list[_Prediction]] = {}
        for at in range(start, stop):
            row = stretch.rows[at]
            if isinstance(row, _Prediction):
                end_us = window_start(stretch.times_us[at], self._width) + self._width
                if self._takes(row, end_us, stretch.released.items[at][0]):
                    groups.setdefault((end_us, row.version), []).append(row)
                    self._join_prediction(row, stretch.times_us[at], arrivals[at])
            elif row is not None and row.positive is not None:
                self._join_label(row.entity, _Known(arrivals[at], row.positive))
        for (end_us, version), rows in groups.items():
            self._count(end_us, version, rows)

    def _takes(self, row: _Prediction, end_us: int, record: Record) -> bool:
        """Tell whether a prediction is to be judged; what is not is counted where it belongs."""
        columns = self._profiles[row.version].columns
        if self._next_end is None or end_us < self._next_end:
            self.late += 1
        elif row.channel != "stream":
            direct = self._open(end_us, row.version).direct
            direct[row.channel] = direct.get(row.channel, 0) + 1
        elif row.version not in self._faults and len(row.features) != len(columns):
            found = f"{len(row.features)} inputs, the profile of version {row.version} has {len(columns)}"
            self.parked.append(Parked(record, f"{found}; fix its writer"))
        else:
            return True
        return False

    def _count(self, end_us: int, version: int, rows: Sequence[_Prediction]) -> None:
        opened, profile = self._open(end_us, version), self._profiles[version]
        x = np.array([row.features if profile.columns else () for row in rows], np.float64)
        p = np.array([row.score for row in rows], np.float64)
        opened.counted = opened.counted.merge(of_predictions(profile, x, p))

    def _join_prediction(self, row: _Prediction, time_us: int, recorded_us: int) -> None:
        if row.entity is None:
            return
        waiting = _Waiting(time_us, row.version, row.score)
        label = self._labels.get(row.entity)
        if label is not None and recorded_us - label.recorded_us <= self._wait:
            self._match(waiting, label)
        else:
            self._waiting.setdefault(row.entity, []).append(waiting)

    def _join_label(self, entity: str, label: _Known) -> None:
        for waiting in self._waiting.pop(entity, ()):
            self._match(waiting, label)
        self._labels[entity] = label

    def _match(self, waiting: _Waiting, label: _Known) -> None:
        """Count a label in the window of its prediction, unless it was not known in time."""
        if label.recorded_us - waiting.time_us <= self._wait:
            end_us = window_start(waiting.time_us, self._width) + self._width
            opened = self._open(end_us, waiting.version)
            opened.scores.append(waiting.score)
            opened.labels.append(int(label.positive))

    def _open(self, end_us: int, version: int) -> _Open:
        found = self._windows.get(end_us, {}).get(version)
        if found is None:
            found = _Open(empty(self._profiles[version]), [], [], {})
            self._windows.setdefault(end_us, {})[version] = found
        return found

    def _close(self, end_us: int, instant_us: int) -> Closing:
        versions = sorted(self._windows.pop(end_us, {}).items())
        judged = tuple(self._judge(version, opened) for version, opened in versions)
        return Closing(end_us - self._width, end_us, instant_us, judged)

    def _judge(self, version: int, opened: _Open) -> Judged:
        profile, fault = self._profiles[version], self._faults.get(version)
        labels = of_labels(profile, np.array(opened.scores, np.float64), np.array(opened.labels, np.int64))
        window, found = opened.counted.merge(labels), None
        if fault is None:
            state = self._evidence.get(version, Evidence.none())
            found = verdict(state, window, profile, self._limits, self.monitoring.min_labelled)
            self._evidence[version] = found.state
        return Judged(version, figures(window, profile), found, opened.direct, fault)

    def snapshot(self) -> bytes:
        """Return everything the fold knows of what was applied."""
        self._forget()
        state = _State(
            geometry=self._geometry,
            reader=self.reader.snapshot(),
            clock_us=self._clock,
            next_end_us=self._next_end,
            windows={
                end_us: {v: (one.counted.to_json(), one.scores, one.labels, one.direct) for v, one in versions.items()}
                for end_us, versions in self._windows.items()
            },
            waiting=self._waiting,
            labels=self._labels,
            evidence={version: evidence.to_json() for version, evidence in self._evidence.items()},
            faults={v: fault for v, fault in self._faults.items() if any(v in vs for vs in self._windows.values())},
        )
        return msgspec.msgpack.encode(state)

    def restore(self, stored: bytes) -> None:
        """Become the fold that wrote `stored`.

        If windows or label were defined otherwise then, open windows are given up and the first judged is the first
        that begins later; positions and evidence stay.
        """
        state = msgspec.msgpack.decode(stored, type=_State)
        self.reader.restore(state.reader)
        self._clock, self._next_end = state.clock_us, state.next_end_us
        self._evidence = {version: Evidence.from_json(bets) for version, bets in state.evidence.items()}
        if state.geometry != self._geometry:
            self._next_end = window_start(self._clock, self._width) + 2 * self._width
            return
        self._waiting, self._labels = state.waiting, state.labels
        self._windows = {
            end_us: {version: _Open(Window.from_json(one[0]), *one[1:]) for version, one in versions.items()}
            for end_us, versions in state.windows.items()
        }
        for version, fault in state.faults.items():
            self.learn(version, fault)

    def _forget(self) -> None:
        """Drop what can no longer be joined."""
        past = self._clock - self._wait
        kept = {entity: [one for one in of if one.time_us >= past] for entity, of in self._waiting.items()}
        self._waiting = {entity: of for entity, of in kept.items() if of}
        self._labels = {entity: label for entity, label in self._labels.items() if label.recorded_us >= past}


def _uncounted(predictions: int) -> Window:
    return of_predictions(BLANK, np.empty((predictions, 0)), np.zeros(predictions))


def _partitions(definition: ProjectDefinition, model: str) -> dict[Partition, bool]:
    """Return what is read for a model, and whether it announces progress: predictions do when their spine does."""
    declared = definition.models[model]
    spine = definition.sources[definition.feature_sets[declared.feature_set].compiled.spine]
    label = definition.sources[declared.label.source]
    return {
        **{(f"tel.prediction.{model}", part): spine.replay for part in range(spine.partitions)},
        **{(f"evt.data.{label.name}", part): label.replay for part in range(label.partitions)},
    }


def _label_decoder(label: Label) -> Callable[[bytes], _Truth]:
    """Return a decoder of accepted records of the label's source; it raises msgspec.ValidationError for any other."""

    def decode(payload: bytes) -> _Truth:
        record = _ACCEPTED.decode(payload).record
        entity, value = record.get(label.key), record.get(label.column)
        if not isinstance(entity, str) or not isinstance(value, float | None):
            raise msgspec.ValidationError(f"{label.key!r} holds no text or {label.column!r} no number")
        return _Truth(entity, None if value is None else value > label.above)

    return decode
