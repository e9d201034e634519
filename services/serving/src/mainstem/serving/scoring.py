"""The stream, scored: feature rows in, messages with predictions out."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import orjson

from mainstem.events.envelope import Event, Message
from mainstem.events.instants import NEVER
from mainstem.events.record import Record
from mainstem.serving.board import Board
from mainstem.serving.domain import (
    Activation,
    LogTime,
    Partition,
    Reached,
    Tallies,
    complete_through,
    no_probability,
    unfinished,
)
from mainstem.serving.engine import NO_FAULTS, RUN_FAULTS
from mainstem.serving.ports import Parked
from mainstem.serving.rows import Row, follow_up, inputs, pass_on, places, read_markers, read_rows, until
from mainstem.serving.rule import ELSEWHERE, NONE, route
from mainstem.telemetry import Tracer


@dataclass(slots=True)
class Scored:
    """What a batch led to."""

    messages: list[Message] = field(default_factory=list)
    tallies: Tallies = field(default_factory=Tallies)
    parked: list[Parked] = field(default_factory=list)
    reached: dict[Partition, Reached] = field(default_factory=dict)
    #: Rows whose record no version answers, by model.
    unscored: Counter[str] = field(default_factory=Counter)

    def add(self, later: "Scored") -> None:
        """Add what the next records led to."""
        self.messages += later.messages
        self.tallies.add(later.tallies)
        self.parked += later.parked
        self.reached |= later.reached
        self.unscored += later.unscored


class Scorer:
    """Turns records of feature topics into messages for prediction topics: the same records give the same messages."""

    def __init__(self, board: Board, tracer: Tracer) -> None:
        self._board = board
        self._tracer = tracer

    def score(self, records: Sequence[Record], headers: Sequence[Mapping[str, bytes]], log: LogTime) -> Scored:
        """Score the rows and pass the markers on, each partition in its order. Raises NotLoaded."""
        out = Scored()
        order = sorted(range(len(records)), key=lambda i: (records[i].topic, records[i].partition, records[i].offset))
        for place, run in groupby(order, key=lambda i: (records[i].topic, records[i].partition)):
            indices = list(run)
            seen = {**log.partitions, **out.reached}
            out.reached[place] = self._score_partition(
                [records[i] for i in indices], [headers[i] for i in indices], seen, out
            )
        return out

    def _score_partition(
        self,
        records: Sequence[Record],
        headers: Sequence[Mapping[str, bytes]],
        seen: Mapping[Partition, Reached],
        out: Scored,
    ) -> Reached:
        rows = read_rows(records, headers, out.parked)
        markers = read_markers(records, headers, out.parked)
        topic, partition = records[0].topic, records[0].partition
        for model in self._board.readers.get(topic, ()):
            found = {index: [message] for index, message in self._predict(model, rows, out).items()}
            if markers:
                passed = {name: reached.passed_us for (name, number), reached in seen.items() if number == partition}
                found |= self._pass_on(model, [(i, records[i], event) for i, event in markers.items()], passed)
            out.messages += [message for index in sorted(found) for message in found[index]]
        reached = seen.get((topic, partition), Reached())
        if rows:
            newest = max(rows, key=lambda row: (row.recorded_us, row.index))
            reached = reached.with_row(newest.recorded_us, newest.record.offset)
        for event in markers.values():
            reached = reached.with_marker(event.envelope.time_us)
        return reached

    def _pass_on(
        self, model: str, markers: Iterable[tuple[int, Record, Event]], passed: dict[str, int]
    ) -> dict[int, list[Message]]:
        """Return what the markers of a partition say of the model's answers, by their index; `passed` is by topic.

        A marker says what its own topic has in charge. What others said before, and could not be told while this topic
        was behind, follows it.
        """
        order, found = self._board.charges(model), dict[int, list[Message]]()
        for index, record, event in markers:
            charge, before = unfinished(order, passed), complete_through(order, passed)
            passed[record.topic] = max(passed.get(record.topic, NEVER), event.envelope.time_us)
            own_us, after = min(event.envelope.time_us, charge.until_us), complete_through(order, passed)
            found[index] = []
            if charge.topic == record.topic and own_us > before:
                said = event if own_us == event.envelope.time_us else until(event, own_us)
                found[index].append(pass_on(record, said, model))
                before = own_us
            if after > before:
                found[index].append(follow_up(record, event, model, after))
        return found

    def _predict(self, model: str, rows: Sequence[Row], out: Scored) -> dict[int, Message]:
        """Return the messages with the predictions of a model, by the index of the row."""
        if not rows:
            return {}
        activations = self._board.of(model)
        chosen = route(activations, places(rows))
        found: dict[int, Message] = {}
        for number in np.unique(chosen).tolist():
            picked = [rows[i] for i in np.flatnonzero(chosen == number).tolist()]
            if number == NONE:
                out.unscored[model] += len(picked)
            elif number != ELSEWHERE:
                found |= self._predict_with(activations[number], picked, out)
        return found

    def _predict_with(self, activation: Activation, rows: Sequence[Row], out: Scored) -> dict[int, Message]:
        model = self._board.model(activation)
        rows, matrix = inputs(rows, model.width, out.parked)
        if not rows:
            return {}
        try:
            probabilities, why = model.probabilities(matrix), NO_FAULTS
        except RUN_FAULTS:
            probabilities, why = model.probabilities_apart(matrix[:, None])
        scores = probabilities[:, 1]
        form = self._board.form(activation)
        texts = orjson.dumps(scores.tolist())[1:-1].split(b",")
        found, ids = {}, []
        for at, (row, score, finite) in enumerate(zip(rows, texts, np.isfinite(scores).tolist(), strict=True)):
            if not finite:
                out.parked.append(Parked(row.record, no_probability(activation, why.get(at))))
                continue
            event_id, found[row.index] = form.from_row(row, score, self._tracer)
            ids.append(event_id)
        out.tallies[activation.model, activation.version, "stream", rows[0].record.partition].count(ids)
        return found
