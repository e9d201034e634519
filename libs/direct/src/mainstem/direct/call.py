"""A request that was read, and who answers it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mainstem.direct.responses import Headers, rendered


class Answering(Protocol):
    """Where a call came from."""

    heard: float

    def send_answered(self) -> None:
        """Send what is answered, in the order of the requests."""


class Call:
    """A request that was read whole, in its place among those of its connection; its answer is to be given once."""

    __slots__ = ("_connection", "answered", "body", "keep_alive")

    def __init__(self, connection: Answering, body: bytes, keep_alive: bool) -> None:
        self._connection = connection
        self.body = body
        self.keep_alive = keep_alive
        #: The answer as it is sent, from when it is there.
        self.answered: bytes | None = None

    @property
    def read(self) -> float:
        """Return when the turn of the loop began that read its last bytes (s, time of the loop)."""
        return self._connection.heard

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer, now or whenever it is known."""
        self.answered = rendered(status, headers, body, keep_alive=self.keep_alive)
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
