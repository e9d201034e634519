"""Calls that came in one turn of the loop are answered together; see ADR 19."""

import asyncio
from collections.abc import Callable

from mainstem.events.errors import MainstemError
from mainstem.serving.answers import Answers
from mainstem.serving.engine import CHUNK
from mainstem.serving.ports import Answer, Question

#: Is given the answer, or why there is none.
Done = Callable[[Answer | MainstemError], None]


class Batcher:
    """Gathers the calls of a turn of the loop; nobody waits for others to come."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[Question, Done]] = []
        self._rows = 0

    def put(self, question: Question, done: Done) -> None:
        """Answer a question in this turn of the loop, or at once when enough are there."""
        if not self._waiting:
            self._loop.call_soon(self.flush)
        self._waiting.append((question, done))
        self._rows += len(question.rows)
        if self._rows >= CHUNK:
            self.flush()

    def flush(self) -> None:
        """Answer all that wait."""
        waiting, self._waiting, self._rows = self._waiting, [], 0
        if waiting:
            answers = self._answers.answer_all([question for question, _ in waiting])
            for (_, done), answer in zip(waiting, answers, strict=True):
                done(answer)
