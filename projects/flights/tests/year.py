"""The year as the feature set takes it: accepted records of its sources, by column, in applied order."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from projects.flights.data import Events

from mainstem.feature_engine import Batch, CompiledSet
from mainstem.project import Columns, Decoder, ProjectDefinition

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
#: Of the accepted records of a source: columns, and when each happened and became known.
Accepted = tuple[Columns, Ints, Ints]


def accepted(project: ProjectDefinition, events: Events) -> Accepted:
    """Return the records of a source that its contract accepts."""
    decoder = Decoder(project.sources[events.source])
    faults = decoder.judge(events.payloads, events.keys, events.event_time_us, events.arrival_us).faults
    good = np.array([fault is None for fault in faults])
    payloads = [payload for payload, fine in zip(events.payloads, good, strict=True) if fine]
    return decoder.columns(payloads), events.event_time_us[good], events.arrival_us[good]


@dataclass(frozen=True)
class Year:
    """The events of a feature set in applied order; `lines` counts the events of each stream before a position."""

    compiled: CompiledSet
    stream: npt.NDArray[np.int8]
    event_time: Ints
    arrival: Ints
    columns: dict[str, Columns]
    lines: dict[str, Ints]

    @classmethod
    def of(cls, compiled: CompiledSet, sources: dict[str, Accepted]) -> "Year":
        """Put the accepted records of the sources in order."""
        parts = [sources[name] for name in compiled.streams]
        streams = np.repeat(np.arange(len(parts), dtype=np.int8), [len(times) for _, times, _ in parts])
        times, arrivals = (np.concatenate([part[field] for part in parts]) for field in (1, 2))
        order = np.lexsort((streams, arrivals))
        stream = streams[order]
        lines = {
            name: np.concatenate([[0], np.cumsum(stream == number)]) for number, name in enumerate(compiled.streams)
        }
        columns = {name: {c: sources[name][0][c] for c in compiled.streams[name]} for name in compiled.streams}
        return cls(compiled, stream, times[order], arrivals[order], columns, lines)

    def __len__(self) -> int:
        return len(self.stream)

    def batch(self, start: int, end: int) -> Batch:
        """Return the events from one position to another."""
        columns = {
            name: {c: values[self.lines[name][start] : self.lines[name][end]] for c, values in of.items()}
            for name, of in self.columns.items()
        }
        return Batch(self.stream[start:end], self.event_time[start:end], self.arrival[start:end], columns)

    def batches(self, size: int) -> list[Batch]:
        """Return the year in batches of a size."""
        return self.cut(range(size, len(self), size))

    def cut(self, places: Sequence[int]) -> list[Batch]:
        """Return the year cut at some positions."""
        return [self.batch(a, b) for a, b in pairwise([0, *places, len(self)])]
