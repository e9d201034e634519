"""Edges that no single entry says: which activation answered a prediction, and which window judged it.

Both follow from the log alone, but from two entries; such an edge is known with the later one of the two.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from mainstem.events.envelope import Envelope
from mainstem.events.fact import Fact
from mainstem.events.instants import NEVER, parse
from mainstem.events.monitoring import WindowJudged
from mainstem.events.serving import DeploymentActivated, Predicted
from mainstem.lineage.columns import Longs, longs
from mainstem.lineage.nodes import Kind, Relation, node

#: Digits of a number that certainly fits into 64 bits.
_DIGITS: Final = 18
#: What answered: model, version, digest of the file.
Answering = tuple[str, int, str]


class Matched(NamedTuple):
    """Edges between rows of predictions and one other node."""

    key: bytes  #: of the activation, or of the window
    relation: Relation
    predictions: Longs  #: their numbers, in the order in which they were read
    leaves: Longs


class _Activation(NamedTuple):
    key: bytes
    leaf: int
    effective_us: int
    from_offsets: dict[int, int]


class _Window(NamedTuple):
    key: bytes
    leaf: int
    start_us: int
    end_us: int
    recorded_us: int


@dataclass(slots=True)
class Predictions:
    """Of each prediction what says who answered it and when it is judged."""

    keys: bytearray = field(default_factory=bytearray)
    leaves: "array[int]" = field(default_factory=lambda: array("q"))
    answering: "array[int]" = field(default_factory=lambda: array("q"))  #: number of what answered
    time_us: "array[int]" = field(default_factory=lambda: array("q"))
    recorded_us: "array[int]" = field(default_factory=lambda: array("q"))
    partitions: "array[int]" = field(default_factory=lambda: array("q"))
    offsets: "array[int]" = field(default_factory=lambda: array("q"))  #: of the row, -1 for a direct call


def placed(position: str | None) -> tuple[int, int]:
    """Return partition and offset of a position `topic/partition/offset`; -1 twice when it is none."""
    _, *numbers = (position or "").rsplit("/", 2)
    if len(numbers) != 2 or not all(number.isdecimal() and len(number) <= _DIGITS for number in numbers):
        return -1, -1
    return int(numbers[0]), int(numbers[1])


class Matching:
    """Activations, windows and predictions, as they are read; and what belongs together."""

    def __init__(self) -> None:
        self.predictions = Predictions()
        self.numbers: dict[Answering, int] = {}
        self._activations: dict[Answering, list[_Activation]] = {}
        self._windows: dict[tuple[str, int], list[_Window]] = {}

    def number(self, answering: Answering) -> int:
        """Return the number that stands for what answered."""
        return self.numbers.setdefault(answering, len(self.numbers))

    def take(self, fact: Fact, envelope: Envelope, leaf: int) -> None:
        """Take an activation, a window or a prediction; any other fact, or one whose times cannot be read, is no match.

        Of predictions only those are taken that are not entered in `predictions` a batch at a time.
        """
        try:
            if isinstance(fact, Predicted):
                self._predicted(fact, envelope, leaf)
            elif isinstance(fact, DeploymentActivated):
                self._activated(fact, envelope, leaf)
            elif isinstance(fact, WindowJudged) and fact.version is not None:
                key, span = node(Kind.WINDOW, envelope.id), (parse(fact.start), parse(fact.end))
                window = _Window(key, leaf, *span, envelope.recorded_us)
                self._windows.setdefault((fact.model, fact.version), []).append(window)
        except ValueError:
            return

    def _predicted(self, fact: Predicted, envelope: Envelope, leaf: int) -> None:
        said = self.predictions
        said.keys += node(Kind.PREDICTION, envelope.id)
        said.leaves.append(leaf)
        said.answering.append(self.number((fact.model, fact.version, fact.onnx)))
        said.time_us.append(envelope.time_us)
        said.recorded_us.append(envelope.recorded_us)
        partition, offset = placed(fact.position if fact.row else None)
        said.partitions.append(partition)
        said.offsets.append(offset)

    def _activated(self, fact: DeploymentActivated, envelope: Envelope, leaf: int) -> None:
        offsets = {int(partition): offset for partition, offset in fact.from_offsets.items()}
        key = node(Kind.ACTIVATION, envelope.id)
        activation = _Activation(key, leaf, parse(fact.effective_from), offsets)
        self._activations.setdefault((fact.model, fact.version, fact.onnx), []).append(activation)

    def matched(self) -> Iterator[Matched]:
        """Yield the edges."""
        answering, leaves = longs(self.predictions.answering), longs(self.predictions.leaves)
        for what, number in self.numbers.items():
            rows = np.flatnonzero(answering == number)
            yield from self._answered(self._activations.get(what, []), rows, leaves)
            yield from self._judged(self._windows.get(what[:2], []), rows, leaves)

    def _answered(self, activations: list[_Activation], rows: Longs, leaves: Longs) -> Iterator[Matched]:
        """Give each prediction to the last activation in charge of its row, as the rule of routing says."""
        recorded = longs(self.predictions.recorded_us)[rows]
        partitions, offsets = longs(self.predictions.partitions)[rows], longs(self.predictions.offsets)[rows]
        chosen = np.full(len(rows), -1, np.int64)
        for number, activation in enumerate(activations):
            in_charge = recorded >= activation.effective_us
            for partition, first in activation.from_offsets.items():
                in_charge &= (partitions != partition) | (offsets < 0) | (offsets >= first)
            chosen[in_charge] = number
        for number, activation in enumerate(activations):
            ours = rows[chosen == number]
            yield Matched(activation.key, Relation.ANSWERED, ours, np.maximum(leaves[ours], activation.leaf))

    def _judged(self, windows: list[_Window], rows: Longs, leaves: Longs) -> Iterator[Matched]:
        """Give each prediction to the windows that its event time lies in, if it was known when they were judged."""
        time, recorded = longs(self.predictions.time_us)[rows], longs(self.predictions.recorded_us)[rows]
        rows = rows[time > NEVER]
        order = np.argsort(time[time > NEVER], kind="stable")
        rows, time, recorded = rows[order], time[time > NEVER][order], recorded[time > NEVER][order]
        for window in windows:
            low, high = np.searchsorted(time, [window.start_us, window.end_us]).tolist()
            ours = rows[low:high][recorded[low:high] <= window.recorded_us]
            yield Matched(window.key, Relation.JUDGED_IN, ours, np.maximum(leaves[ours], window.leaf))
