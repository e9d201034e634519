"""What goes into the engine and what comes out: events and feature rows, by column."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mainstem.feature_engine.column_types import ColumnType
from mainstem.feature_engine.localtime import FIRST_INSTANT, LAST_INSTANT

Values = NDArray[np.generic] | Sequence[object]


@dataclass(frozen=True, slots=True)
class Batch:
    """Events in applied order.

    `columns[stream][column]` has one value for each event of that stream, in order: a category as str or None, a fixed
    number in its unit with NaN for null, a time in µs since 1970-01-01 UTC with the smallest int64 for null, a boolean
    as 1, 0 and -1 for null. Columns beyond those in `CompiledSet.streams` are ignored.
    """

    stream: NDArray[np.int8]  #: position of each event's stream in `CompiledSet.streams`
    event_time: NDArray[np.int64]  #: µs since 1970-01-01 UTC
    columns: Mapping[str, Mapping[str, Values]]


@dataclass(frozen=True, slots=True)
class Rows:
    """One row of values for each spine event of a batch, whatever else is wrong with it."""

    index: NDArray[np.int64]  #: position of the spine event in the batch
    values: NDArray[np.float64]  #: (row, feature) in declaration order; null is numpy's NaN, with its one bit pattern
    too_late: NDArray[np.int64]  #: positions of the events, of any stream, that were too late and have not been applied


def validate(batch: Batch, streams: Mapping[str, Mapping[str, ColumnType]]) -> None:
    """Raise ValueError, naming what is wrong, unless the batch has the form that `streams` asks for."""
    if len(batch.stream) != len(batch.event_time):
        raise ValueError(f"{len(batch.stream)} streams for {len(batch.event_time)} event times: give one each")
    if len(batch.stream) == 0:
        return
    if batch.stream.min() < 0 or batch.stream.max() >= len(streams):
        raise ValueError(f"stream numbers must be below {len(streams)}: they count {', '.join(streams)} from 0")
    if batch.event_time.min() < FIRST_INSTANT or batch.event_time.max() > LAST_INSTANT:
        raise ValueError("event times must lie in the years 1 to 9999: are they in microseconds?")
    counts = np.bincount(batch.stream, minlength=len(streams))
    for count, (stream, columns) in zip(counts, streams.items(), strict=True):
        for column in columns if count else ():
            given = len(batch.columns.get(stream, {}).get(column, ()))
            if given != count:
                raise ValueError(f"{stream}.{column} has {given} values for {count} events: give one each")
