"""Windows in event time: counts and labelled scores that add up, in any order, to the same window."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mainstem.monitoring.domain.profile import Profile

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """What one version did in a stretch of event time.

    `features` and `score` are rows per bin of the profile; `scores` and `labels` are the predictions whose label is
    known, sorted, so that equal content means equal arrays.
    """

    features: tuple[Ints, ...]
    score: Ints
    scores: Floats
    labels: Ints

    @property
    def predictions(self) -> int:
        """Number of predictions."""
        return int(self.score.sum())

    @property
    def labelled(self) -> int:
        """Number of predictions whose label is known."""
        return len(self.labels)

    def merge(self, other: Self) -> "Window":
        """Return both together; neither may hold a prediction or a label of the other."""
        features = tuple(mine + theirs for mine, theirs in zip(self.features, other.features, strict=True))
        scores = np.concatenate([self.scores, other.scores])
        labels = np.concatenate([self.labels, other.labels])
        order = np.lexsort((labels, scores))
        return Window(features, self.score + other.score, scores[order], labels[order])

    def to_json(self) -> dict[str, Any]:
        """Return the window as JSON values; `from_json` reads it back to the same bits."""
        return {
            "features": [counts.tolist() for counts in self.features],
            "score": self.score.tolist(),
            "scores": self.scores.tolist(),
            "labels": self.labels.tolist(),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read what `to_json` made."""
        return cls(
            tuple(np.asarray(counts, np.int64) for counts in document["features"]),
            np.asarray(document["score"], np.int64),
            np.asarray(document["scores"], np.float64),
            np.asarray(document["labels"], np.int64),
        )


def window_start(event_us: int, width_us: int) -> int:
    """Return the start of the window an instant lies in: windows are whole multiples of the width since 1970."""
    return event_us - event_us % width_us


def empty(profile: Profile) -> Window:
    """Return the window of a version in which nothing happened."""
    return of_predictions(profile, np.empty((0, len(profile.columns))), np.empty(0))


def of_predictions(profile: Profile, x: Floats, p: Floats) -> Window:
    """Return the window of some predictions: inputs [rows, features] with NaN for missing, and scores [rows]."""
    features = tuple(column.count(x[:, at]) for at, column in enumerate(profile.columns))
    return Window(features, profile.score.count(p), np.empty(0), np.empty(0, np.int64))


def of_labels(profile: Profile, p: Floats, y: Ints) -> Window:
    """Return the window of some labels, 0 or 1, each with the score its prediction gave."""
    nothing = empty(profile)
    order = np.lexsort((y, p))
    return Window(nothing.features, nothing.score, p[order], y[order])


def merged(profile: Profile, windows: list[Window]) -> Window:
    """Return all windows together."""
    return reduce(Window.merge, windows, empty(profile))
