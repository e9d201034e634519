"""Shadows: versions that score what others answered, once it is answered; see ADR 21."""

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Final, NamedTuple

import numpy as np

from mainstem.bus.spool import Spool, SpoolFull
from mainstem.events.errors import MainstemError
from mainstem.inference.errors import NotReady
from mainstem.serving.blocks import pack_shadow, row_ids
from mainstem.serving.board import Board
from mainstem.serving.domain import Activation
from mainstem.serving.engine import CHUNK, RUN_FAULTS, Model
from mainstem.serving.entities import Floats
from mainstem.serving.ports import Answer, Question
from mainstem.telemetry import metrics

#: What waited longer is skipped, and so is what comes while this many rows wait.
LAG_S: Final = 1.0
MOST_ROWS: Final = 64 * CHUNK


#: A call that was answered, and is scored once more.
Answered = tuple[Question, Answer]


class Turn(NamedTuple):
    """What one version answered in one turn, and the shadow that is to see it; times in seconds."""

    shadow: Activation
    since: float
    calls: Sequence[Answered]
    rows: Floats


class Shadows:
    """Scores behind the answers, in a thread, so that a shadow never keeps an answer waiting, however slow it is.

    What came while the thread was busy is one run. What cannot be scored in time is skipped and counted.
    """

    def __init__(self, board: Board, spool: Spool) -> None:
        self._board = board
        self._spool = spool
        self._waiting: deque[Turn] = deque()
        self._rows = 0
        self._news = asyncio.Event()

    def put(
        self, shadow: Activation, calls: Sequence[tuple[Question, Answer | MainstemError | None]], rows: Floats
    ) -> None:
        """Have rows scored later: those of calls that were answered and recorded. Below each other, they are `rows`."""
        given = [(asked, found) for asked, found in calls if isinstance(found, Answer) and found.prediction]
        if not given:
            return None
        if len(given) < len(calls):
            rows = np.concatenate([np.empty((0, rows.shape[1])), *(asked.rows for asked, _ in given)])
        if self._rows + len(rows) > MOST_ROWS:
            return _skip(shadow, len(rows), "too_many")
        self._rows += len(rows)
        self._waiting.append(Turn(shadow, time.monotonic(), given, rows))
        return self._news.set()

    async def run(self) -> None:
        """Score for ever what waits."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                await self._score(list(self._take()))

    def _take(self) -> Iterator[Turn]:
        """Yield the turns that are scored together: of one shadow at one position, about `CHUNK` rows."""
        first, rows = self._waiting[0], 0
        for turn in takewhile(lambda turn: _together(turn, first), list(self._waiting)):
            if rows and rows + len(turn.rows) > CHUNK:
                return
            rows += len(turn.rows)
            self._rows -= len(turn.rows)
            yield self._waiting.popleft()

    async def _score(self, turns: Sequence[Turn]) -> None:
        """Score and record turns, or count why not."""
        shadow, rows = turns[0].shadow, np.concatenate([turn.rows for turn in turns])
        if time.monotonic() - turns[0].since > LAG_S:
            return _skip(shadow, len(rows), "late")
        calls: Sequence[Answered] = [call for turn in turns for call in turn.calls]
        try:
            model = self._board.model(shadow)
        except NotReady:
            return _skip(shadow, len(rows), "not_loaded")
        scores = await asyncio.to_thread(_run, model, rows, calls)
        calls, scores = _with_number(shadow, calls, scores)
        if not calls:
            return None
        beside = [name for _, answer in calls for name in row_ids(answer)]
        answer = calls[0][1]
        try:
            block = pack_shadow(
                self._board.form(shadow),
                [asked for asked, _ in calls],
                beside,
                scores,
                answer.recorded,
                answer.position,
            )
            self._spool.append(block, len(scores), leave=self._spool.reserve)
        except SpoolFull:
            return _skip(shadow, len(scores), "no_room")
        return metrics.SHADOWED.labels(shadow.model, shadow.version).inc(len(scores))


def _run(model: Model, rows: Floats, calls: Sequence[Answered]) -> Floats:
    """Return the scores of the rows of calls, NaN for a call that the model fails on."""
    try:
        return model.probabilities(rows)[:, 1]
    except RUN_FAULTS:
        return model.probabilities_apart(asked.rows for asked, _ in calls)[0][:, 1]


def _with_number(shadow: Activation, calls: Sequence[Answered], scores: Floats) -> tuple[Sequence[Answered], Floats]:
    """Return the calls with a score for each row, and these; skip the rest."""
    if np.isfinite(scores).all():
        return calls, scores
    counts = [len(asked.rows) for asked, _ in calls]
    good = [np.isfinite(part).all() for part in np.split(scores, np.cumsum(counts)[:-1])]
    kept = scores[np.repeat(good, counts)]
    _skip(shadow, len(scores) - len(kept), "failed")
    return [call for call, fine in zip(calls, good, strict=True) if fine], kept


def _together(turn: Turn, first: Turn) -> bool:
    """Tell whether two turns can stand in one block."""
    if turn.shadow is not first.shadow:
        return False
    one, other = turn.calls[0][1], first.calls[0][1]
    return (one.position, one.recorded) == (other.position, other.recorded)


def _skip(shadow: Activation, rows: int, why: str) -> None:
    metrics.SHADOW_SKIPPED.labels(shadow.model, shadow.version, why).inc(rows)
