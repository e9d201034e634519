"""A request that was read, and who answers it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mainstem.direct.responses import FAILED, Headers, bare, refused, rendered


class Answering(Protocol):
    """Where a call came from."""

    heard: float

    def send_answered(self) -> None:
        """Send what is answered, in the order of the requests."""


class Call:
    """A request that was read whole, in its place among those of its connection; its answer is to be given once."""

    __slots__ = ("_connection", "answered", "bare", "body", "keep_alive")

    def __init__(self, connection: Answering, body: bytes, keep_alive: bool) -> None:
        self._connection = connection
        self.body = body
        self.keep_alive = keep_alive
        #: The answer as it is sent, from when it is there.
        self.answered: bytes | None = None
        #: Only the head of the answer is sent, as that of any other: it is a request by HEAD.
        self.bare = False

    @property
    def read(self) -> float:
        """Return when the turn of the loop began that read its last bytes (s, time of the loop)."""
        return self._connection.heard

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer, now or whenever it is known."""
        self.answered = rendered(status, headers, body, keep_alive=self.keep_alive)
        if self.bare:
            self.answered = bare(self.answered)
        self._connection.send_answered()

    def fail(self) -> None:
        """Answer that it failed, for a reason that nobody thought of."""
        answer = refused(500, FAILED, keep_alive=self.keep_alive)
        self.answered = bare(answer) if self.bare else answer
        self._connection.send_answered()


#: Takes a call on a path that it serves.
Handler = Callable[[Call], None]
#: Returns who serves a method and path (its query left out) with these headers; None for what is not served here.
Route = Callable[[bytes, bytes, Sequence[tuple[bytes, bytes]]], Handler | None]


@dataclass(frozen=True, slots=True)
class Head:
    """What stands before the body of a request, as far as it counts."""

    handler: Handler
    keep_alive: bool
    #: Of the body.
    length: int
