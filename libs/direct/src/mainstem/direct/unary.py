"""What gRPC says on HTTP/2, of calls with one request and one answer: its headers, its messages, its status.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final, Generic, TypeVar
from urllib.parse import quote

from mainstem.direct.blocks import Fields, Malformed, check_request, encoded
from mainstem.direct.frames import HEAD, Flag, Kind
from mainstem.direct.limits import most_unpacked

Call = TypeVar("Call")
#: Takes a call that is whole.
Method = Callable[[Call], None]

_TYPE: Final = b"application/grpc"
#: Whether the message is packed, and its length.
PREFIX: Final = Struct(">BI")
_TIMEOUT: Final = re.compile(rb"(\d{1,8})([HMSmun])")
_UNITS_S: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
#: What `grpc-message` carries as it is.
_PLAIN: Final = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
#: Of why there is no answer: clients take no longer headers.
MESSAGE_CHARACTERS: Final = 1_024
#: How a message may be packed, as zlib has it by the bits of its window.
_ENCODINGS: Final = {b"identity": 0, b"deflate": 15, b"gzip": 31}
_ACCEPTED: Final = (b"grpc-accept-encoding", b", ".join(_ENCODINGS))

#: Our table has no room, which is said wherever an answer begins; `:status` 200 and the content type stand in the
#: table that everybody has.
_OPENING: Final = b"\x20\x88\x0f\x10" + bytes((len(_TYPE),)) + _TYPE
_OK: Final = encoded([(b"grpc-status", b"0")])


class Status(IntEnum):
    """How a call ended."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Refused(Exception):
    """A request that gets no answer, and its status."""

    def __init__(self, status: Status, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, slots=True)
class Head(Generic[Call]):
    """What a request says before its message."""

    fields: Mapping[bytes, bytes]
    #: Who takes the call, or the block of headers that refuses it.
    method: Method[Call] | None
    refusal: bytes | None
    timeout_s: float | None
    #: How its message may be packed, by zlib's bits of a window; 0 is not at all.
    packing: int
    #: Bytes of the body, if that is said.
    length: int | None


def read_head(fields: Fields, methods: Mapping[bytes, Method[Call]], unknown: str) -> Head[Call]:
    """Return what fields say; `unknown` is what a caller hears of a path that is none of the methods'.

    Raises Malformed for what is no request of HTTP/2.
    """
    found = check_request(fields)
    length, timeout = found.get(b"content-length"), found.get(b"grpc-timeout")
    if length is not None and not length.isdigit():
        raise Malformed("a content-length that is no number")
    method, encoding = methods.get(found.get(b":path", b"")), found.get(b"grpc-encoding", b"identity")
    known = _TIMEOUT.fullmatch(timeout) if timeout is not None else None
    refused = None
    if found[b":method"] != b"POST":
        refused = encoded([(b":status", b"405"), (b"allow", b"POST")])
    elif not re.fullmatch(rb"application/grpc([+;].*)?", found.get(b"content-type", b"")):
        refused = encoded([(b":status", b"415")])
    elif method is None:
        refused = refusal(Status.UNIMPLEMENTED, f"{found[b':path'].decode('latin-1')}: {unknown}")
    elif encoding not in _ENCODINGS:
        why = f"messages are taken as identity, deflate or gzip, not {encoding.decode('latin-1')}"
        refused = refusal(Status.UNIMPLEMENTED, why, _ACCEPTED)
    elif timeout is not None and known is None:
        refused = refusal(Status.INTERNAL, "grpc-timeout has up to eight digits and one of H, M, S, m, u, n")
    timeout_s = int(known[1]) * _UNITS_S[known[2]] if known else None
    packing, size = _ENCODINGS.get(encoding, 0), None if length is None else int(length)
    return Head(found, method, refused, timeout_s, packing, size)


def refusal(status: Status, why: str, *more: tuple[bytes, bytes]) -> bytes:
    """Return the block of headers that is a whole answer."""
    message = quote(why[:MESSAGE_CHARACTERS], safe=_PLAIN).encode()
    return _OPENING + encoded([(b"grpc-status", b"%d" % status), (b"grpc-message", message), *more])


def message(body: bytes | bytearray, *, packing: int, most_bytes: int) -> bytes:
    """Return the one message in a body. Raises Refused when there is none, several, or one that is too large."""
    if len(body) < PREFIX.size:
        raise Refused(Status.UNIMPLEMENTED if not body else Status.INTERNAL, "there is no whole message in the request")
    flag, size = PREFIX.unpack_from(body)
    if size > most_bytes:
        raise too_large(size, most_bytes)
    if len(body) != PREFIX.size + size:
        more = len(body) > PREFIX.size + size
        said = "there is more than one message in the request" if more else "the message is cut off"
        raise Refused(Status.UNIMPLEMENTED if more else Status.INTERNAL, said)
    content = bytes(memoryview(body)[PREFIX.size :])
    if not flag:
        return content
    if flag != 1 or not packing:
        raise Refused(Status.INTERNAL, "the message is packed in a way that grpc-encoding does not name")
    return _unpacked(content, packing, most_unpacked(len(content), most_bytes))


def too_large(size: int, most_bytes: int) -> Refused:
    """Return why a message is not taken."""
    return Refused(Status.RESOURCE_EXHAUSTED, f"a message of {size} bytes, at most {most_bytes}; send it in parts")


def _unpacked(content: bytes, packing: int, most_bytes: int) -> bytes:
    stream = zlib.decompressobj(packing)
    try:
        found = stream.decompress(content, most_bytes + 1)
    except zlib.error as fault:
        raise Refused(Status.INTERNAL, f"the message is not packed as it says: {fault}") from fault
    if len(found) > most_bytes:
        why = f"the message has more than {most_bytes} bytes when unpacked; send it as it is"
        raise Refused(Status.RESOURCE_EXHAUSTED, why)
    if not stream.eof:
        raise Refused(Status.INTERNAL, "the packed message is cut off")
    return found


_HEADERS: Final = (len(_OPENING) << 8 | Kind.HEADERS).to_bytes(4) + bytes((Flag.END_HEADERS,))
_TRAILERS: Final = (len(_OK) << 8 | Kind.HEADERS).to_bytes(4) + bytes((Flag.END_HEADERS | Flag.END_STREAM,))
#: The head of a frame of data and the prefix of a message, in one.
_DATA: Final = Struct(">IBIBI")


def opening(number: bytes) -> bytes:
    """Return the frame that an answer begins with, on a stream whose number is given as four bytes."""
    return b"%b%b%b" % (_HEADERS, number, _OPENING)


def ending(number: bytes) -> bytes:
    """Return the frame that ends an answer."""
    return b"%b%b%b" % (_TRAILERS, number, _OK)


def whole(number: int, content: bytes) -> bytes:
    """Return an answer with a message that fits a frame: headers, data, trailers."""
    name, size = number.to_bytes(4), len(content)
    data = _DATA.pack((size + PREFIX.size) << 8, 0, number, 0, size)
    return b"".join((_HEADERS, name, _OPENING, data, content, _TRAILERS, name, _OK))


def refusing(number: int, block: bytes) -> bytes:
    """Return an answer that is nothing but a block of headers."""
    return HEAD.pack(len(block) << 8 | Kind.HEADERS, Flag.END_HEADERS | Flag.END_STREAM, number) + block
