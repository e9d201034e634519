"""Direct calls: answered from the board, recorded in the spool."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from typing_extensions import override

from mainstem.bus.spool import Spool, SpoolFull
from mainstem.events.envelope import Message
from mainstem.events.errors import MainstemError
from mainstem.events.instants import render
from mainstem.inference.errors import BadRequest, NoAnswer, NotReady, TooLarge, Unknown
from mainstem.serving.domain import Activation, Indexed, LogTime, Usage
from mainstem.serving.engine import Board, Model
from mainstem.serving.ports import Answer, Floats, Oracle, Question
from mainstem.telemetry import Tracer, metrics

#: A direct call may ask about this many rows.
MAX_ROWS = 4096
#: Its id and its entity may have this many characters each: both stand in every prediction.
MAX_NAME = 1024


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

        Those on one model are one run of it, and what all are answered is recorded at once, before any is given.
        """
        found: list[Answer | MainstemError | None] = [None] * len(questions)
        groups: dict[tuple[str, str | None], list[int]] = {}
        for at, question in enumerate(questions):
            groups.setdefault((question.model, question.version), []).append(at)
        records: list[Message] = []
        for (name, version), places in groups.items():
            try:
                live = self.about(name, version)
                model = self._board.model(live)
            except MainstemError as fault:
                _fill(found, places, fault)
                continue
            for at, given in self._group(live, model, [(at, questions[at]) for at in places]):
                found[at] = given if isinstance(given, MainstemError) else given[0]
                records += () if isinstance(given, MainstemError) else given[1]
        try:
            self._spool.append(records)
        except SpoolFull as fault:
            unrecorded = NotReady(f"the answer cannot be recorded, so it is not given: {fault}")
            _fill(found, [at for at, one in enumerate(found) if isinstance(one, Answer)], unrecorded)
        _count(questions, found)
        return [one for one in found if one is not None]

    def _group(
        self, live: Activation, model: Model, asked: Sequence[tuple[int, Question]]
    ) -> Iterator[tuple[int, MainstemError | tuple[Answer, Sequence[Message]]]]:
        """Yield the answer to each question on one version, with its records."""
        taken: list[tuple[int, Question]] = []
        usage = self._usage_of(live)
        for at, question in asked:
            try:
                _check(question, model.width)
            except MainstemError as fault:
                usage.refused += 1
                yield at, fault
            else:
                taken.append((at, question))
        if not taken:
            return
        rows = taken[0][1].rows if len(taken) == 1 else np.concatenate([question.rows for _, question in taken])
        began = time.perf_counter_ns()
        probabilities = model.probabilities(rows)
        _use(usage, len(rows), len(taken), time.perf_counter_ns() - began)
        reached_us, position = self._log.of(live.topic)
        recorded = render(max(reached_us, live.effective_us))
        begin = 0
        for at, question in taken:
            mine = probabilities[begin : begin + len(question.rows)]
            begin += len(mine)
            if np.isfinite(mine).all():
                yield at, self._answered(live, question, mine, recorded, position)
            else:
                who = f"model {live.model} version {live.version}"
                yield at, NoAnswer(f"{who} gave no probability for request {question.id}")

    def _answered(
        self, live: Activation, question: Question, probabilities: Floats, recorded: str, position: str
    ) -> tuple[Answer, Sequence[Message]]:
        """Return an answer and its records."""
        if question.traceparent is not None:
            trace = self._tracer.step(question.traceparent, f"answer {live.model}", {"request.id": question.id})
            question = replace(question, traceparent=trace)
        messages = self._board.form(live).from_question(question, probabilities[:, 1], recorded, position)
        answer = Answer(
            live.model,
            live.version,
            question.id,
            probabilities,
            position,
            recorded,
            dict(messages[0].headers)["ce_id"].decode() if messages else None,
        )
        return answer, messages


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


def _fill(found: list[Answer | MainstemError | None], places: Sequence[int], fault: MainstemError) -> None:
    for at in places:
        found[at] = fault


def _count(questions: Sequence[Question], found: Sequence[Answer | MainstemError | None]) -> None:
    """Count the predictions that were given."""
    counts: Counter[tuple[str, int, str]] = Counter()
    for question, one in zip(questions, found, strict=True):
        if isinstance(one, Answer):
            counts[one.model, one.version, question.channel] += len(one.probabilities)
    for labels, count in counts.items():
        metrics.PREDICTIONS.labels(*labels).inc(count)


def _check(question: Question, width: int) -> None:
    rows = question.rows
    if rows.ndim != 2 or rows.shape[1] != width:
        raise BadRequest(f"input 'features' has shape {list(rows.shape)}, model {question.model!r} takes [-1, {width}]")
    for what, name in (("id", question.id), ("entity", question.entity or "")):
        if len(name) > MAX_NAME:
            raise TooLarge(f"the {what} of the request has {len(name)} characters, at most {MAX_NAME}")
    if len(rows) > MAX_ROWS:
        raise TooLarge(f"{len(rows)} rows in one request, at most {MAX_ROWS}; send them in parts")
    if np.isinf(rows).any():
        raise BadRequest("input 'features' holds an infinity, which no event can carry; send NaN for a missing value")
