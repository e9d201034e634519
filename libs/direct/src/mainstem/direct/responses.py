"""Responses of HTTP/1.1 as bytes."""

from functools import lru_cache
from http import HTTPStatus
from typing import Final

Headers = tuple[tuple[bytes, bytes], ...]

#: Of a head.
END: Final = b"\r\n\r\n"
#: What a caller hears when nobody expected what was raised.
FAILED: Final = "the call failed for a reason that is the server's; its log says which"
#: Seconds after which what is refused for now (503) may be asked for again.
RETRY_S: Final = 1
_JSON: Final[Headers] = ((b"content-type", b"application/json"),)

_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


def rendered(status: int, headers: Headers, body: bytes, *, keep_alive: bool = True) -> bytes:
    """Return a response as bytes."""
    return b"%bcontent-length: %d\r\n\r\n%b" % (_head(status, headers, keep_alive), len(body), body)


def refused(status: int, why: str, *, keep_alive: bool = False) -> bytes:
    """Return a response that says why there is no other."""
    error = b'{"error":"%b"}' % why.replace("\\", "\\\\").replace('"', "'").encode()
    return rendered(status, _JSON, error, keep_alive=keep_alive)


def bare(response: bytes) -> bytes:
    """Return a response without its body, as HEAD asks for it."""
    return response[: response.index(END) + len(END)]


@lru_cache(maxsize=256)
def _head(status: int, headers: Headers, keep_alive: bool) -> bytes:
    more = ((b"retry-after", b"%d" % RETRY_S),) if status == HTTPStatus.SERVICE_UNAVAILABLE else ()
    lines = [b"%b: %b\r\n" % header for header in (*headers, *more)]
    return b"".join((_LINES[status], *lines, b"" if keep_alive else b"connection: close\r\n"))
