"""Direct calls: answered from the board, recorded in the spool."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from typing_extensions import override

from mainstem.bus.spool import Spool, SpoolFull
from mainstem.events.instants import render
from mainstem.inference.errors import BadRequest, NoAnswer, NotReady, TooLarge, Unknown
from mainstem.serving.domain import Activation, LogTime
from mainstem.serving.engine import Board
from mainstem.serving.ports import Answer, Oracle, Question
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
    def answer(self, question: Question) -> Answer:
        live = self.about(question.model, question.version)
        model = self._board.model(live)
        _check(question, model.width)
        probabilities = model.probabilities(question.rows)
        if not np.isfinite(probabilities).all():
            raise NoAnswer(f"model {live.model} version {live.version} gave no probability for request {question.id}")
        reached_us, position = self._log.of(live.topic)
        recorded_us = max(reached_us, live.effective_us)
        trace = self._tracer.step(question.traceparent, f"answer {live.model}", {"request.id": question.id})
        messages = self._board.form(live).from_question(
            replace(question, traceparent=trace), probabilities[:, 1], recorded_us, position
        )
        try:
            self._spool.append(messages)
        except SpoolFull as fault:
            raise NotReady(f"the answer cannot be recorded, so it is not given: {fault}") from fault
        metrics.PREDICTIONS.labels(live.model, live.version, question.channel).inc(len(messages))
        return Answer(
            live.model,
            live.version,
            question.id,
            probabilities,
            position,
            render(recorded_us),
            dict(messages[0].headers)["ce_id"].decode() if messages else None,
        )


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
