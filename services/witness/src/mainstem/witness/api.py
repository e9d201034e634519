"""HTTP: add-checkpoint of C2SP tlog-witness, and what was cosigned last."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from mainstem.ledger.keys import LogKey, Secret
from mainstem.ledger.note import Note
from mainstem.ledger.witness import Refused, Submission, judge
from mainstem.runtime.http import body_bytes
from mainstem.telemetry import logger
from mainstem.witness.memory import Memory

#: A checkpoint with a hundred signatures and the longest proof takes less.
_MOST_BYTES: Final = 64 << 10

_log = logger(__name__)


class Api:
    """The routes, and what they need. One submission is judged at a time."""

    def __init__(self, memory: Memory, secret: Secret, logs: Mapping[str, LogKey], seconds: Callable[[], int]) -> None:
        self._memory = memory
        self._secret = secret
        self._logs = logs
        self._seconds = seconds
        self._one_at_a_time = asyncio.Lock()

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return [
            Route("/add-checkpoint", self.add, methods=["POST"]),
            Route("/v1/checkpoints", self.latest),
            Route("/v1/key", self.key),
        ]

    async def add(self, request: Request) -> Response:
        """Cosign a checkpoint that extends the last one of its log, and answer the cosignature; else refuse."""
        body = await body_bytes(request, _MOST_BYTES)
        async with self._one_at_a_time:
            found = judge(body, self._logs, self._memory.latest)
            if isinstance(found, Refused):
                _log.warning("refused %d: %s", found.status, found.body.strip(), extra={"action": "not_cosigned"})
                return Response(found.body, found.status, {"content-type": found.content_type})
            asked = Submission.parse(body).checkpoint
            cosignature = self._secret.cosign(asked.text, self._seconds())
            own = [each for each in asked.signatures if each.name == found.origin]
            await asyncio.to_thread(self._memory.keep, Note(asked.text, (*own, cosignature)))
        return PlainTextResponse(cosignature.line())

    async def latest(self, _: Request) -> Response:
        """Return the checkpoints that were cosigned last, one behind the other."""
        return PlainTextResponse("\n".join(note.render().decode() for note in self._memory.notes))

    async def key(self, _: Request) -> Response:
        """Return the public key."""
        return PlainTextResponse(self._secret.witness_key.vkey() + "\n")
