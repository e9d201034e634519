"""What goes into the engine and what comes out: events and feature rows, by column."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.generic] | Sequence[object]


@dataclass(frozen=True, slots=True)
class Batch:
    """Events in applied order.

    `columns[stream][column]` has one value for each event of that stream, in order: a category as str or None, a fixed
    number in its unit with NaN for null, a time in µs since 1970-01-01 UTC with the smallest int64 for null, a boolean
    as 1, 0 and -1 for null. Columns beyond those in `CompiledSet.streams` are ignored.
    """

    stream: NDArray[np.int8]  #: position of each event's stream in `CompiledSet.streams`
    event_time: NDArray[np.int64]  #: when it happened, in µs since 1970-01-01 UTC
    arrival: NDArray[
        np.int64
    ]  #: when it became known, in the same unit; never falls, from one batch to the next neither
    columns: Mapping[str, Mapping[str, Values]]


@dataclass(frozen=True, slots=True)
class Rows:
    """One row of values for each spine event of a batch, whatever else is wrong with it."""

    index: NDArray[np.int64]  #: position of the spine event in the batch
    values: NDArray[np.float64]  #: (row, feature) in declaration order; null is numpy's NaN, with its one bit pattern
    too_late: NDArray[np.int64]  #: positions of the events, of any stream, that were too late and have not been applied

    @classmethod
    def joined(cls, parts: Sequence[tuple[int, Self]]) -> Self:
        """Return the rows of a batch from those of its parts, each with the position where it begins."""
        if len(parts) == 1:
            return parts[0][1]
        return cls(
            np.concatenate([first + found.index for first, found in parts]),
            np.concatenate([found.values for _, found in parts]),
            np.concatenate([first + found.too_late for first, found in parts]),
        )


@dataclass(frozen=True, slots=True)
class Aggregates:
    """What one shard knows of the spine events of a batch."""

    index: NDArray[np.int64]  #: position of the spine event in the batch
    values: NDArray[np.float64]  #: (spine event, aggregate) in the order of `Definition.aggregates`
    owned: NDArray[np.bool_]  #: of the same shape: whether this shard owns the key that the aggregate was asked for

    @classmethod
    def joined(cls, parts: Sequence[tuple[int, Self]]) -> Self:
        """Return what is known of a batch from what is known of its parts, each with the position where it begins."""
        if len(parts) == 1:
            return parts[0][1]
        return cls(
            np.concatenate([first + found.index for first, found in parts]),
            np.concatenate([found.values for _, found in parts]),
            np.concatenate([found.owned for _, found in parts]),
        )


def part(batch: Batch, streams: Sequence[str], first: int, last: int) -> Batch:
    """Return the events of a batch from one position and before another."""
    stream = np.asarray(batch.stream)
    columns = {}
    for number, name in enumerate(streams):
        of_stream = stream == number
        start, end = int(of_stream[:first].sum()), int(of_stream[:last].sum())
        columns[name] = {column: values[start:end] for column, values in batch.columns.get(name, {}).items()}
    return Batch(stream[first:last], batch.event_time[first:last], batch.arrival[first:last], columns)


def check_lengths(batch: Batch) -> None:
    """Raise ValueError, naming what is wrong, unless there is one event time and arrival for each event."""
    if not len(batch.stream) == len(batch.event_time) == len(batch.arrival):
        given = f"{len(batch.event_time)} event times and {len(batch.arrival)} arrivals"
        raise ValueError(f"{len(batch.stream)} streams, {given}: give one each")
