"""The witness, as the ledger reaches it: over HTTP (https://c2sp.org/tlog-witness)."""

from collections.abc import Sequence
from typing import Final

import httpx

from mainstem.events.errors import Unavailable
from mainstem.ledger.note import NoteError, Signature
from mainstem.ledger.witness import Refused

_PATIENCE_S: Final = 5.0


class Witness:
    """Submits checkpoints to the witness at an address."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = httpx.AsyncClient(base_url=url, timeout=_PATIENCE_S)

    async def ask(self, submission: bytes) -> Sequence[Signature] | Refused:
        """Return the cosignatures of a submission, or why there are none; raise Unavailable when no answer comes."""
        try:
            answer = await self._client.post("/add-checkpoint", content=submission)
        except httpx.HTTPError as fault:
            raise Unavailable(f"the witness at {self._url} does not answer: {fault!r}") from fault
        if answer.status_code >= 500:
            raise Unavailable(f"the witness at {self._url} answered {answer.status_code}: {answer.text.strip()}")
        if not answer.is_success:
            return Refused(answer.status_code, answer.text, answer.headers.get("content-type", ""))
        try:
            return [Signature.parse(line) for line in answer.text.splitlines()]
        except NoteError as fault:
            raise Unavailable(f"the witness at {self._url} answered with no cosignature: {fault}") from fault

    async def aclose(self) -> None:
        """Let go of the connection."""
        await self._client.aclose()
