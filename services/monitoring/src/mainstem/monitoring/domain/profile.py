"""The reference a version came with: bins, bounded functions of the bins, and how much they move without harm."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mainstem.monitoring.domain.movement import Movement, measure

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: With fewer chunks the movement between chunks is not known well enough to judge by.
FEWEST_CHUNKS = 30
TAIL = 0.05
SCORE = "score"

#: What is watched of a column, and how an increase and a decrease of it read.
MOVES = (
    ("higher values", "lower values"),
    ("more spread", "less spread"),
    ("more high values", "fewer high values"),
    ("more low values", "fewer low values"),
    ("more missing", "fewer missing"),
)


@dataclass(frozen=True, slots=True)
class Column:
    """A feature, or the score: right-closed bins between `edges`, then a bin for missing values.

    `functions` [5, bins] holds bounded functions of the bin, values 0 to 1; `mean` and `movement` are theirs.
    """

    name: str
    edges: Floats
    counts: Floats
    functions: Floats
    mean: Floats
    movement: Movement

    @classmethod
    def parse(cls, document: Mapping[str, Any], name: str) -> Self:
        """Read one column of a profile."""
        edges, chunks = np.asarray(document["edges"], np.float64), np.asarray(document["chunks"], np.float64)
        counts = chunks.sum(0)
        functions = _functions(counts)
        mean = functions @ counts / counts.sum()
        variance = functions**2 @ counts / counts.sum() - mean**2
        rows = chunks.sum(1)
        movement = measure(chunks @ functions.T / rows[:, None] - mean, np.tile(rows[:, None], len(mean)), variance)
        return cls(name, edges, counts, functions, mean, movement)

    def count(self, values: Floats) -> Ints:
        """Return how many values fall into each bin."""
        bins = np.where(np.isnan(values), len(self.edges) + 1, np.searchsorted(self.edges, values, "left"))
        return np.bincount(bins, minlength=len(self.edges) + 2)


@dataclass(frozen=True, slots=True)
class Bands:
    """What labels did in the reference, by band of the score: the truth minus the score, and its square.

    `bias` [bands] is the mean residual of each band; residuals are taken beyond it. The functions watched are, in this
    order: the residual, the residual weighted by `slope` (from -1 in the lowest band to 1), the residual within each
    band, and the squared error beyond its mean `brier`.
    """

    edges: Floats
    bias: Floats
    slope: Floats
    brier: float
    movement: Movement

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        """Read the bands of a profile."""
        sums = {name: np.asarray(document[name], np.float64) for name in document if name != "edges"}
        rows, squares = sums["rows"], sums["squared_error"]
        per_chunk = rows.sum(1)
        bias = (sums["positives"] - sums["score"]).sum(0) / np.maximum(rows.sum(0), 1)
        slope = np.linspace(-1, 1, len(bias)) if len(bias) > 1 else np.zeros(1)
        brier = float(squares.sum() / per_chunk.sum())
        residual = sums["positives"] - sums["score"] - bias * rows
        spread = squares.sum(0) - bias**2 * rows.sum(0)
        squared = squares.sum(1) - brier * per_chunk
        sizes = np.column_stack([per_chunk, per_chunk, rows, per_chunk])
        means = np.column_stack([residual.sum(1), residual @ slope, residual, squared]) / np.maximum(sizes, 1)
        fourth = sums["fourth_power_error"].sum() - brier**2 * per_chunk.sum()
        variance = np.array([spread.sum(), spread @ slope**2, *spread, fourth]) / np.maximum(sizes.sum(0), 1)
        edges = np.asarray(document["edges"], np.float64)
        return cls(edges, bias, slope, brier, measure(means, sizes, variance))


@dataclass(frozen=True, slots=True)
class Profile:
    """The whole reference; `armed` tells whether it holds enough chunks to judge by."""

    columns: tuple[Column, ...]
    score: Column
    bands: Bands
    positive_rate: float
    armed: bool

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        """Read the JSON document that training made; raises KeyError when a part is missing."""
        return cls(
            columns=tuple(Column.parse(feature, feature["name"]) for feature in document["features"]),
            score=Column.parse(document["score"], SCORE),
            bands=Bands.parse(document["bands"]),
            positive_rate=float(document["positive_rate"]),
            armed=len(document["score"]["chunks"]) >= FEWEST_CHUNKS,
        )


def _functions(counts: Floats) -> Floats:
    """Return rank, distance from the median, top and bottom tail and missing, each as a value 0 to 1 for every bin."""
    share = counts[:-1] / max(counts[:-1].sum(), 1)
    rank = np.append(np.cumsum(share) - share / 2, 0.5)
    missing = np.zeros(len(counts))
    missing[-1] = 1
    top, bottom = (rank > 1 - TAIL) * (1 - missing), (rank < TAIL) * (1 - missing)
    # The outermost bins belong to the tails however much they hold.
    top[-2], bottom[0] = 1, 1
    return np.array([rank, np.abs(2 * rank - 1), top, bottom, missing])
