"""What callers may cost."""

from dataclasses import dataclass
from typing import Final

#: What was packed may always have so many bytes, and more if it is no more than so many times what was sent.
_UNPACKED_BYTES: Final = 512 << 10
_UNPACKED_TIMES: Final = 32


@dataclass(frozen=True, slots=True)
class Limits:
    """What a connection may cost, and all of them together."""

    #: Of the request line and all headers together.
    header_bytes: int = 64 << 10
    headers: int = 128
    body_bytes: int = 16 << 20
    #: Of all requests together that have begun and are not whole.
    held_bytes: int = 128 << 20
    #: From the first byte of a request to its last, and for an answer to be fetched.
    request_s: float = 30.0
    #: Between requests.
    idle_s: float = 75.0
    #: After a refusal: so long, and so many bytes, are heard and forgotten; who is cut off in it loses the refusal.
    linger_s: float = 2.0
    linger_bytes: int = 4 << 20
    #: Between two reads of these: whoever sends what means nothing waits, and nobody for them.
    linger_pause_s: float = 0.002
    connections: int = 16_384
    #: Requests of one connection that wait for their answer, and of these, that are taken in one turn of the loop.
    pipelined: int = 64
    taken: int = 16


def most_unpacked(sent: int, most: int) -> int:
    """Return how many bytes so many packed ones may unpack to, where none may have more than `most` in any case."""
    return min(most, max(_UNPACKED_BYTES, _UNPACKED_TIMES * sent))
