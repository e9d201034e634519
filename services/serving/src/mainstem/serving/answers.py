"""Direct calls: answered from the board, recorded in the spool."""

import time
from collections.abc import Callable, Mapping, Sequence
from math import isfinite

import numpy as np
from msgspec.structs import replace
from prometheus_client import Counter
from typing_extensions import override

from mainstem.bus.spool import Spool, SpoolFull
from mainstem.events.errors import MainstemError
from mainstem.events.instants import render
from mainstem.inference.errors import BadRequest, NoAnswer, NotReady, TooLarge, Unknown
from mainstem.serving.blocks import pack, prediction_id
from mainstem.serving.domain import Activation, Indexed, LogTime, Usage
from mainstem.serving.engine import Board, Model
from mainstem.serving.ports import Answer, Floats, Oracle, Question
from mainstem.telemetry import Tracer, metrics

#: A direct call may ask about this many rows.
MAX_ROWS = 4096
#: Its id and its entity may have this many characters each: both stand in every prediction.
MAX_NAME = 1024

#: A question, and its place among those that were asked together.
Call = tuple[int, Question]
#: By place the answer, or why there is none.
Found = list[Answer | MainstemError | None]


class Answers(Oracle):
    """Answers direct calls, each recorded in the spool before it is given."""

    def __init__(
        self, board: Board, log: LogTime, spool: Spool, faults: Callable[[], Mapping[str, str]], tracer: Tracer
    ) -> None:
        self._board = board
        self._log = log
        self._spool = spool
        self._tracer = tracer
        self._faults = faults
        self._usage: dict[tuple[str, int], Usage] = {}
        self._counters: dict[tuple[str, int, str], Counter] = {}
        self._rendered = (0, render(0))

    @override
    def faults(self) -> Mapping[str, str]:
        return self._faults()

    @override
    def about(self, model: str, version: str | None) -> Activation:
        live = self._board.live(model)
        if version not in (None, str(live.version)):
            raise Unknown(f"model {model!r} answers in version {live.version}, not {version!r}")
        self._board.model(live)
        return live

    @override
    def index(self) -> list[Indexed]:
        found: list[Indexed] = []
        for live in self._board.last():
            name, fault = (live.model, str(live.version)), self._board.faults.get(live.onnx)
            try:
                self._board.model(live)
            except NotReady:
                found.append(Indexed(*name, "UNAVAILABLE", fault) if fault else Indexed(*name, "LOADING"))
            else:
                found.append(Indexed(*name, "READY"))
        return found

    @override
    def usage(self, model: str | None, version: str | None) -> list[Usage]:
        chosen = self._board.last() if model is None else [self.about(model, version)]
        return [self._usage_of(live) for live in chosen]

    def _usage_of(self, live: Activation) -> Usage:
        key = live.model, live.version
        known = self._usage.get(key)
        if known is None:
            known = self._usage[key] = Usage(live.model, str(live.version))
        return known

    @override
    def answer(self, question: Question) -> Answer:
        (found,) = self.answer_all([question])
        if isinstance(found, MainstemError):
            raise found
        return found

    def answer_all(self, questions: Sequence[Question]) -> list[Answer | MainstemError]:
        """Answer questions, each by itself: one that cannot be answered has the reason in its place.

        Those on one version are one run of it and one block of the spool, which is kept before any of them is given.
        """
        found: Found = [None] * len(questions)
        groups: dict[tuple[str, str | None], list[Call]] = {}
        for call in enumerate(questions):
            groups.setdefault((call[1].model, call[1].version), []).append(call)
        for (name, version), calls in groups.items():
            try:
                live = self.about(name, version)
                model = self._board.model(live)
            except MainstemError as fault:
                _fill(found, calls, fault)
            else:
                self._answer_group(live, model, calls, found)
        return [one for one in found if one is not None]

    def _answer_group(self, live: Activation, model: Model, calls: Sequence[Call], found: Found) -> None:
        """Answer calls on one version."""
        usage = self._usage_of(live)
        taken, rows = _accepted(calls, model.width, found)
        usage.refused += len(calls) - len(taken)
        if not taken:
            return
        began = time.perf_counter_ns()
        probabilities = model.probabilities(rows)
        _use(usage, len(rows), len(taken), time.perf_counter_ns() - began)
        if not isfinite(np.add.reduce(probabilities, axis=None)):  # probabilities are small: none overflows the sum
            taken, rows, probabilities = _with_number(live, taken, probabilities, found)
        try:
            self._give(live, [(at, self._traced(question)) for at, question in taken], rows, probabilities, found)
        except SpoolFull as fault:
            _fill(found, taken, NotReady(f"the answer cannot be recorded, so it is not given: {fault}"))

    def _give(self, live: Activation, calls: Sequence[Call], rows: Floats, probabilities: Floats, found: Found) -> None:
        """Record answers, then put them where they belong. Raises SpoolFull; then none of them was recorded."""
        reached_us, position = self._log.of(live.topic)
        recorded = self._text_of(max(reached_us, live.effective_us))
        incarnation, number = self._spool.incarnation, self._spool.next_number
        if len(rows):
            asked = [question for _, question in calls]
            form = self._board.form(live)
            self._spool.append(pack(form, asked, rows, probabilities[:, 1], recorded, position), len(rows))
        begin, counts = 0, dict[str, int]()
        for at, question in calls:
            count = len(question.rows)
            counts[question.channel] = counts.get(question.channel, 0) + count
            name = prediction_id(incarnation, number + begin) if count else None
            given = probabilities[begin : begin + count]
            found[at] = Answer(live.model, live.version, question.id, given, position, recorded, name)
            begin += count
        for channel, count in counts.items():
            self._counter(live, channel).inc(count)

    def _traced(self, question: Question) -> Question:
        """Return a question with the trace that its answer goes on with."""
        if question.traceparent is None:
            return question
        name, asked = f"answer {question.model}", {"request.id": question.id}
        return replace(question, traceparent=self._tracer.step(question.traceparent, name, asked))

    def _text_of(self, instant_us: int) -> str:
        """Return an instant as text; most turns have that of the turn before."""
        if instant_us != self._rendered[0]:
            self._rendered = instant_us, render(instant_us)
        return self._rendered[1]

    def _counter(self, live: Activation, channel: str) -> Counter:
        """Return what counts the predictions of a version over a channel."""
        key = live.model, live.version, channel
        known = self._counters.get(key)
        if known is None:
            known = self._counters[key] = metrics.PREDICTIONS.labels(*key)
        return known


def _accepted(calls: Sequence[Call], width: int, found: Found) -> tuple[Sequence[Call], Floats]:
    """Return the calls that a model of so many inputs can answer, and their rows below each other; refuse the rest."""
    taken: list[Call] = []
    for call in calls:
        try:
            _check(call[1], width)
        except MainstemError as fault:
            found[call[0]] = fault
        else:
            taken.append(call)
    rows = _below(taken, width)
    if not np.logical_or.reduce(np.isinf(rows), axis=None):
        return taken, rows
    infinite = [call for call in taken if np.isinf(call[1].rows).any()]
    no_event = "input 'features' holds an infinity, which no event can carry; send NaN for a missing value"
    _fill(found, infinite, BadRequest(no_event))
    rest = [call for call in taken if found[call[0]] is None]
    return rest, _below(rest, width)


def _with_number(
    live: Activation, calls: Sequence[Call], probabilities: Floats, found: Found
) -> tuple[Sequence[Call], Floats, Floats]:
    """Return the calls that the model gave a probability for each row, their rows and these; refuse the rest."""
    ends = np.cumsum([len(question.rows) for _, question in calls])
    parts = np.split(probabilities, ends[:-1])
    good = [np.isfinite(part).all() for part in parts]
    for (at, question), fine in zip(calls, good, strict=True):
        if not fine:
            who = f"model {live.model} version {live.version}"
            found[at] = NoAnswer(f"{who} gave no probability for request {question.id}")
    rest = [call for call in calls if found[call[0]] is None]
    numbers = [part for part, fine in zip(parts, good, strict=True) if fine]
    return rest, _below(rest, calls[0][1].rows.shape[1]), np.concatenate([np.empty((0, 2)), *numbers])


def _below(calls: Sequence[Call], width: int) -> Floats:
    """Return the rows of calls below each other."""
    if len(calls) == 1:
        return calls[0][1].rows
    return np.concatenate([question.rows for _, question in calls]) if calls else np.empty((0, width))


def _use(usage: Usage, rows: int, calls: int, spent_ns: int) -> None:
    """Note a run; without rows the model was not run."""
    usage.answered += calls
    usage.last_ms = time.time_ns() // 1_000_000
    if rows:
        usage.rows += rows
        usage.runs += 1
        usage.run_ns += spent_ns
        runs, spent = usage.by_rows.get(rows, (0, 0))
        usage.by_rows[rows] = runs + 1, spent + spent_ns


def _fill(found: Found, calls: Sequence[Call], fault: MainstemError) -> None:
    for at, _ in calls:
        found[at] = fault


def _check(question: Question, width: int) -> None:
    rows = question.rows
    if rows.ndim != 2 or rows.shape[1] != width:
        raise BadRequest(f"input 'features' has shape {list(rows.shape)}, model {question.model!r} takes [-1, {width}]")
    if len(question.id) > MAX_NAME:
        raise TooLarge(f"the id of the request has {len(question.id)} characters, at most {MAX_NAME}")
    if question.entity is not None and len(question.entity) > MAX_NAME:
        raise TooLarge(f"the entity of the request has {len(question.entity)} characters, at most {MAX_NAME}")
    if len(rows) > MAX_ROWS:
        raise TooLarge(f"{len(rows)} rows in one request, at most {MAX_ROWS}; send them in parts")
