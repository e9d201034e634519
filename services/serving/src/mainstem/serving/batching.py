"""Calls that came in one turn of the loop are answered together; see ADR 19."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from math import inf
from time import monotonic

from mainstem.events.errors import MainstemError
from mainstem.inference.errors import DeadlineExceeded
from mainstem.serving.answers import Answers, Found, failed
from mainstem.serving.engine import CHUNK
from mainstem.serving.meters import count_refused
from mainstem.serving.ports import Answer, Question

#: Is given the answer, or why there is none.
Done = Callable[[Answer | MainstemError], None]
Waiting = tuple[Question, Done]


class Batcher:
    """Gathers the calls of a turn of the loop; nobody waits for others to come, and what would be late is not begun."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Waiting] = []
        self._rows = 0
        #: The first deadline among them.
        self._soonest = inf
        #: When the first of those came that wait.
        self._since_s = 0.0

    def put(self, question: Question, done: Done) -> None:
        """Answer a question in this turn of the loop, or at once when enough are there."""
        if not self._waiting:
            self._loop.call_soon(self.flush)
            self._since_s = monotonic()
        self._waiting.append((question, done))
        self._rows += len(question.rows)
        if question.until < self._soonest:  # noqa: PLR1730  (a call for each call)
            self._soonest = question.until
        if self._rows >= CHUNK:
            self.flush()

    def refuse(self, model: str, version: str | None) -> None:
        """Count a call that the model does not take."""
        self._answers.refuse(model, version)

    def flush(self) -> None:
        """Answer all that wait."""
        waiting, rows, soonest = self._waiting, self._rows, self._soonest
        self._waiting, self._rows, self._soonest = [], 0, inf
        began, late = monotonic(), list[Waiting]()
        if soonest < began + rows * self._answers.meters.most_row_s:
            waiting, late = self._in_time(waiting, began)
        try:
            if late:
                self._refuse(late)
        finally:
            if waiting:
                self._answer(waiting)

    def _answer(self, waiting: Sequence[Waiting]) -> None:
        """Answer calls, those in the next turn that something kept from it which nobody expected."""
        found: Found = [None] * len(waiting)
        try:
            self._answers.answer_into(found, [question for question, _ in waiting], self._since_s)
        except Exception:  # nobody expected it: whoever waits is told, and it is passed on
            if not any(found):
                found = [failed(question) for question, _ in waiting]
            told = [(one, answer) for one, answer in zip(waiting, found, strict=True) if answer]
            rest = [one for one, answer in zip(waiting, found, strict=True) if not answer]
            self._loop.call_soon(self._give, iter(told))
            if rest:
                self._loop.call_soon(self._answer, rest)
            raise
        self._give(zip(waiting, [answer for answer in found if answer is not None], strict=True))

    def _give(self, given: Iterator[tuple[Waiting, Answer | MainstemError]]) -> None:
        """Give answers. Whoever cannot be given one keeps no other from theirs."""
        for (question, done), answer in given:
            try:
                done(answer)
            except Exception:  # nobody expected it: whoever waits is told, and it is passed on
                fault = failed(question)
                count_refused(question.channel, fault)
                self._loop.call_soon(done, fault)
                self._loop.call_soon(self._give, given)
                raise

    def _refuse(self, late: Sequence[Waiting]) -> None:
        """Say to calls that they would be answered too late."""
        self._answers.passed_over([question for question, _ in late])
        told: list[tuple[Waiting, MainstemError]] = []
        for one in late:
            asked = one[0]
            fault = DeadlineExceeded(f"request {asked.id} would be answered too late; wait longer, or ask for less")
            count_refused(asked.channel, fault)
            self.refuse(asked.model, asked.version)
            told.append((one, fault))
        self._give(iter(told))

    def _in_time(self, waiting: list[Waiting], began: float) -> tuple[list[Waiting], list[Waiting]]:
        """Return the calls whose deadline is not before the expected end, and the others.

        What is refused takes no time: first goes what would be late were it the last, then what the rest makes late.
        """
        end, kept, late = began, list[Waiting](), list[Waiting]()
        for one in waiting:
            ended = end + self._answers.expected_s(one[0])
            if one[0].until < ended:
                late.append(one)
            else:
                end = ended
                kept.append(one)
        late += [one for one in kept if one[0].until < end]
        return [one for one in kept if one[0].until >= end], late
