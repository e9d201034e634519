"""The accepted flights of the year in applied order, as one batch for the engine, and cuts of it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from projects.flights.data import Events, honest_events

from mainstem.feature_engine import Batch, CompiledSet
from mainstem.project import Columns, Decoder, SourceContract, load_folder

_FOLDER = Path(__file__).parents[2] / "projects" / "flights"

Ints = npt.NDArray[np.int64]


class _Accepted(NamedTuple):
    """What a source brought: columns, and when each event happened and became known."""

    columns: Columns
    event_time: Ints
    arrival: Ints


def flights() -> tuple[CompiledSet, Batch]:
    """Return the feature set of the flights and the year that it folds; takes some seconds."""
    project, events = load_folder(_FOLDER), honest_events()
    compiled = project.feature_sets["flight_delay"].compiled
    return compiled, merged({name: _accepted(project.sources[name], events[name]) for name in compiled.streams})


def merged(sources: Mapping[str, _Accepted]) -> Batch:
    """Return the events of some streams in the order of arrival; at a tie the earlier stream goes first."""
    parts = list(sources.values())
    stream = np.repeat(np.arange(len(parts), dtype=np.int8), [len(part.arrival) for part in parts])
    times, arrivals = (np.concatenate(of) for of in ([p.event_time for p in parts], [p.arrival for p in parts]))
    order = np.lexsort((stream, arrivals))
    columns = {name: part.columns for name, part in sources.items()}
    return Batch(stream[order], times[order], arrivals[order], columns)


def cut(log: Batch, first: int, last: int) -> Batch:
    """Return the events from `first` up to `last`, that one left out."""
    columns = {}
    for number, (stream, of) in enumerate(log.columns.items()):
        before, there = (int(np.count_nonzero(log.stream[:end] == number)) for end in (first, last))
        columns[stream] = {name: values[before:there] for name, values in of.items()}
    return Batch(log.stream[first:last], log.event_time[first:last], log.arrival[first:last], columns)


def pieces(log: Batch, size: int) -> Iterator[Batch]:
    """Cut a log into batches of `size`; the last may be smaller."""
    for first in range(0, len(log.stream), size):
        yield cut(log, first, min(first + size, len(log.stream)))


def spine_only(log: Batch) -> Batch:
    """Return the events of the first stream alone."""
    kept = log.stream == 0
    name, columns = next(iter(log.columns.items()))
    return Batch(log.stream[kept], log.event_time[kept], log.arrival[kept], {name: columns})


def _accepted(contract: SourceContract, events: Events) -> _Accepted:
    decoder = Decoder(contract)
    faults = decoder.judge(events.payloads, events.keys, events.event_time_us, events.arrival_us).faults
    good = np.array([fault is None for fault in faults])
    payloads = [payload for payload, fine in zip(events.payloads, good, strict=True) if fine]
    return _Accepted(decoder.columns(payloads), events.event_time_us[good], events.arrival_us[good])
