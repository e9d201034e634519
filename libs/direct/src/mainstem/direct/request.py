"""A request as far as it was read."""

import re
from typing import Final

#: Headers of requests that are read step by step.
_STEPWISE: Final = {b"transfer-encoding", b"expect", b"upgrade"}
#: Headers that are between two neighbours.
_HOP: Final = {b"content-length", b"transfer-encoding", b"connection", b"expect"}
#: Where the path, or the query, of an address begins that has a host before it.
_HOST_ENDS: Final = re.compile(rb"[/?]")
#: Small parts of a body are put together up to so many bytes; a part of so many is left as it is.
_TOGETHER_BYTES: Final = 64 << 10
_ALONE_BYTES: Final = 8 << 10


class Request:
    """What was read of a request; `bytes` counts what came of it, and maybe of those beside it."""

    __slots__ = (
        "_parts",
        "asks",
        "began",
        "body_bytes",
        "bytes",
        "headed",
        "headers",
        "held",
        "left_out",
        "length",
        "silent",
        "trailer_bytes",
        "trailers",
        "url",
    )

    def __init__(self, began: float, size: int) -> None:
        self.began = began
        self.bytes = size
        #: Of what came later, the last, in which nothing came to its end: no name, no value, no line between chunks.
        self.silent = 0
        #: Of all, those that are counted among what all connections hold.
        self.held = 0
        #: Of the body, if it was announced.
        self.length = 0
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        #: Headers that came and are not among them.
        self.left_out = 0
        #: All headers are there; the fields that come behind the body are counted, and not kept.
        self.headed = False
        #: It is to be said that the body may come.
        self.asks = False
        self.trailers = self.trailer_bytes = 0
        self.body_bytes = 0
        self._parts: list[bytes | bytearray] = []

    @property
    def path(self) -> bytes:
        """Return the address without its query."""
        return self.url.partition(b"?")[0]

    @property
    def body(self) -> bytes:
        """Return the body as far as it came."""
        return bytes(self._parts[0]) if len(self._parts) == 1 else b"".join(self._parts)

    @property
    def left(self) -> int:
        """Return how many bytes of an announced body are to come."""
        return max(0, self.length - self.body_bytes)

    def add_url(self, part: bytes) -> None:
        """Take a part of the address."""
        self.silent = 0
        self.url += part

    def add_header(self, name: bytes, value: bytes) -> None:
        """Take a header. What stands behind a body is none: nobody expects it there, and it is not asked for."""
        self.silent = 0
        if not self.headed:
            self.headers.append((name.lower(), value))
        else:
            self.trailers += 1
            self.trailer_bytes += len(name) + len(value)

    def end_headers(self) -> None:
        """Take note of what all headers say of the body, and of the host if the address says it."""
        self.silent = 0
        self.headed = True
        if not self.url.startswith(b"/"):
            self._without_host()
        for name, value in self.headers:
            if name == b"content-length":
                self.length = int(value)
            elif name == b"expect":
                self.asks = value.lower() == b"100-continue"

    def add(self, part: bytes) -> None:
        """Take a part of the body.

        One in many small parts takes no more memory than one in a single part; and what came is not copied with each
        part that comes, as it is where a large array grows.
        """
        self.silent = 0
        self.body_bytes += len(part)
        last = self._parts[-1] if self._parts else None
        if isinstance(last, bytearray) and len(last) + len(part) <= _TOGETHER_BYTES:
            last += part
        else:
            self._parts.append(part if last is None or len(part) >= _ALONE_BYTES else bytearray(part))

    def said(self, name: bytes) -> list[bytes]:
        """Return what the headers of a name say."""
        return [value for each, value in self.headers if each == name]

    def begin_again(self, method: bytes, version: str) -> bytes:
        """Return the head to be read anew as it came, but without the wish to go on in another protocol.

        Such a wish may be passed over, RFC 9110 says, and the parser takes it for granted.
        """
        kept = [header for header in self.headers if header[0] != b"upgrade"]
        self.left_out = len(self.headers) - len(kept)
        lines = b"".join(b"%b: %b\r\n" % header for header in kept)
        head = b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version.encode(), lines)
        self.url, self.headers, self.headed, self.length, self.asks = b"", [], False, 0, False
        return head

    def come(self, size: int) -> None:
        """Count bytes that are going to be read."""
        self.bytes += size
        self.silent += size

    def header_bytes(self) -> int:
        """Return how long the request line, all headers and what is behind the body are."""
        return self.trailer_bytes + len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def has_head(self, head: bytes, method: bytes) -> bool:
        """Tell whether bytes are all that stood before the body: a line for the request and each header, none more."""
        lines = len(self.headers) + self.left_out + 2
        stepwise = any(name in _STEPWISE for name, _ in self.headers)
        return not stepwise and head.startswith(method + b" ") and head.count(b"\n") == head.count(b"\r\n") == lines

    def _without_host(self) -> None:
        """Have the address begin with its path; a host before that goes before the header, RFC 9112 says."""
        scheme, found, rest = self.url.partition(b"://")
        if found and scheme.isalnum():
            host = _HOST_ENDS.split(rest, 1)[0]
            path = rest[len(host) :]
            self.url = path if path.startswith(b"/") else b"/" + path
            meant = host.rpartition(b"@")[2]
            self.headers = [(name, meant if name == b"host" else value) for name, value in self.headers]

    def carried(self, method: bytes) -> bytes:
        """Return the request as another server is asked; it closes the connection behind its answer."""
        kept = [b"%b: %b\r\n" % header for header in self.headers if header[0] not in _HOP]
        about = b"connection: close\r\ncontent-length: %d\r\n\r\n" % self.body_bytes
        return b"".join((method, b" ", self.url, b" HTTP/1.1\r\n", *kept, about, *self._parts))
